//! hardy
fn main() {}
