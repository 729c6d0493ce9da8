//! One round: copies of the training shards, each replica's steps, their merge, and what the held slice says.

use rand::seq::SliceRandom;

use super::guard::Adversarial;
use super::outputs::{merged_outcomes, output};
use super::{Phase, Shards, State};
use crate::config::{Epsilon, Freshness, Settings};
use crate::coordinator::stage::Job;
use crate::error::{Error, Result};
use crate::outcome::Count;
use crate::report::RoundRecord;
use crate::seed::{Purpose, stream};
use crate::store::Blob;
use crate::task::{Condition, StepAdversary, Success, TaskId, TrainWork, Work};
use crate::train::schedule::ramp;

/// Pictures of broken images that the guard leaves behind in each round.
const WATCHED: usize = 6;

impl Phase {
    pub(super) async fn round(
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
        let (first_step, total_steps) = (round.saturating_mul(steps), self.rounds.saturating_mul(steps));
        let inner = self.adversarial && s.adversary.freshness == Freshness::Step;
        let budget = match s.adversary.freshness {
            // Made before the first round, at the full budget.
            Freshness::Once => s.adversary.epsilon.value(),
            _ => ramp(&s.adversary, first_step.saturating_add(steps), total_steps) * s.adversary.epsilon.value(),
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
}

/// Steps of each replica in one round.
fn steps_per_round(s: &Settings, images: u64) -> u32 {
    if s.train.steps_per_round > 0 {
        return s.train.steps_per_round;
    }
    let per_step = s.train.batch as u64 * u64::from(s.train.replicas);
    u32::try_from((images / per_step).max(1)).unwrap_or(u32::MAX)
}
