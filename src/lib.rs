//! Hardy makes image classifiers robust: a distributed batch job that attacks a data set, trains on
//! the attacks and proves what the model withstands.
//!
//! - [`cli`]: the commands. Nothing of the domain.
//! - [`config`]: layers of settings, checked once.
//! - [`coordinator`]: the job as a program of stages; its log, its recovery.
//! - [`jobs`]: the jobs of a cluster as they lie on the store.
//! - [`registry`]: the versions of each model, which one is current, and how it came to be.
//! - [`gate`]: whether a retrained model may take the place of the current one.
//! - [`webhook`]: tells somebody how a night ended.
//! - [`gc`]: what can be removed from a store.
//! - [`embedded`]: coordinator and workers in one process.
//! - [`worker`]: receives a task, fetches, computes, stores, reports, acknowledges.
//! - [`task`]: the messages between the two.
//! - [`queue`] and [`store`]: the two seams to the outside, both in bytes.
//! - [`dataset`]: photos, shards, random views, synthetic flowers.
//! - [`model`]: networks and their weights.
//! - [`attack`]: adversarial images, pure tensor to tensor.
//! - [`lab`]: single photos broken on purpose, as files.
//! - [`train`]: the adversarial training loop.
//! - [`evaluate`]: outcomes per image and their exact merge.
//! - [`report`]: `report.json`, the page, the model card.
//! - [`seed`]: where random numbers come from.
//! - [`health`]: whether a process is alive and able to work.
//! - [`metrics`]: figures for Prometheus.
//! - [`trace`]: what belongs to one job, for an OTLP collector.
//! - [`http`]: health, figures and the coordinator's page for browsers.
//! - [`error`]: kinds of failure and exit codes.

pub mod attack;
pub mod cli;
pub mod config;
pub mod coordinator;
pub mod dataset;
#[cfg(feature = "compute")]
pub mod embedded;
pub mod error;
pub mod evaluate;
#[cfg(test)]
mod faulty;
pub mod gate;
pub mod gc;
pub mod health;
pub mod http;
pub mod jobs;
pub mod lab;
pub mod metrics;
pub mod model;
pub mod outcome;
pub mod queue;
pub mod registry;
pub mod report;
pub mod seed;
mod signal;
pub mod store;
pub mod task;
pub mod trace;
pub mod train;
pub mod webhook;
#[cfg(feature = "compute")]
pub mod worker;

pub use signal::leave;

/// libtorch takes and frees tensors of megabytes at every step. glibc hands such memory back to the kernel each time, to be
/// cleared again, or keeps holes of every size; jemalloc serves libtorch too, since it takes malloc's name.
#[cfg(feature = "compute")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Real servers for the tests that need one; the tests of the program share them.
#[cfg(test)]
#[path = "../tests/servers/mod.rs"]
mod servers;
