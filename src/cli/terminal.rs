//! Progress for people: a bar on a terminal, plain lines in a log; for programs, JSON lines.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::coordinator::{Observer, Progress};
use crate::report::RoundRecord;

/// A stage of a log is mentioned again after this long.
const REMINDER: Duration = Duration::from_secs(30);

/// Who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    Nobody,
    Person,
    #[cfg_attr(not(feature = "compute"), expect(dead_code, reason = "jobs of a cluster print their whole status"))]
    Program,
}

/// Tells `audience` what a job does, on stderr.
pub(super) fn observer(audience: Audience) -> Observer {
    match audience {
        Audience::Nobody => Observer::new(|_| {}),
        Audience::Program => Observer::new(|progress| {
            if let Some(line) = as_json(progress) {
                eprintln!("{line}");
            }
        }),
        Audience::Person => {
            let screen = Mutex::new(Screen::new());
            Observer::new(move |progress| {
                screen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).show(progress);
            })
        }
    }
}

struct Screen {
    bar: ProgressBar,
    terminal: bool,
    stage: String,
    tasks: usize,
    done: usize,
    images: u64,
    began: Instant,
    spoke: Instant,
}

impl Screen {
    fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let now = Instant::now();
        Self { bar, terminal, stage: String::new(), tasks: 0, done: 0, images: 0, began: now, spoke: now }
    }

    fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Stage { name, tasks, done } => {
                (self.stage, self.tasks, self.done, self.images) = (name.clone(), *tasks, *done, 0);
                (self.began, self.spoke) = (Instant::now(), Instant::now());
                if self.terminal {
                    self.bar = ProgressBar::new(*tasks as u64).with_position(*done as u64);
                    let style = "{prefix:32!} {bar:24} {pos}/{len} tasks  {msg}  {elapsed} (ETA {eta})";
                    if let Ok(style) = ProgressStyle::with_template(style) {
                        self.bar.set_style(style);
                    }
                    self.bar.set_prefix(name.clone());
                    self.bar.enable_steady_tick(Duration::from_millis(250));
                }
            }
            Progress::Images(count) => {
                self.images += count;
                self.bar.set_message(self.rate());
                if !self.terminal && self.spoke.elapsed() > REMINDER {
                    self.spoke = Instant::now();
                    eprintln!("  {}: {}/{} tasks, {}", self.stage, self.done, self.tasks, self.rate());
                }
            }
            Progress::TaskDone => {
                self.done += 1;
                self.bar.set_position(self.done as u64);
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
            Progress::Failure { .. } | Progress::LeftOut(_) | Progress::Heard(_) | Progress::Pictures { .. } => {}
            Progress::Night(ended) => self.say(&ended.line()),
            Progress::Guard(event) => self.say(&format!("guard, round {}: {}", event.round + 1, event.what)),
        }
    }

    fn rate(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        format!("{} images, {:.1}/s", self.images, self.images as f64 / seconds)
    }

    fn after(&self) -> String {
        if self.images > 0 { format!(", {}", self.rate()) } else { String::new() }
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }
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

fn as_json(progress: &Progress) -> Option<serde_json::Value> {
    Some(match progress {
        Progress::Stage { name, tasks, done } => {
            json!({ "event": "stage", "name": name, "tasks": tasks, "done": done })
        }
        Progress::StageDone { name } => json!({ "event": "stage_done", "name": name }),
        Progress::Round(record) => json!({ "event": "round", "round": record }),
        Progress::Night(ended) => json!({ "event": "night", "night": ended }),
        Progress::Guard(event) => json!({ "event": "guard", "guard": event }),
        Progress::TaskDone => json!({ "event": "task_done" }),
        Progress::Failure { task, error } => json!({ "event": "failure", "task": task, "error": error }),
        Progress::LeftOut(lost) => json!({ "event": "left_out", "task": lost.task, "why": lost.why }),
        Progress::Images(_) | Progress::Heard(_) | Progress::Pictures { .. } => return None,
    })
}

/// A bar for `count` things, hidden where there is no terminal.
pub(super) fn bar(count: u64, what: &'static str, quiet: bool) -> ProgressBar {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(count) };
    let style = ProgressStyle::with_template("{msg:16} {bar:24} {pos}/{len}  {per_sec}  (ETA {eta})");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(what)
}
