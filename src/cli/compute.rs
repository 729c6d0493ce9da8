//! From the small program to the one that is linked with libtorch.
//!
//! Commands for a cluster start in milliseconds and fit a small image because `hardy` itself holds
//! nothing of libtorch. What computes lives in a second program beside it.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::error::{Context, Error, Kind, Result};

/// The program that people call.
pub(super) const CLIENT: &str = "hardy";

/// The program that computes.
const COMPUTE: &str = "hardy-compute";

/// Where the program that computes lies.
pub(super) fn beside() -> Result<PathBuf> {
    let here = std::env::current_exe().context(Kind::Internal, || "the folder of this program is unknown".into())?;
    Ok(here.with_file_name(COMPUTE))
}

/// Whether it is there.
pub(super) fn is_here() -> bool {
    beside().is_ok_and(|program| program.is_file())
}

/// Becomes the program that computes, with the same arguments; returns only when that fails.
pub(super) fn hand_over() -> Error {
    let program = match beside() {
        Ok(program) => program,
        Err(e) => return e,
    };
    let why = Command::new(&program).args(std::env::args_os().skip(1)).exec();
    Error::usage(format!(
        "{} cannot be started: this command computes and needs it beside {CLIENT}; it is part of the worker's image",
        program.display()
    ))
    .because(why)
}
