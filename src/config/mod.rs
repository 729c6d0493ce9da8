//! Settings.
mod epsilon;
mod settings;
pub use epsilon::Epsilon;
pub use settings::*;
