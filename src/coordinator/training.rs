//! A phase of training: rounds of augment, train, merge and guard.

use rand::seq::SliceRandom;

use super::progress::Progress;
use super::stage::Job;
use crate::attack::PGD_STEP;
use crate::config::{Adversary, Epsilon, Freshness, Settings};
use crate::error::{Error, Result};
use crate::outcome::{Count, Outcomes};
use crate::report::{GuardEvent, RoundRecord};
use crate::seed::{Purpose, stream};
use crate::store::Blob;
use crate::task::{Condition, StepAdversary, Success, TaskId, TrainWork, Work};
use crate::train::schedule::ramp;

/// Pictures of broken images that the guard leaves behind in each round.
const WATCHED: usize = 6;

/// The shards a phase works on.
#[derive(Debug, Clone)]
pub struct Shards {
    /// Training shards; their number is a multiple of the number of replicas.
    pub train: Vec<Blob>,
    /// Images in all training shards.
    pub train_images: u64,
    /// The held slice.
    pub held: Vec<Blob>,
    /// See [`TrainWork::repeats`].
    pub repeats: Vec<f64>,
}

/// Rounds for which FGSM accuracy may hide a PGD accuracy that does not rise.
const LASTING: usize = 3;

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

/// The training adversary as the guard has left it.
#[derive(Debug, Clone, Copy)]
struct Adversarial {
    method: Adversary,
    step: f64,
}

impl Adversarial {
    /// Makes a collapse less likely: a shorter step first, then, since single steps are what models learn to
    /// deceive, many (Madry et al. 2017). Says what it did.
    fn soften(&mut self, settings: &Settings, rollbacks: u32) -> String {
        if rollbacks > 1 && self.method != Adversary::Pgd {
            (self.method, self.step) = (Adversary::Pgd, PGD_STEP);
            return format!("now against PGD with {} steps", settings.adversary.steps);
        }
        self.step *= settings.guard.soften;
        format!("step size now {} x epsilon", self.step)
    }
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
            best_pgd = best_pgd.max(record.held_pgd.accuracy());
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

    async fn round(
        &self,
        job: &mut Job,
        shards: &Shards,
        state: &State,
        round: u32,
        rollbacks: u32,
        adversary: Adversarial,
    ) -> Result<(State, RoundRecord)> {
        let s = job.spec.settings.clone();
        let tag = format!("{}-r{round:04}-{rollbacks}", self.name);
        // For people, who count from 1.
        let title = format!("{} {}", self.name, round + 1);
        let steps = steps_per_round(&s, shards.train_images);
        let (first_step, total_steps) = (round * steps, self.rounds * steps);
        let inner = self.adversarial && s.adversary.freshness == Freshness::Step;
        let budget = match s.adversary.freshness {
            // Made before the first round, at the full budget.
            Freshness::Once => s.adversary.epsilon.value(),
            _ => ramp(&s.adversary, first_step + steps, total_steps) * s.adversary.epsilon.value(),
        };
        let mut order = shards.train.clone();
        order.shuffle(&mut stream(s.job.seed, Purpose::Order, u64::from(round), self.name));
        let adversarial = if self.adversarial && !inner {
            let made = self.augment(job, &order, state, round, rollbacks, adversary, budget).await?;
            let mut there = made.iter().map(Option::is_some);
            order.retain(|_| there.next().unwrap_or(false));
            made.into_iter().flatten().collect()
        } else {
            Vec::new()
        };
        let replicas = s.train.replicas as usize;
        if order.len() < replicas {
            let left = order.len();
            return Err(Error::data(format!(
                "{left} training shards are left for {replicas} replicas (train.replicas)"
            )));
        }
        let deal = |all: &[Blob], replica: usize| -> Vec<Blob> {
            all.iter().skip(replica).step_by(replicas).cloned().collect()
        };
        let tasks = (0..replicas).map(|replica| {
            let work = TrainWork {
                round,
                replica: replica as u32,
                checkpoint: state.checkpoint.clone(),
                optimizer: state.optimizer.clone(),
                shards: deal(&order, replica),
                adversarial: deal(&adversarial, replica),
                steps,
                first_step,
                total_steps,
                rate: self.rate,
                repeats: shards.repeats.clone(),
                adversary: inner.then_some(StepAdversary {
                    method: adversary.method,
                    epsilon: s.adversary.epsilon,
                    step: adversary.step,
                    noise: s.adversary.noise,
                }),
            };
            (TaskId(format!("{tag}-train-{replica}")), Work::Train(work))
        });
        let trained = job.parts(&format!("{title}: train"), tasks.collect()).await?;
        let trained: Vec<Success> = trained.into_iter().flatten().collect();
        let outputs = trained.iter().map(|t| Ok((output(t, "checkpoint")?, output(t, "optimizer")?)));
        let merge = Work::Merge {
            start: state.checkpoint.clone(),
            replicas: outputs.collect::<Result<_>>()?,
            outer: state.outer.clone(),
        };
        let merged = job.stage(&format!("{title}: merge"), vec![(TaskId(format!("{tag}-merge")), merge)]).await?;
        let next = State {
            checkpoint: output(&merged[0], "checkpoint")?,
            optimizer: Some(output(&merged[0], "optimizer")?),
            outer: merged[0].outputs.get("outer").cloned(),
        };
        let [held_clean, held_fgsm, held_pgd] = self.measure(job, shards, &next.checkpoint, &tag, &title).await?;
        let mean = |name: &str| trained.iter().filter_map(|t| t.metrics.get(name)).sum::<f64>() / trained.len() as f64;
        let record = RoundRecord {
            phase: self.name.to_string(),
            round,
            loss: mean("loss"),
            train_accuracy: mean("accuracy"),
            epsilon: if self.adversarial { budget } else { 0.0 },
            held_clean,
            held_fgsm,
            held_pgd,
            checkpoint_sha256: next.checkpoint.sha256.clone(),
            best: false,
        };
        // The merge and its measurement are written down: the way there is not needed any more.
        job.forget(trained.iter().flat_map(|t| t.outputs.values().cloned())).await;
        if s.adversary.freshness == Freshness::Round {
            job.forget(adversarial).await;
        }
        Ok((next, record))
    }

