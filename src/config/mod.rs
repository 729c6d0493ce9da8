//! Settings: `configs/default.toml`, then a file, the environment and flags, checked once.

mod epsilon;
mod layers;
mod ranges;
mod reference;
mod secret;
mod settings;
mod stored;

pub use epsilon::Epsilon;
pub use layers::{DEFAULT, Layers, Resolved};
pub use reference::reference;
pub use secret::Secret;
pub use settings::*;
pub use stored::stored;
