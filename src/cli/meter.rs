//! Progress of what is no job: reading, drawing, downloading, seeking.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::dataset::folder;
use crate::error::Result;

/// A log hears of progress this often.
const REMINDER: Duration = Duration::from_secs(10);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    /// By this name.
    Things(&'static str),
}

pub(super) const PHOTOS: Unit = Unit::Things("photos");

impl Unit {
    fn amount(self, n: u64) -> String {
        match self {
            Self::Bytes => HumanBytes(n).to_string(),
            Self::Things(name) => format!("{n} {name}"),
        }
    }
}

/// Progress on stderr: a bar with rate and ETA on a terminal, a line now and then in a log.
pub(super) struct Meter {
    what: &'static str,
    unit: Unit,
    bar: Option<ProgressBar>,
    spoke: Cell<Instant>,
    remark: RefCell<String>,
    quiet: bool,
}

impl Meter {
    pub(super) fn new(what: &'static str, unit: Unit, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
            let style = match unit {
                Unit::Bytes => "{prefix:9} {bar:24} {bytes}/{total_bytes}  {bytes_per_sec}  (ETA {eta})  {msg}",
                Unit::Things(_) => "{prefix:9} {bar:24} {pos}/{len}  {per_sec}  (ETA {eta})  {msg}",
            };
            bar.with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()))
                .with_prefix(what)
        });
        Self { what, unit, bar, spoke: Cell::new(Instant::now()), remark: RefCell::default(), quiet }
    }

    /// Tells how many photos were taken out of an archive, a list or a folder.
    pub(super) fn importing(quiet: bool) -> impl FnMut(u64) {
        let meter = Self::new("import", PHOTOS, quiet);
        move |done| meter.show(done, None)
    }

    /// Says this beside the figures from now on.
    #[cfg(feature = "compute")]
    pub(super) fn remark(&self, words: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(words.clone());
        }
        self.remark.replace(words);
    }

    /// Shows that `done` of `total` are done.
    pub(super) fn show(&self, done: u64, total: Option<u64>) {
        if let Some(bar) = &self.bar {
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(done);
            return;
        }
        if !self.quiet && self.spoke.get().elapsed() > REMINDER {
            self.spoke.set(Instant::now());
            let total = total.map(|n| format!(" of {}", self.unit.amount(n))).unwrap_or_default();
            let remark = self.remark.borrow();
            let comma = if remark.is_empty() { "" } else { ", " };
            eprintln!("{}: {}{total}{comma}{remark}", self.what, self.unit.amount(done));
        }
    }
}

/// What tells these photos from others; there may be hundreds of gigabytes to read.
pub(super) fn digest(photos: &Path, quiet: bool) -> Result<String> {
    let meter = Meter::new("read", PHOTOS, quiet);
    folder::digest(photos, |done, all| meter.show(done as u64, Some(all as u64)))
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