    /// Adversarial copies of the training shards, in their order; none of a shard that is left out.
    #[expect(clippy::too_many_arguments, reason = "all of a round's circumstances")]
    async fn augment(
        &self,
        job: &mut Job,
        order: &[Blob],
        state: &State,
        round: u32,
        rollbacks: u32,
        adversary: Adversarial,
        budget: f64,
    ) -> Result<Vec<Option<Blob>>> {
        let s = &job.spec.settings;
        let once = s.adversary.freshness == Freshness::Once;
        let (tag, view) =
            if once { (format!("once-{rollbacks}"), 0) } else { (format!("r{round:04}-{rollbacks}"), round) };
        let epsilon = Epsilon::new(budget).unwrap_or(s.adversary.epsilon);
        let tasks = order.iter().map(|shard| {
            let work = Work::Augment {
                shard: shard.clone(),
                checkpoint: if once { self.origin.clone() } else { state.checkpoint.clone() },
                round: Some(view),
                method: adversary.method,
                epsilon,
                step: adversary.step,
                noise: s.adversary.noise,
            };
            (TaskId(format!("{}-{tag}-augment-{}", self.name, &shard.sha256[..12])), work)
        });
        let made = job.parts(&format!("{} {}: augment", self.name, round + 1), tasks.collect()).await?;
        made.iter().map(|m| m.as_ref().map(|m| output(m, "shard")).transpose()).collect()
    }

