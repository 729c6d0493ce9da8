//! The report of a made-up run: its JSON against the schema, its page in a browser.
#![allow(clippy::unwrap_used)]

mod browser;
#[path = "../chromium/mod.rs"]
mod chromium;
mod content;
mod demo;
mod schema;
