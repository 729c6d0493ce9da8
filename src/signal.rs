//! Being told to stop.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::error::{Error, Kind, Result};

/// Pieces of work that want to end in order.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
/// A signal came while there were any.
static ASKED: AtomicBool = AtomicBool::new(false);
/// Tells of that.
static NEWS: Notify = Notify::const_new();

/// Work that ends in order: while there is any, a first signal only makes [`check`] fail. Any other ends the process.
#[derive(Debug)]
pub(crate) struct Orderly(());

impl Orderly {
    /// From now until it is dropped.
    pub(crate) fn begin() -> Self {
        static LISTENER: Once = Once::new();
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        LISTENER.call_once(listen);
        Self(())
    }

    /// Waits for a first signal. Only the listener hears it: were it heard here too, this work could be over before the
    /// listener has its turn, and the same signal would end the process without a word.
    #[cfg(feature = "compute")]
    pub(crate) async fn asked(&self) {
        let news = NEWS.notified();
        if !ASKED.load(Ordering::SeqCst) {
            news.await;
        }
    }
}

impl Drop for Orderly {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Signals are heard from the moment this returns, not from the one at which the thread gets its turn.
fn listen() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let signals = {
        let _inside = runtime.enter();
        Signals::new()
    };
    let Ok(mut signals) = signals else { return };
    std::thread::spawn(move || {
        loop {
            runtime.block_on(signals.next());
            if UNDER_WAY.load(Ordering::SeqCst) == 0 || ASKED.swap(true, Ordering::SeqCst) {
                leave(Kind::Interrupted.exit_code());
            }
            NEWS.notify_waiters();
        }
    });
}

/// Ends the process at once. A thread may still be computing for a task that was given up; libtorch's destructors must
/// not run beside it. Nothing is flushed: another thread may hold stdout.
pub fn leave(code: u8) -> ! {
    // SAFETY: _exit has no preconditions.
    #[cfg(feature = "compute")]
    #[allow(unsafe_code)]
    unsafe {
        libc::_exit(code.into())
    }
    #[cfg(not(feature = "compute"))]
    std::process::exit(code.into())
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
    match Signals::new() {
        Ok(mut signals) => signals.next().await,
        Err(_) => std::future::pending().await,
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens from now on.
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