    /// Clean, FGSM and PGD accuracy on the held slice.
    async fn measure(
        &self,
        job: &mut Job,
        shards: &Shards,
        model: &Blob,
        tag: &str,
        title: &str,
    ) -> Result<[Count; 3]> {
        let s = &job.spec.settings;
        let attacked = self.adversarial && s.guard.enabled;
        let mut conditions = vec![Condition { attack: "clean".into(), epsilon: Epsilon::ZERO }];
        if attacked {
            for attack in ["fgsm".to_string(), format!("pgd{}", s.guard.steps)] {
                conditions.push(Condition { attack, epsilon: s.adversary.epsilon });
            }
        }
        let limit = if attacked { s.guard.images.div_ceil(shards.held.len().max(1)) } else { 0 };
        let tasks = shards.held.iter().enumerate().map(|(i, shard)| {
            let work = Work::Evaluate {
                shard: shard.clone(),
                checkpoint: model.clone(),
                conditions: conditions.clone(),
                limit,
                // Of the first shard, for whoever watches; no later stage reads them.
                examples: if attacked && i == 0 { WATCHED } else { 0 },
                keep_images: false,
                probe: None,
                others: Vec::new(),
            };
            (TaskId(format!("{tag}-guard-{i:03}")), work)
        });
        let tasks = tasks.collect();
        let parts = job.parts(&format!("{title}: guard"), tasks).await?;
        let parts: Vec<Success> = parts.into_iter().flatten().collect();
        let outcomes = merged_outcomes(job, &parts).await?;
        let count = |i: usize| if attacked { outcomes.count(i) } else { Count { correct: 0, n: 0 } };
        Ok([outcomes.count(0), count(1), count(2)])
    }

    /// How good a round is on the held slice, and the standard error of that figure. A later round is
    /// kept unless it is worse than the best by more than this: on a few images the best one is mostly
    /// the luckiest one, and schedules are made for their last step (the one-standard-error rule of
    /// Breiman et al. 1984).
    fn score(&self, record: &RoundRecord) -> (f64, f64) {
        let counts = if self.adversarial { vec![record.held_clean, record.held_pgd] } else { vec![record.held_clean] };
        let variance = |c: &Count| if c.n == 0 { 0.0 } else { c.accuracy() * (1.0 - c.accuracy()) / c.n as f64 };
        (counts.iter().map(|c| c.accuracy()).sum(), counts.iter().map(variance).sum::<f64>().sqrt())
    }

    /// Says why, if the round looks like catastrophic overfitting (Wong et al. 2020).
    fn collapse(
        &self,
        s: &Settings,
        method: Adversary,
        earlier: &[RoundRecord],
        record: &RoundRecord,
        best_pgd: f64,
    ) -> Option<String> {
        if !self.adversarial || !s.guard.enabled {
            return None;
        }
        let (fgsm, pgd) = (record.held_fgsm.accuracy(), record.held_pgd.accuracy());
        let full = record.epsilon >= s.adversary.epsilon.value() - 1e-9;
        if pgd < best_pgd - s.guard.drop {
            return Some(format!("PGD accuracy fell to {:.1} % from {:.1} %", pgd * 100.0, best_pgd * 100.0));
        }
        // Only single steps can be deceived: against PGD a gap is what it seems.
        if method == Adversary::Pgd {
            return None;
        }
        // A model that is not robust yet shows the same gap; one that is losing it falls at the same time.
        let noise = (pgd * (1.0 - pgd) / record.held_pgd.n.max(1) as f64).sqrt();
        if full && fgsm - pgd > s.guard.gap && pgd < best_pgd - noise.max(s.guard.drop / 4.0) {
            return Some(format!("FGSM accuracy {:.1} % hides PGD accuracy {:.1} %", fgsm * 100.0, pgd * 100.0));
        }
        // Nor does its PGD accuracy stand still there.
        let masked = |r: &RoundRecord| {
            let full = r.epsilon >= s.adversary.epsilon.value() - 1e-9;
            full && r.held_fgsm.accuracy() - r.held_pgd.accuracy() > s.guard.gap
        };
        let lately = earlier.get(earlier.len().checked_sub(LASTING - 1)?..)?;
        let risen = pgd - lately.first()?.held_pgd.accuracy();
        if masked(record) && lately.iter().all(masked) && risen < s.guard.drop / 4.0 {
            let (fgsm, pgd) = (fgsm * 100.0, pgd * 100.0);
            return Some(format!(
                "FGSM accuracy {fgsm:.1} % hides PGD accuracy {pgd:.1} %, which has not risen for {LASTING} rounds"
            ));
        }
        None
    }
}

/// Steps of each replica in one round.
fn steps_per_round(s: &Settings, images: u64) -> u32 {
    if s.train.steps_per_round > 0 {
        return s.train.steps_per_round;
    }
    let per_step = s.train.batch as u64 * u64::from(s.train.replicas);
    u32::try_from((images / per_step).max(1)).unwrap_or(u32::MAX)
}

