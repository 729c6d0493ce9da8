//! What a cluster tells over HTTP while it works: a real broker, a real S3 server, real processes, a real
//! browser, and the parser of Prometheus.

#![allow(clippy::unwrap_used, missing_docs)]

mod browser;
#[path = "../chromium/mod.rs"]
mod chromium;
mod cluster;
mod http;
#[path = "../python/mod.rs"]
mod python;
#[path = "../cluster/scene.rs"]
#[allow(dead_code)]
mod scene;
#[path = "../servers/mod.rs"]
mod servers;
#[path = "../job/scene.rs"]
#[allow(dead_code)]
mod small;
