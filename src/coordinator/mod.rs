//! The job as a program: it asks for stages of tasks and decides on what they bring.
//!
//! The program is deterministic and its log remembers every finished task, so that a coordinator
//! which starts over passes through the finished stages and goes on where the last one stopped.

mod log;
mod measuring;
mod preparation;
mod program;
mod progress;
mod results;
mod spec;
mod stage;
mod training;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tracing::warn;

use crate::config::StoreSettings;
use crate::error::{Error, Kind, Result};
use crate::queue::{Queue, Topic};
use crate::store::{self, Store};
use crate::task::{Event, JobId, VERSION};

pub use progress::{Observer, Progress};
pub use results::export;
pub use spec::{JobSpec, Program};
pub use stage::Job;

/// Job specifications are refused above this size.
const SPEC_LIMIT: u64 = 1 << 20;

/// Runs jobs over a store and a queue.
#[derive(Debug, Clone)]
pub struct Coordinator {
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    id: String,
    access: StoreSettings,
    inboxes: Arc<Mutex<HashMap<JobId, mpsc::UnboundedSender<Event>>>>,
}

impl Coordinator {
    /// A coordinator called `id`.
    pub fn new(store: Arc<dyn Store>, queue: Arc<dyn Queue>, id: &str, access: StoreSettings) -> Self {
        Self { store, queue, id: id.to_string(), access, inboxes: Arc::default() }
    }

    /// Submits the job unless it was submitted before, and runs it to its end. What an earlier run
    /// finished is not done again.
    pub async fn run(&self, spec: JobSpec, observer: Observer) -> Result<()> {
        let key = JobSpec::prefix(&spec.id).join("spec.json");
        let spec = match self.store.get_json::<JobSpec>(&key, SPEC_LIMIT).await {
            Ok(known) if known.version == VERSION => known,
            Ok(known) => {
                return Err(Error::data(format!(
                    "job {} has format version {}, this program reads version {VERSION}",
                    known.id, known.version
                )));
            }
            Err(e) if e.kind() == Kind::NotFound => spec,
            Err(e) => return Err(e),
        };
        let spec_blob = self.store.put_json(&key, &spec).await?;
        let log = log::Log::take_over(self.store.clone(), &JobSpec::prefix(&spec.id), &self.id).await?;
        let (sender, inbox) = mpsc::unbounded_channel();
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner).insert(spec.id.clone(), sender);
        let (store, queue) = (self.store.clone(), self.queue.clone());
        let mut job = Job { spec, spec_blob, model: None, store, queue, log, inbox, observer };
        tokio::select! {
            outcome = self.perform(&mut job) => outcome,
            broken = self.listen() => broken,
        }
    }

    async fn perform(&self, job: &mut Job) -> Result<()> {
        let source = store::open(&job.spec.source, &self.access).await?;
        match job.spec.program {
            Program::Train => {
                let trained = program::train(job, &*source).await?;
                results::write(job, trained).await
            }
            Program::Evaluate => {
                let record = program::evaluate(job, &*source).await?;
                results::write_evaluation(job, &record).await
            }
            Program::Augment => {
                let (prepared, copies) = program::augment(job, &*source).await?;
                results::write_copies(job, &prepared, &copies).await
            }
        }
    }

    /// Sorts what workers report into the inboxes of the jobs, until the queue fails.
    async fn listen(&self) -> Result<()> {
        let mut events = self.queue.consume(&[Topic::Events], 256).await?;
        loop {
            let delivery = events.next().await?;
            match serde_json::from_slice::<Event>(delivery.body()) {
                Ok(event) if event.version == VERSION => {
                    let inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
                    // A job that has ended no longer wants to know.
                    if let Some(inbox) = inboxes.get(&event.job) {
                        let _ = inbox.send(event);
                    }
                }
                Ok(event) => warn!(version = event.version, worker = %event.worker, "an event of another version"),
                Err(e) => warn!("a message that is no event: {e}"),
            }
            delivery.ack().await?;
        }
    }
}