/// The output that the kind of task is bound to have.
pub(super) fn output(success: &Success, name: &str) -> Result<Blob> {
    success.outputs.get(name).cloned().ok_or_else(|| Error::internal(format!("a task brought no output '{name}'")))
}

/// Reads and joins the outcomes of evaluation tasks, in their order.
pub(super) async fn merged_outcomes(job: &Job, parts: &[Success]) -> Result<Outcomes> {
    let mut all = Vec::with_capacity(parts.len());
    for part in parts {
        let bytes = job.store.get_blob(&output(part, "outcomes")?).await?;
        let outcomes: Outcomes = serde_json::from_slice(&bytes)
            .map_err(|e| Error::data("outcomes are not the JSON they should be").because(e))?;
        all.push(outcomes);
    }
    Outcomes::merge(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    fn verdict(fgsm: u64, pgd: u64, epsilon: f64, best_pgd: f64) -> Option<String> {
        verdict_after(&[], fgsm, pgd, epsilon, best_pgd)
    }

    /// The same after rounds with these FGSM and PGD accuracies at the full budget.
    fn verdict_after(before: &[(u64, u64)], fgsm: u64, pgd: u64, epsilon: f64, best_pgd: f64) -> Option<String> {
        let settings = Layers::new().unwrap().set(&["guard.gap=0.4".into(), "guard.drop=0.2".into()]).unwrap();
        let settings = settings.resolve().unwrap().settings;
        let origin = Blob { key: crate::store::Key::new("x").unwrap(), sha256: String::new(), size: 0 };
        let phase = Phase { name: "train", rounds: 9, rate: 0.1, adversarial: true, origin };
        let count = |correct| Count { correct, n: 100 };
        let record = |fgsm, pgd, epsilon| RoundRecord {
            phase: "train".into(),
            round: 5,
            loss: 1.0,
            train_accuracy: 0.9,
            epsilon,
            held_clean: count(95),
            held_fgsm: count(fgsm),
            held_pgd: count(pgd),
            checkpoint_sha256: String::new(),
            best: false,
        };
        let earlier: Vec<RoundRecord> = before.iter().map(|&(f, p)| record(f, p, 4.0 / 255.0)).collect();
        phase.collapse(&settings, Adversary::NFgsm, &earlier, &record(fgsm, pgd, epsilon), best_pgd)
    }

    #[test]
    fn fgsm_accuracy_that_goes_on_hiding_pgd_accuracy_is_a_collapse() {
        let full = 4.0 / 255.0;
        let stuck = verdict_after(&[(85, 0), (78, 3)], 86, 2, full, 0.03);
        assert!(stuck.unwrap().contains("has not risen for 3 rounds"));
        assert!(verdict_after(&[(78, 3)], 86, 2, full, 0.03).is_none(), "two rounds are no habit");
        assert!(verdict_after(&[(85, 10), (78, 20)], 86, 30, full, 0.2).is_none(), "it rises");
        assert!(verdict_after(&[(85, 60), (78, 60)], 86, 60, full, 0.6).is_none(), "nothing is hidden");
    }

    #[test]
    fn robustness_that_falls_away_is_a_collapse() {
        let full = 4.0 / 255.0;
        assert!(verdict(70, 30, full, 0.55).unwrap().contains("fell to 30.0 % from 55.0 %"));
        assert!(verdict(70, 40, full, 0.55).is_none(), "15 points are noise");
    }

    #[test]
    fn fgsm_accuracy_that_pgd_does_not_bear_out_is_a_collapse_once_the_budget_is_full() {
        let full = 4.0 / 255.0;
        assert!(verdict(66, 15, full, 0.25).unwrap().contains("hides PGD accuracy 15.0 %"));
        assert!(verdict(66, 15, full, 0.15).is_none(), "a model on its way up is not robust yet");
        assert!(verdict(66, 15, full / 2.0, 0.25).is_none(), "nor while the budget still grows");
        assert!(verdict(71, 55, full, 0.55).is_none());
    }
}
