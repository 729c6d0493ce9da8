//! What a job tells whoever watches it.

use std::sync::Arc;

use super::night::Outcome;
use crate::report::{GuardEvent, LeftOut, RoundRecord};
use crate::store::Blob;
use crate::task::{TaskId, WorkerId};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Progress {
    /// A stage began; `done` of its `tasks` were known already.
    Stage {
        /// Its name.
        name: String,
        /// All its tasks.
        tasks: usize,
        /// Those done in an earlier run.
        done: usize,
    },
    /// A task of the stage is done.
    TaskDone,
    /// So many more images have been dealt with.
    Images(u64),
    /// The stage is done.
    StageDone {
        /// Its name.
        name: String,
    },
    /// A round of training was merged and measured.
    Round(Box<RoundRecord>),
    /// A worker gave a sign of life.
    Heard(WorkerId),
    /// An attempt at a task failed.
    Failure {
        /// The task.
        task: TaskId,
        /// What went wrong.
        error: String,
    },
    /// A worker cannot do a task that another one may.
    Declined {
        /// The worker.
        worker: WorkerId,
        /// What stands in its way.
        error: String,
    },
    /// A task has made adversarial pictures.
    Pictures {
        /// The task.
        task: TaskId,
        /// See [`crate::jobs::Pictures`].
        blob: Blob,
    },
    /// The guard or early stopping did something.
    Guard(GuardEvent),
    /// The job goes on without a task that failed for good.
    LeftOut(LeftOut),
    /// A night has ended.
    Night(Box<Outcome>),
}

/// Called with everything that happens, in order; must return quickly.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(&Progress) + Send + Sync>);

impl Observer {
    /// Calls `f`.
    pub fn new(f: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(f))
    }
}

impl std::ops::Deref for Observer {
    type Target = dyn Fn(&Progress) + Send + Sync;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}
