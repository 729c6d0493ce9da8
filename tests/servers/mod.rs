//! Real servers for the tests: each on free ports, in a temporary folder, gone when dropped.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used)]

pub mod rabbitmq;
