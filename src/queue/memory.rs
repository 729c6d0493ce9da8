//! x
/// x
#[derive(Debug)]
pub struct MemoryQueue;
