//! Networks and their weights.

pub mod architecture;
mod brought;
pub mod checkpoint;
mod class;
#[cfg(feature = "compute")]
mod classifier;
#[cfg(feature = "compute")]
mod device;
mod fold;
#[cfg(feature = "compute")]
pub mod images;
pub mod import;
mod lite0;
#[cfg(feature = "compute")]
mod network;
mod number;
mod pickle;
#[cfg(feature = "compute")]
pub mod predict;
mod resnet;
mod safetensors_file;
mod saved;
#[cfg(feature = "compute")]
mod script;
mod small;
mod spec;
mod torch_file;
pub mod weights;

pub use brought::{Brought, Described, ScriptHints, ScriptSpec, bring};
pub use class::{class_of_folder, find_class};
#[cfg(feature = "compute")]
pub use classifier::Classifier;
#[cfg(feature = "compute")]
pub use device::{check_device, device, instruction_set, libtorch_version};
pub use fold::{export, fold, fresh, new_head};
#[cfg(feature = "compute")]
pub use network::{Leaf, Network};
pub(crate) use saved::imagenet_classes;
pub use saved::{SPEC_FILE, WEIGHTS_FILE, files, load_model, save_model, write_whole};
#[cfg(feature = "compute")]
pub(crate) use script::{caught, no_gradient};
pub use spec::ModelSpec;
pub use weights::Weights;

#[cfg(all(test, feature = "compute"))]
#[allow(clippy::unwrap_used)]
mod tests;
