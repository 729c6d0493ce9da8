//! The jobs of a cluster as they lie on the store: submitted, watched, cancelled, tried again.
//!
//! ```text
//! index/<job>            every job that was ever submitted and not yet collected
//! open/<job>             those that have not ended
//! cancel/<job>           those somebody wants to end
//! jobs/<job>/spec.json   what was submitted, never changed
//! jobs/<job>/status.json how it goes, rewritten by the leading coordinator
//! jobs/<job>/end.json    how it ended
//! ```

mod status;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tracing::warn;

use crate::coordinator::JobSpec;
use crate::error::{Error, Kind, Result};
use crate::queue::Queue;
use crate::store::{Key, Store};
use crate::task::{Event, JobId, Report, TaskId, VERSION, WorkerId};

pub use status::{Pictures, StageStatus, State, Status};

/// Specifications are refused above this size.
const SPEC_LIMIT: u64 = 1 << 20;

/// States are refused above this size.
const LIMIT: u64 = 16 << 20;

/// States that are read at the same time.
const AT_ONCE: usize = 16;

/// The jobs on a store.
#[derive(Debug, Clone)]
pub struct Jobs {
    store: Arc<dyn Store>,
    /// What lies among the markers and is none; each is mentioned once.
    strangers: Arc<Mutex<BTreeSet<String>>>,
}

