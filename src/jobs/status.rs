//! How a job goes, as it is written to the store.

use serde::{Deserialize, Serialize};

use crate::coordinator::{JobSpec, Outcome, now};
use crate::error::Error;
use crate::report::{GuardEvent, LeftOut, RoundRecord};
use crate::store::Blob;
use crate::task::{JobId, TaskId, VERSION, WorkerId};

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
    /// How often a worker declined a task of it, being unable to do it.
    #[serde(default)]
    pub declined: usize,
    /// The worker that did so last, and why.
    #[serde(default)]
    pub last_declined: Option<String>,
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
    /// Whether it is a night's retraining.
    #[serde(default)]
    pub is_night: bool,
    /// How the night ended, once it has come to an outcome.
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
            declined: 0,
            last_declined: None,
            left_out: Vec::new(),
            rounds: Vec::new(),
            guard: Vec::new(),
            pictures: Vec::new(),
            is_night: false,
            night: None,
            error: None,
        }
    }

    /// A job as it was submitted.
    pub(crate) fn submitted(spec: &JobSpec) -> Self {
        Self { is_night: spec.night.is_some(), ..Self::waiting(&spec.id, &spec.created) }
    }

    /// A job that ended before anything could be known of it.
    pub fn failed(job: &JobId, error: &Error) -> Self {
        let error = Some((error.kind().exit_code(), error.chain()));
        Self { state: State::Failed, updated: now(), error, ..Self::waiting(job, "") }
    }

    /// Whether nothing more will happen.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Done | State::Failed | State::Cancelled)
    }
}
