//! `hardy completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use crate::error::Result;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hardy completions bash > /etc/bash_completion.d/hardy")]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(args: CompletionsArgs) -> Result<()> {
    clap_complete::generate(args.shell, &mut Cli::command(), "hardy", &mut std::io::stdout());
    Ok(())
}
