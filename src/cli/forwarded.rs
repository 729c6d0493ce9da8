//! Commands that compute, as the small program sees them: it hands over all their arguments unread.

use std::ffi::OsString;

/// Whatever was typed after the command.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(super) struct Unread {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _arguments: Vec<OsString>,
}

pub(super) mod run {
    pub(in crate::cli) type RunArgs = super::Unread;
    pub(in crate::cli) type EvaluateArgs = super::Unread;
    pub(in crate::cli) type AugmentArgs = super::Unread;
}

pub(super) mod attack {
    pub(in crate::cli) type AttackArgs = super::Unread;
}

pub(super) mod nightly {
    pub(in crate::cli) type NightlyArgs = super::Unread;
}

pub(super) mod patch {
    pub(in crate::cli) type PatchArgs = super::Unread;
}

pub(super) mod predict {
    pub(in crate::cli) type PredictArgs = super::Unread;
}

pub(super) mod worker {
    pub(in crate::cli) type WorkerArgs = super::Unread;
}

pub(super) mod bench_gpu {
    pub(in crate::cli) type BenchArgs = super::Unread;
}
