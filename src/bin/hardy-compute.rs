//! The part of Hardy that computes: parses, runs, and turns an error into a message and an exit code.

use std::io::Write;

use clap::Parser;
use hardy::cli::{Cli, explain};
use hardy::leave;

fn main() {
    let cli = Cli::parse();
    let code = match cli.start_logging().and_then(|_logging| cli.compute()) {
        Ok(()) => 0,
        Err(e) => {
            explain(&e);
            e.kind().exit_code()
        }
    };
    // Nobody is left to be told when the pipe is closed.
    let _ = std::io::stdout().flush();
    leave(code)
}
