//! Parses, runs, and turns an error into a message and an exit code.

use std::process::ExitCode;

use clap::Parser;
use hardy::cli::{Cli, explain};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.start_logging().and_then(|_logging| cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            explain(&e);
            ExitCode::from(e.kind().exit_code())
        }
    }
}
