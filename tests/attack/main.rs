//! `hardy attack` from end to end, on a small TorchScript network that tests/python/script_fixture.py made.
#![allow(clippy::unwrap_used)]

mod folder;
mod photo;
mod refusals;
mod scene;
mod script;
