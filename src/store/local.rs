//! x
use super::*;
/// x
#[derive(Debug)]
pub struct LocalStore;
