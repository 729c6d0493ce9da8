//! The job as people run it on a cluster: a real broker, a real S3 server, real processes, real kills.

#![allow(clippy::unwrap_used, missing_docs)]

mod chaos;
mod commands;
mod faults;
mod nightly;
mod scene;
mod secrets;
#[path = "../servers/mod.rs"]
mod servers;
#[path = "../job/scene.rs"]
#[allow(dead_code)]
mod small;
