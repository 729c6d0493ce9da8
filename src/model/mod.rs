//! Networks and their weights.
mod network;
mod spec;
pub mod weights;
pub use network::{Leaf, Network};
pub use spec::ModelSpec;
pub use weights::Weights;
