//! The part of Hardy that computes: parses, runs, and turns an error into a message and an exit code.

use std::process::ExitCode;

use clap::Parser;
use hardy::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.start_logging();
    match cli.compute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("hardy: {}", e.chain());
            ExitCode::from(e.kind().exit_code())
        }
    }
}
