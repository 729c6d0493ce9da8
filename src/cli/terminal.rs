//! Progress for people: a bar on a terminal, plain lines in a log.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::coordinator::Progress;
use crate::report::RoundRecord;

/// A stage of a log is mentioned again after this long.
const REMINDER: Duration = Duration::from_secs(30);

/// What a person sees of a job.
pub(super) struct Screen {
    bar: ProgressBar,
    terminal: bool,
    stage: String,
    tasks: usize,
    done: usize,
    /// Those done before this began to watch.
    known: usize,
    images: u64,
    began: Instant,
    spoke: Instant,
    /// The pace in the words of somebody who knows more of it.
    told: Option<String>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let now = Instant::now();
        let (stage, tasks, done, known, images) = (String::new(), 0, 0, 0, 0);
        Self { bar, terminal, stage, tasks, done, known, images, began: now, spoke: now, told: None }
    }

    /// Has the pace shown in these words from now on.
    pub(super) fn pace(&mut self, words: String) {
        self.told = Some(words);
    }

    pub(super) fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Stage { name, tasks, done } => {
                (self.stage, self.tasks, self.images) = (name.clone(), *tasks, 0);
                (self.done, self.known) = (*done, *done);
                (self.began, self.spoke) = (Instant::now(), Instant::now());
                if self.terminal {
                    self.bar = ProgressBar::new(*tasks as u64).with_position(*done as u64);
                    let style = "{prefix:32!} {bar:24} {pos}/{len} tasks  {elapsed}  {msg}";
                    if let Ok(style) = ProgressStyle::with_template(style) {
                        self.bar.set_style(style);
                    }
                    self.bar.set_prefix(name.clone());
                    self.bar.enable_steady_tick(Duration::from_millis(250));
                }
            }
            Progress::Images(count) => {
                self.images += count;
                self.remark();
            }
            Progress::TaskDone => {
                self.done += 1;
                self.bar.set_position(self.done as u64);
                self.remark();
            }
            Progress::StageDone { name } => {
                self.bar.finish_and_clear();
                let known = if self.images == 0 && self.tasks > 0 && self.began.elapsed().as_millis() < 50 {
                    ", known"
                } else {
                    ""
                };
                // Rounds speak for themselves once they are measured.
                if known.is_empty() && !name.contains(':') {
                    self.say(&format!(
                        "{name}: {} {}, {:.1} s{}",
                        self.tasks,
                        if self.tasks == 1 { "task" } else { "tasks" },
                        self.began.elapsed().as_secs_f64(),
                        self.after()
                    ));
                }
            }
            Progress::Round(record) => self.say(&line(record)),
            // The log says it already.
            Progress::Failure { .. }
            | Progress::Declined { .. }
            | Progress::LeftOut(_)
            | Progress::Heard(_)
            | Progress::Pictures { .. } => {}
            Progress::Night(ended) => self.say(&ended.line()),
            Progress::Guard(event) => self.say(&format!("guard, round {}: {}", event.round + 1, event.what)),
        }
    }

    fn rate(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        format!("{} images, {:.1}/s", self.images, self.images as f64 / seconds)
    }

    /// Says how the stage goes: beside the bar, or in a line now and then.
    fn remark(&mut self) {
        let how = self.told.clone().unwrap_or_else(|| self.rate() + &self.left());
        if !self.terminal && self.spoke.elapsed() > REMINDER {
            self.spoke = Instant::now();
            eprintln!("  {}: {}/{} tasks, {how}", self.stage, self.done, self.tasks);
        }
        self.bar.set_message(how);
    }

    /// How long the stage will go on, once that can be said.
    fn left(&self) -> String {
        match self.done - self.known {
            0 => String::new(),
            done => {
                let open = self.tasks.saturating_sub(self.done);
                left(self.began.elapsed().as_secs_f64() * open as f64 / done as f64)
            }
        }
    }

    fn after(&self) -> String {
        if self.images > 0 { format!(", {}", self.rate()) } else { String::new() }
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }
}

/// What is said of the time that remains.
pub(super) fn left(seconds: f64) -> String {
    format!(", about {seconds:.0} s left")
}

/// A round in one line.
fn line(r: &RoundRecord) -> String {
    let held = |name: &str, count: crate::outcome::Count| match count.n {
        0 => String::new(),
        n => format!("  {name} {:.1} % of {n}", 100.0 * count.accuracy()),
    };
    format!(
        "{} {:>3}: loss {:.3}  train {:.1} %{}{}{}{}",
        r.phase,
        r.round + 1,
        r.loss,
        100.0 * r.train_accuracy,
        held("held clean", r.held_clean),
        held("FGSM", r.held_fgsm),
        held("PGD", r.held_pgd),
        if r.best { "  *" } else { "" },
    )
}
