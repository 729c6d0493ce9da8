//! Networks and their weights.

pub mod architecture;
pub mod checkpoint;
mod device;
mod fold;
pub mod images;
pub mod import;
mod lite0;
mod network;
mod number;
mod pickle;
pub mod predict;
mod resnet;
mod safetensors_file;
mod saved;
mod small;
mod spec;
mod torch_file;
pub mod weights;

pub use device::{device, instruction_set, libtorch_version};
pub use fold::{export, fold, fresh, new_head};
pub use network::{Leaf, Network};
pub use saved::{SPEC_FILE, WEIGHTS_FILE, files, load_model, save_model, write_whole};
pub use spec::ModelSpec;
pub use weights::Weights;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
