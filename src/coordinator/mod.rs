//! The job as a program: it asks for stages of tasks and decides on what they bring.
//!
//! The program is deterministic and its log remembers every finished task, so that a coordinator
//! which starts over passes through the finished stages and goes on where the last one stopped.

mod board;
mod lab;
mod leader;
mod log;
mod measuring;
mod night;
mod post;
mod preparation;
mod program;
mod progress;
mod results;
mod source;
mod spec;
mod stage;
mod training;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::{QueueSettings, StoreSettings, WebhookSettings};
use crate::error::{Kind, Result};
use crate::health::Pulse;
use crate::jobs::Jobs;
use crate::metrics::CoordinatorMetrics;
use crate::queue::Queue;
use crate::store::Store;

#[cfg(test)]
pub use log::Done as Finished;
pub use log::Memory;
pub use night::{Lease, Night, Outcome, Place, tonight};
pub use progress::{Observer, Progress};
pub use results::export;
pub use spec::{Compared, JobSpec, Program, Surrogate, now};
pub use stage::Job;

use post::{Inbox, Post};

/// Runs jobs over a store and a queue.
#[derive(Debug, Clone)]
pub struct Coordinator {
    /// Where everything of the jobs lies.
    pub store: Arc<dyn Store>,
    /// Where tasks go and reports come from.
    pub queue: Arc<dyn Queue>,
    /// Its name, one per process.
    pub id: String,
    /// How stores of photos are reached.
    pub access: StoreSettings,
    /// How patient to be with workers.
    pub policy: QueueSettings,
    /// What it counts.
    pub metrics: CoordinatorMetrics,
    /// Its sign of life.
    pub pulse: Pulse,
    /// Who is told how nights end.
    pub webhook: WebhookSettings,
}

impl Coordinator {
    /// Submits the job unless it was submitted before, and runs it to its end. What an earlier run
    /// finished is not done again.
    pub async fn run(&self, spec: JobSpec, observer: Observer) -> Result<()> {
        let spec = match Jobs::new(self.store.clone()).spec(&spec.id).await {
            Err(e) if e.kind() == Kind::NotFound => spec,
            known => known?,
        };
        let post = Post::default();
        let inbox = post.open(&spec.id);
        tokio::select! {
            outcome = self.perform(spec, observer, inbox, CancellationToken::new()) => outcome?,
            broken = post.sort(&*self.queue) => broken,
        }
    }

    /// Takes the job over and runs its program to the end. The outer result is that of the store and the
    /// queue the job itself has no part in, the inner one the job's; what lies damaged on the store is the job's.
    async fn perform(
        &self,
        spec: JobSpec,
        observer: Observer,
        inbox: Inbox,
        cancelled: CancellationToken,
    ) -> Result<Result<()>> {
        let spec_blob = self.store.put_json(&JobSpec::prefix(&spec.id).join("spec.json"), &spec).await?;
        let log = match log::Log::take_over(self.store.clone(), &JobSpec::prefix(&spec.id), &self.id).await {
            Err(e) if !e.kind().is_outage() => return Ok(Err(e)),
            log => log?,
        };
        let mut job = Job {
            spec,
            spec_blob,
            model: None,
            store: self.store.clone(),
            queue: self.queue.clone(),
            policy: self.policy.clone(),
            metrics: self.metrics.clone(),
            log,
            inbox,
            observer,
            cancelled,
            gave_up: false,
            left_out: Vec::new(),
        };
        let outcome = self.program(&mut job).await;
        self.metrics.in_flight(&job.spec.id, job.spec.settings.job.priority, 0);
        match &outcome {
            Err(e) if e.kind().is_outage() && !job.gave_up => return outcome.map(Ok),
            Err(_) => job.log.reopen().await?,
            Ok(()) => {}
        }
        // Whoever was succeeded meanwhile must not end what another coordinator runs.
        job.log.confirm().await?;
        Ok(outcome)
    }

    async fn program(&self, job: &mut Job) -> Result<()> {
        match job.spec.program {
            Program::Rehearse { tasks, stored } => {
                let found = program::rehearse(job, tasks, stored).await?;
                return results::write_rehearsal(job, found).await;
            }
            // It opens its source itself: that it cannot is told like any other failure of a night.
            Program::Night => return night::run(job, &self.access, &self.webhook).await,
            _ => {}
        }
        let source = source::open(job, &self.access).await?;
        match job.spec.program {
            Program::Rehearse { .. } | Program::Night => Ok(()),
            Program::Train => {
                let trained = program::train(job, &*source).await?;
                results::write(job, trained).await
            }
            Program::Evaluate => {
                let evaluated = program::evaluate(job, &*source).await?;
                results::write_evaluation(job, evaluated).await
            }
            Program::Augment => {
                let (prepared, copies) = program::augment(job, &*source).await?;
                results::write_copies(job, &prepared, &copies).await
            }
            Program::Attack => {
                let (prepared, parts) = program::attack(job, &*source).await?;
                lab::write(job, &prepared, &parts).await
            }
        }
    }
}
