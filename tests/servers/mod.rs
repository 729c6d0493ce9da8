//! Real servers for tests, each ended by its value.

pub mod proxy;
pub mod seaweedfs;
