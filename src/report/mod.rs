//! What a run tells people: `report.json`, `report.html`, the model card.
mod record;
pub use record::*;
