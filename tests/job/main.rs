//! The whole job through the program that people run: real photos on disk, real processes, real kills.

#![allow(clippy::unwrap_used, missing_docs)]

mod determinism;
mod faults;
mod guard;
mod nightly;
mod outputs;
mod refusals;
mod scene;
