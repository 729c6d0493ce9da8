//! A phase of training: rounds of augment, train, merge and guard.

mod guard;
mod outputs;
mod round;

use super::progress::Progress;
use super::stage::Job;
use crate::error::{Error, Result};
use crate::report::{GuardEvent, RoundRecord};
use crate::store::Blob;

pub(super) use outputs::{merged_outcomes, output};

use guard::Adversarial;

/// The shards a phase works on.
#[derive(Debug, Clone)]
pub struct Shards {
    /// Training shards; their number is a multiple of the number of replicas.
    pub train: Vec<Blob>,
    /// Images in all training shards.
    pub train_images: u64,
    /// The held slice.
    pub held: Vec<Blob>,
    /// See [`TrainWork::repeats`](crate::task::TrainWork::repeats).
    pub repeats: Vec<f64>,
}

/// What a phase is to do.
#[derive(Debug, Clone)]
pub struct Phase {
    /// `baseline` or `train`.
    pub name: &'static str,
    /// Rounds.
    pub rounds: u32,
    /// Peak learning rate.
    pub rate: f64,
    /// Whether it defends; the baseline does not.
    pub adversarial: bool,
    /// The model that adversarial images are made from with freshness `once`.
    pub origin: Blob,
}

/// What a phase brought.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The weights that were kept.
    pub checkpoint: Blob,
    /// Every round that was run.
    pub rounds: Vec<RoundRecord>,
    /// What the guard and early stopping did.
    pub events: Vec<GuardEvent>,
}

/// Everything that goes from one round to the next.
#[derive(Debug, Clone)]
struct State {
    checkpoint: Blob,
    optimizer: Option<Blob>,
    outer: Option<Blob>,
}

impl State {
    fn new(checkpoint: &Blob) -> Self {
        Self { checkpoint: checkpoint.clone(), optimizer: None, outer: None }
    }

    fn blobs(&self) -> impl Iterator<Item = Blob> {
        [Some(&self.checkpoint), self.optimizer.as_ref(), self.outer.as_ref()].into_iter().flatten().cloned()
    }
}

impl Phase {
    /// Runs all rounds, starting from the weights `start`.
    pub async fn run(&self, job: &mut Job, shards: &Shards, start: &Blob) -> Result<Trained> {
        let settings = job.spec.settings.clone();
        let mut state = State::new(start);
        let mut best: Option<(f64, u32, State)> = None;
        let mut best_pgd = 0.0_f64;
        let (mut rounds, mut events) = (Vec::<RoundRecord>::new(), Vec::<GuardEvent>::new());
        let mut adversary = Adversarial { method: settings.adversary.method, step: settings.adversary.step };
        let (mut rollbacks, mut round) = (0, 0);
        // Where the rounds since the last roll-back begin.
        let mut since = 0;
        let mut stored: Vec<Blob> = Vec::new();
        while round < self.rounds {
            let (next, mut record) = self.round(job, shards, &state, round, rollbacks, adversary).await?;
            stored.extend(next.blobs());
            if let Some(what) = self.collapse(&settings, adversary.method, &rounds[since..], &record, best_pgd) {
                rollbacks += 1;
                if rollbacks > settings.guard.rollbacks {
                    return Err(Error::job(format!(
                        "round {}: {what}; the guard has rolled back {} times already (guard.rollbacks)",
                        round + 1,
                        settings.guard.rollbacks
                    )));
                }
                let remedy = adversary.soften(&settings, rollbacks);
                let back = match &best {
                    Some((_, good, kept)) => {
                        state = kept.clone();
                        format!("back to the weights after round {}", good + 1)
                    }
                    None => {
                        state = State::new(start);
                        "back to the weights before the first round".to_string()
                    }
                };
                let event = GuardEvent { round, what: format!("{what}; {back}, {remedy}") };
                job.tell(Progress::Guard(event.clone()));
                events.push(event);
                rounds.push(record);
                since = rounds.len();
                // The same round again: what was lost is done over, so that the schedule ends where it should.
                continue;
            }
            if guard::counts(&settings, &record) {
                best_pgd = best_pgd.max(record.held_pgd.accuracy());
            }
            let (score, error) = self.score(&record);
            let top = best.as_ref().map_or(score, |b| b.0.max(score));
            if score + error >= top {
                for earlier in &mut rounds {
                    earlier.best = false;
                }
                record.best = true;
                best = Some((top, round, next.clone()));
            }
            job.tell(Progress::Round(Box::new(record.clone())));
            rounds.push(record);
            state = next;
            let kept = best.as_ref().map_or(0, |b| b.1);
            if settings.train.patience > 0 && round - kept >= settings.train.patience {
                let what = format!("stopped early: nothing better on the held slice since round {}", kept + 1);
                let event = GuardEvent { round, what };
                job.tell(Progress::Guard(event.clone()));
                events.push(event);
                break;
            }
            round += 1;
            let needed: Vec<Blob> = best.iter().flat_map(|b| b.2.blobs()).chain(state.blobs()).collect();
            job.forget(stored.extract_if(.., |blob| !needed.contains(blob))).await;
        }
        let (_, _, kept) = best.ok_or_else(|| Error::job(format!("phase {} kept no round", self.name)))?;
        job.forget(stored.into_iter().filter(|blob| *blob != kept.checkpoint)).await;
        Ok(Trained { checkpoint: kept.checkpoint, rounds, events })
    }
}
