//! The commands. Nothing of the domain.
pub mod report;
