//! Being told to stop.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{Error, Kind, Result};

/// Pieces of work that want to end in order.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
/// A signal came while there were any.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Work that ends in order: while there is any, a first signal only makes [`check`] fail. Any other ends the process.
#[derive(Debug)]
pub(crate) struct Orderly(());

impl Orderly {
    /// From now until it is dropped.
    pub(crate) fn begin() -> Self {
        static LISTENER: Once = Once::new();
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        LISTENER.call_once(|| drop(std::thread::spawn(listen)));
        Self(())
    }
}

impl Drop for Orderly {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

fn listen() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    loop {
        runtime.block_on(interrupted());
        if UNDER_WAY.load(Ordering::SeqCst) == 0 || ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(Kind::Interrupted.exit_code()));
        }
    }
}

/// To be called between two steps of [`Orderly`] work.
///
/// # Errors
/// Of kind `Interrupted` once a signal came.
pub(crate) fn check() -> Result<()> {
    match ASKED.load(Ordering::SeqCst) {
        true => Err(Error::new(Kind::Interrupted, "interrupted")),
        false => Ok(()),
    }
}

/// Ctrl-C or SIGTERM.
pub(crate) async fn interrupted() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate => {}
    }
}
