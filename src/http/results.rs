//! Which results a job has left that can be looked at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::answer::{SLOW, within};
use crate::coordinator::JobSpec;
use crate::error::{Kind, Result};
use crate::jobs::{State, Status};
use crate::store::Store;
use crate::task::JobId;

/// What is shown of a job, where it is there.
pub(super) const NAMES: [&str; 4] = ["report.html", "report.json", "rehearsal.json", "night.json"];

/// By job the time of its end, and its results.
type Known = BTreeMap<JobId, (String, Vec<&'static str>)>;

/// The results of jobs that are done.
#[derive(Debug, Default)]
pub(super) struct Results(Mutex<Known>);

impl Results {
    /// Those of a job, none before it has ended. Those of a job that is done are looked for once.
    pub async fn of(&self, store: &Arc<dyn Store>, status: &Status) -> Result<Vec<&'static str>> {
        if !status.has_ended() {
            return Ok(Vec::new());
        }
        if let Some((_, known)) = self.lock().get(&status.job).filter(|(ended, _)| *ended == status.updated) {
            return Ok(known.clone());
        }
        let folder = JobSpec::prefix(&status.job).join("result");
        let mut found = Vec::new();
        for name in NAMES {
            match within(SLOW, store.get(&folder.join(name))).await {
                Ok(_) => found.push(name),
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        if status.state == State::Done {
            self.lock().insert(status.job.clone(), (status.updated.clone(), found.clone()));
        }
        Ok(found)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