impl Jobs {
    /// Those on `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, strangers: Arc::default() }
    }

    /// Puts a job where coordinators find it. The same job again is no second one.
    ///
    /// # Errors
    /// [`Kind::Usage`] when another job has this name.
    pub async fn submit(&self, spec: &JobSpec) -> Result<bool> {
        let known = match self.spec(&spec.id).await {
            // Not every server keeps the promise to create an object once, so this is not done without a look.
            Err(e) if e.kind() == Kind::NotFound => match self.store.create_json(&spec_key(&spec.id), spec).await? {
                true => None,
                false => Some(self.spec(&spec.id).await?),
            },
            known => Some(known?),
        };
        if let Some(known) = known.as_ref().filter(|known| !known.is_same_as(spec)) {
            return Err(Error::usage(format!(
                "a job named {} was submitted on {} with other settings, photos or weights; choose another name",
                known.id, known.created
            )));
        }
        // A client that died in between left a job that nobody would find: these are put again.
        self.mark("index", &spec.id).await?;
        if self.end(&spec.id).await?.is_none() {
            self.mark("open", &spec.id).await?;
        }
        Ok(known.is_none())
    }

    /// What was submitted.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such job, [`Kind::Data`] when it is damaged or another version wrote it.
    pub async fn spec(&self, job: &JobId) -> Result<JobSpec> {
        let spec: JobSpec = self.store.get_json(&spec_key(job), SPEC_LIMIT).await.map_err(|e| match e.kind() {
            Kind::NotFound => Error::not_found(format!("there is no job {job}; `hardy jobs` lists them")),
            _ => e,
        })?;
        if spec.version != VERSION {
            return Err(Error::data(format!(
                "job {job} has format version {}, this program reads version {VERSION}",
                spec.version
            )));
        }
        if spec.id != *job {
            return Err(Error::data(format!("what lies there as job {job} is job {}", spec.id)));
        }
        Ok(spec)
    }

    /// How a job goes.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such job.
    pub async fn status(&self, job: &JobId) -> Result<Status> {
        if let Some(end) = self.end(job).await? {
            return Ok(end);
        }
        match self.store.get_json(&status_key(job), LIMIT).await {
            // A damaged one is written anew as soon as a coordinator runs the job.
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Data) => Ok(Status::submitted(&self.spec(job).await?)),
            known => known,
        }
    }

    /// How a job ended, if it has. One whose end cannot be read has failed.
    pub async fn end(&self, job: &JobId) -> Result<Option<Status>> {
        match self.store.get_json(&end_key(job), LIMIT).await {
            Ok(end) => Ok(Some(end)),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Err(e) if e.kind() == Kind::Data => Ok(Some(Status::failed(job, &e))),
            Err(e) => Err(e),
        }
    }

    /// All jobs, by name.
    pub async fn all(&self) -> Result<Vec<Status>> {
        let names = self.names().await?;
        stream::iter(names).map(|job| async move { self.status(&job).await }).buffered(AT_ONCE).try_collect().await
    }

    /// The names of all jobs, in their order.
    pub async fn names(&self) -> Result<Vec<JobId>> {
        self.marked("index").await
    }

    /// Jobs that have not ended.
    pub async fn open(&self) -> Result<Vec<JobId>> {
        self.marked("open").await
    }

    /// Jobs that are to end.
    pub async fn to_cancel(&self) -> Result<Vec<JobId>> {
        self.marked("cancel").await
    }

    /// Takes back that a job is to end.
    pub async fn forget_cancel(&self, job: &JobId) -> Result<()> {
        self.unmark("cancel", job).await
    }

    /// Asks for the end of a job.
    ///
    /// # Errors
    /// [`Kind::Usage`] when it has ended already.
    pub async fn cancel(&self, job: &JobId) -> Result<()> {
        let status = self.status(job).await?;
        if status.has_ended() {
            return Err(Error::usage(format!("job {job} is {} already", status.state)));
        }
        self.mark("cancel", job).await
    }

    /// Opens a job that ended without results once more; what it finished is kept.
    ///
    /// # Errors
    /// [`Kind::Usage`] when it is not failed or cancelled.
    pub async fn retry(&self, job: &JobId) -> Result<()> {
        let status = self.status(job).await?;
        let may_open = match status.state {
            State::Failed | State::Cancelled => true,
            // Whoever submitted or retried it died before it was open, and no coordinator would find it.
            State::Waiting => !self.is_marked("open", job).await?,
            State::Running | State::Done => false,
        };
        if !may_open {
            return Err(Error::usage(format!(
                "job {job} is {}; only a failed or cancelled one can be retried",
                status.state
            )));
        }
        self.unmark("cancel", job).await?;
        self.store.delete(&status_key(job)).await?;
        // Open last: an open job that has an end is closed by the coordinator that leads.
        self.store.delete(&end_key(job)).await?;
        self.mark("index", job).await?;
        self.mark("open", job).await
    }

    /// Takes a job that has ended off every list.
    pub async fn strike(&self, job: &JobId) -> Result<()> {
        for list in ["open", "cancel", "index"] {
            self.unmark(list, job).await?;
        }
        Ok(())
    }

    /// Writes how a job goes.
    pub async fn tell(&self, status: &Status) -> Result<()> {
        self.store.put_json(&status_key(&status.job), status).await.map(drop)
    }

    /// Writes how a job ended. From then on it is closed.
    pub async fn close(&self, status: &Status) -> Result<()> {
        self.store.put_json(&end_key(&status.job), status).await?;
        self.unmark("open", &status.job).await?;
        self.unmark("cancel", &status.job).await
    }

    /// The jobs on a list. What has no name of a job is left alone.
    async fn marked(&self, list: &str) -> Result<Vec<JobId>> {
        let mut entries = self.store.list(Some(&Key::new(list)?)).await?;
        let mut jobs = Vec::new();
        while let Some(entry) = entries.next().await {
            match entry {
                Ok(entry) => match entry.key.as_str()[list.len()..].trim_start_matches('/').parse::<JobId>() {
                    Ok(job) => jobs.push(job),
                    Err(_) => self.mention(format!("{} marks no job and is left alone", entry.key)),
                },
                Err(e) if e.kind() == Kind::Data => self.mention(format!("left alone below {list}/: {}", e.chain())),
                Err(e) => return Err(e),
            }
        }
        Ok(jobs)
    }

    /// Says once of an object that it is in the way.
    fn mention(&self, what: String) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if !strangers.contains(&what) {
            warn!("{what}");
            strangers.insert(what);
        }
    }

    async fn is_marked(&self, list: &str, job: &JobId) -> Result<bool> {
        match self.store.get(&Key::new(list)?.join(job)).await {
            Err(e) if e.kind() == Kind::NotFound => Ok(false),
            marker => marker.map(|_| true),
        }
    }

    async fn mark(&self, list: &str, job: &JobId) -> Result<()> {
        self.store.put_bytes(&Key::new(list)?.join(job), Bytes::new()).await.map(drop)
    }

    async fn unmark(&self, list: &str, job: &JobId) -> Result<()> {
        self.store.delete(&Key::new(list)?.join(job)).await
    }
}

/// Tells the coordinators at once that something about `job` has changed; they would find out by themselves.
pub async fn wake(queue: &dyn Queue, job: &JobId) -> Result<()> {
    let event = Event {
        version: VERSION,
        job: job.clone(),
        task: TaskId("none".into()),
        attempt: "none".into(),
        worker: WorkerId("client".into()),
        report: Report::Changed,
    };
    event.send(queue).await
}

fn spec_key(job: &JobId) -> Key {
    JobSpec::prefix(job).join("spec.json")
}

fn status_key(job: &JobId) -> Key {
    JobSpec::prefix(job).join("status.json")
}

fn end_key(job: &JobId) -> Key {
    JobSpec::prefix(job).join("end.json")
}
