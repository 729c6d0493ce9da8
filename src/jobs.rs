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

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::coordinator::{JobSpec, Outcome};
use crate::error::{Error, Kind, Result};
use crate::queue::Queue;
use crate::report::{GuardEvent, LeftOut, RoundRecord};
use crate::store::{Blob, Key, Store};
use crate::task::{Event, JobId, Report, TaskId, VERSION, WorkerId};

/// Specifications are refused above this size.
const SPEC_LIMIT: u64 = 1 << 20;

/// States are refused above this size.
const LIMIT: u64 = 16 << 20;

/// States that are read at the same time.
const AT_ONCE: usize = 16;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No coordinator has taken it up yet.
    Waiting,
    /// A coordinator runs it.
    Running,
    /// Its results are there.
    Done,
    /// It ended without results.
    Failed,
    /// It was ended on request.
    Cancelled,
}

impl State {
    /// Its name, as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Running => "running",
            State::Done => "done",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A stage of a job, begun or done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageStatus {
    /// Its name.
    pub name: String,
    /// Tasks of it that are done.
    pub done: usize,
    /// All its tasks.
    pub tasks: usize,
    /// Images its tasks have dealt with since the coordinator took the job up.
    pub images: u64,
    /// Seconds since it began, or that it took.
    pub seconds: f64,
}

/// Adversarial pictures that a task left on the store. They may be gone: a round's go with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pictures {
    /// The task.
    pub task: TaskId,
    /// A shard, or JSON `Vec<Example>`, by its key's ending.
    pub blob: Blob,
}

/// Everything that is to be said of a job while it runs and once it has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `task::VERSION` of the program that wrote it.
    pub version: u32,
    /// The job.
    pub job: JobId,
    /// Where it stands.
    pub state: State,
    /// RFC 3339, UTC.
    pub submitted: String,
    /// When the leading coordinator last wrote this.
    pub updated: String,
    /// The coordinator that leads, or led.
    pub coordinator: String,
    /// The stage in progress or reached last; `seconds` runs on.
    pub stage: Option<StageStatus>,
    /// Stages that are done.
    pub stages_done: usize,
    /// The last of them, the newest last.
    #[serde(default)]
    pub stages: Vec<StageStatus>,
    /// Images per second in this stage.
    pub images_per_second: f64,
    /// Seconds to the end of this stage at the present rate, once that can be said.
    pub stage_seconds_left: Option<f64>,
    /// Workers heard of in the last ten seconds.
    pub workers: Vec<WorkerId>,
    /// Attempts that failed.
    pub failures: usize,
    /// The last of them.
    pub last_failure: Option<String>,
    /// Tasks that it went on without, the newest last.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// Rounds of training so far.
    pub rounds: Vec<RoundRecord>,
    /// What the guard did.
    pub guard: Vec<GuardEvent>,
    /// The newest pictures, the newest last.
    #[serde(default)]
    pub pictures: Vec<Pictures>,
    /// How the night ended, where it is one.
    #[serde(default)]
    pub night: Option<Outcome>,
    /// Why it failed, and the exit code of that.
    pub error: Option<(u8, String)>,
}

impl Status {
    /// A job that nobody has taken up.
    pub fn waiting(job: &JobId, submitted: &str) -> Self {
        Self {
            version: VERSION,
            job: job.clone(),
            state: State::Waiting,
            submitted: submitted.to_string(),
            updated: submitted.to_string(),
            coordinator: String::new(),
            stage: None,
            stages_done: 0,
            stages: Vec::new(),
            images_per_second: 0.0,
            stage_seconds_left: None,
            workers: Vec::new(),
            failures: 0,
            last_failure: None,
            left_out: Vec::new(),
            rounds: Vec::new(),
            guard: Vec::new(),
            pictures: Vec::new(),
            night: None,
            error: None,
        }
    }

    /// Whether nothing more will happen.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Done | State::Failed | State::Cancelled)
    }
}

/// The jobs on a store.
#[derive(Debug, Clone)]
pub struct Jobs {
    store: Arc<dyn Store>,
}

impl Jobs {
    /// Those on `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Puts a job where coordinators find it. The same job again is no second one.
    ///
    /// # Errors
    /// [`Kind::Usage`] when another job has this name.
    pub async fn submit(&self, spec: &JobSpec) -> Result<bool> {
        let key = JobSpec::prefix(&spec.id).join("spec.json");
        let fresh = match self.spec(&spec.id).await {
            Ok(known) if known.is_same_as(spec) => false,
            Ok(known) => {
                return Err(Error::usage(format!(
                    "a job named {} was submitted on {} with other settings, photos or weights; choose another name",
                    known.id, known.created
                )));
            }
            Err(e) if e.kind() == Kind::NotFound => {
                self.store.put_json(&key, spec).await?;
                true
            }
            Err(e) => return Err(e),
        };
        // A client that died in between left a job that nobody would find: these are put again.
        self.mark("index", &spec.id).await?;
        if self.end(&spec.id).await?.is_none() {
            self.mark("open", &spec.id).await?;
        }
        Ok(fresh)
    }

    /// What was submitted.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such job, [`Kind::Data`] when another version wrote it.
    pub async fn spec(&self, job: &JobId) -> Result<JobSpec> {
        let key = JobSpec::prefix(job).join("spec.json");
        let spec: JobSpec = self.store.get_json(&key, SPEC_LIMIT).await.map_err(|e| match e.kind() {
            Kind::NotFound => Error::not_found(format!("there is no job {job}; `hardy jobs` lists them")),
            _ => e,
        })?;
        if spec.version != VERSION {
            return Err(Error::data(format!(
                "job {job} has format version {}, this program reads version {VERSION}",
                spec.version
            )));
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
            Err(e) if e.kind() == Kind::NotFound => Ok(Status::waiting(job, &self.spec(job).await?.created)),
            known => known,
        }
    }

    /// How a job ended, if it has.
    pub async fn end(&self, job: &JobId) -> Result<Option<Status>> {
        match self.store.get_json(&end_key(job), LIMIT).await {
            Ok(end) => Ok(Some(end)),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
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
        if !matches!(status.state, State::Failed | State::Cancelled) {
            return Err(Error::usage(format!(
                "job {job} is {}; only a failed or cancelled one can be retried",
                status.state
            )));
        }
        self.unmark("cancel", job).await?;
        self.store.delete(&status_key(job)).await?;
        self.store.delete(&end_key(job)).await?;
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

    async fn marked(&self, list: &str) -> Result<Vec<JobId>> {
        let entries: Vec<_> = self.store.list(Some(&Key::new(list)?)).await?.try_collect().await?;
        entries.into_iter().map(|e| e.key.name().parse()).collect()
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

fn status_key(job: &JobId) -> Key {
    JobSpec::prefix(job).join("status.json")
}

fn end_key(job: &JobId) -> Key {
    JobSpec::prefix(job).join("end.json")
}
