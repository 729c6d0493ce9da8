//! How a running job goes, gathered from its progress and written to the store for whoever asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use super::progress::{Observer, Progress};
use crate::jobs::{Jobs, Pictures, StageStatus, State, Status};
use crate::task::WorkerId;

/// How often a changed status is written.
const INTERVAL: Duration = Duration::from_secs(1);

/// A worker that was not heard of for so long does not count as alive.
const ALIVE: Duration = Duration::from_secs(10);

/// Finished stages that a status lists.
const STAGES: usize = 24;

/// Tasks that were left out that a status names.
const LEFT_OUT: usize = 20;

/// Sets of pictures that a status names: the newest may be removed before anybody has looked at it.
const PICTURES: usize = 4;

/// The status of one job. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Board(Arc<Mutex<Notes>>);

#[derive(Debug)]
struct Notes {
    status: Status,
    stage_began: Instant,
    stage_done_before: usize,
    heard: BTreeMap<WorkerId, Instant>,
    changed: bool,
}

impl Board {
    /// The status of a job that `coordinator` has taken up.
    pub(super) fn new(mut status: Status, coordinator: &str) -> Self {
        status.state = State::Running;
        status.coordinator = coordinator.to_string();
        let (heard, stage_began) = (BTreeMap::new(), Instant::now());
        Self(Arc::new(Mutex::new(Notes { status, stage_began, stage_done_before: 0, heard, changed: true })))
    }

    /// Takes everything down that happens.
    pub(super) fn observer(&self) -> Observer {
        let board = self.clone();
        Observer::new(move |progress| board.lock().take_in(progress))
    }

    /// Writes what has changed, for ever. A store that cannot be reached is tried again.
    pub(super) async fn keep_written(&self, jobs: &Jobs) {
        loop {
            let changed = std::mem::take(&mut self.lock().changed);
            if changed && let Err(e) = jobs.tell(&self.now()).await {
                self.lock().changed = true;
                warn!("the status of a job was not written: {}", e.chain());
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// The status at this moment.
    pub(super) fn now(&self) -> Status {
        let notes = self.lock();
        let mut status = notes.status.clone();
        status.updated = super::spec::now();
        let alive = notes.heard.iter().filter(|(_, at)| at.elapsed() < ALIVE);
        status.workers = alive.map(|(worker, _)| worker.clone()).collect();
        if let Some(stage) = &mut status.stage {
            stage.seconds = notes.stage_began.elapsed().as_secs_f64();
            status.images_per_second = stage.images as f64 / stage.seconds.max(0.001);
            let done = stage.done - notes.stage_done_before.min(stage.done);
            let left = stage.tasks - stage.done;
            status.stage_seconds_left = (done > 0).then(|| stage.seconds * left as f64 / done as f64);
        }
        status
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn take_in(&mut self, progress: &Progress) {
        self.changed = true;
        let status = &mut self.status;
        match progress {
            Progress::Stage { name, tasks, done } => {
                self.stage_began = Instant::now();
                self.stage_done_before = *done;
                let (name, seconds) = (name.clone(), 0.0);
                status.stage = Some(StageStatus { name, done: *done, tasks: *tasks, images: 0, seconds });
            }
            Progress::TaskDone => {
                if let Some(stage) = &mut status.stage {
                    stage.done += 1;
                }
            }
            Progress::Images(count) => {
                if let Some(stage) = &mut status.stage {
                    stage.images += count;
                }
            }
            Progress::StageDone { .. } => {
                status.stages_done += 1;
                if let Some(stage) = &status.stage {
                    let seconds = self.stage_began.elapsed().as_secs_f64();
                    keep(&mut status.stages, StageStatus { seconds, ..stage.clone() }, STAGES);
                }
            }
            Progress::Pictures { task, blob } => {
                keep(&mut status.pictures, Pictures { task: task.clone(), blob: blob.clone() }, PICTURES);
            }
            Progress::Heard(worker) => {
                self.heard.insert(worker.clone(), Instant::now());
            }
            Progress::Failure { task, error } => {
                status.failures += 1;
                status.last_failure = Some(format!("{task}: {error}"));
            }
            Progress::Declined { worker, error } => {
                status.declined += 1;
                status.last_declined = Some(format!("{worker}: {error}"));
            }
            Progress::LeftOut(lost) if status.left_out.contains(lost) => {}
            Progress::LeftOut(lost) => keep(&mut status.left_out, lost.clone(), LEFT_OUT),
            // A night that goes on once more passes through its rounds again.
            Progress::Round(record) => {
                let place = status.rounds.iter().position(|r| r.phase == record.phase && r.round == record.round);
                match place {
                    Some(place) => status.rounds[place] = (**record).clone(),
                    None => status.rounds.push((**record).clone()),
                }
            }
            Progress::Guard(event) if status.guard.contains(event) => {}
            Progress::Guard(event) => status.guard.push(event.clone()),
            Progress::Night(ended) => status.night = Some((**ended).clone()),
        }
    }
}

/// Appends to a list of at most `most`, whose first give way.
fn keep<T>(list: &mut Vec<T>, new: T, most: usize) {
    if list.len() >= most {
        list.drain(..=list.len() - most);
    }
    list.push(new);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::report::{GuardEvent, LeftOut, RoundRecord};

    fn round(round: u32, loss: f64) -> Progress {
        Progress::Round(Box::new(RoundRecord { loss, ..RoundRecord::for_tests(round) }))
    }

    #[test]
    fn what_is_told_again_stands_there_once() {
        let board = Board::new(Status::waiting(&"j".parse().unwrap(), ""), "c");
        let tell = board.observer();
        let guard = |round| Progress::Guard(GuardEvent { round, what: "back".into() });
        let lost = |task: &str| Progress::LeftOut(LeftOut { task: task.into(), why: "failed".into() });
        // The night fails in its third round, and goes on once more.
        for told in [round(0, 3.0), round(1, 2.0), guard(1), lost("a"), round(0, 3.0), round(1, 1.5), guard(1)] {
            tell(&told);
        }
        for told in [lost("a"), lost("b"), round(2, 1.0), guard(2)] {
            tell(&told);
        }
        let status = board.now();
        let rounds: Vec<_> = status.rounds.iter().map(|r| (r.round, r.loss)).collect();
        assert_eq!(rounds, [(0, 3.0), (1, 1.5), (2, 1.0)]);
        assert_eq!(status.guard.iter().map(|e| e.round).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(status.left_out.iter().map(|l| l.task.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        (0..100).for_each(|number| tell(&lost(&number.to_string())));
        assert_eq!((board.now().left_out.len(), board.now().left_out[0].task.as_str()), (LEFT_OUT, "80"));
    }
}
