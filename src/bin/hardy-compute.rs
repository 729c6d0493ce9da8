//! The part of Hardy that computes: parses, runs, and turns an error into a message and an exit code.

use std::io::Write;

use clap::Parser;
use hardy::cli::{Cli, explain};

fn main() {
    let cli = Cli::parse();
    let code = match cli.start_logging().and_then(|_logging| cli.compute()) {
        Ok(()) => 0,
        Err(e) => {
            explain(&e);
            e.kind().exit_code()
        }
    };
    leave(code)
}

/// Ends the process at once. A thread may still be computing for a task that was given up; libtorch's
/// destructors must not run beside it.
fn leave(code: u8) -> ! {
    // Nobody is left to be told when the pipe is closed.
    let _ = std::io::stdout().flush();
    // SAFETY: _exit has no preconditions.
    #[allow(unsafe_code)]
    unsafe {
        libc::_exit(code.into())
    }
}
