//! Who is told how a job of this process goes: a person, a program, or nobody.

use std::sync::{Mutex, PoisonError};

use serde_json::json;

use super::terminal::Screen;
use crate::coordinator::{Observer, Progress};

/// Who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    Nobody,
    Person,
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
                screen.lock().unwrap_or_else(PoisonError::into_inner).show(progress);
            })
        }
    }
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
        Progress::Declined { worker, error } => json!({ "event": "declined", "worker": worker, "error": error }),
        Progress::Images(_) | Progress::Heard(_) | Progress::Pictures { .. } => return None,
    })
}
