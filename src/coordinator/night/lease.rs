//! One night of a model at a time.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::coordinator::JobSpec;
use crate::error::{Error, Kind, Result};
use crate::registry::Registry;
use crate::store::{Key, Store};
use crate::task::{JobId, VersionId};

/// Leases are refused above this size.
const LIMIT: u64 = 1 << 16;

/// The right of a night to retrain its model, as `models/<model>/night.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The job that holds it.
    pub job: JobId,
    /// Its night.
    pub night: VersionId,
    /// When it began; a night that goes on after a crash began when it first did.
    pub started: Timestamp,
    /// When the night has failed, and the lease counts for nothing.
    pub deadline: Timestamp,
}

impl Lease {
    /// Takes the lease, or goes on with the one that `job` has.
    ///
    /// # Errors
    /// Of kind `Job` when another night holds it and may still do so, or takes it at the same time.
    pub async fn take(
        store: &dyn Store,
        registry: &Registry,
        job: &JobId,
        night: &VersionId,
        minutes: u64,
    ) -> Result<Self> {
        let key = key(registry);
        let now = Timestamp::now();
        match store.get_json::<Self>(&key, LIMIT).await {
            Ok(held) if held.deadline > now && held.job == *job => return Ok(held),
            Ok(held) => {
                if held.deadline > now && !held.is_over(store).await? {
                    return Err(held.overlap(registry));
                }
                store.delete(&key).await?;
            }
            Err(e) if e.kind() == Kind::NotFound => {}
            Err(e) => return Err(e),
        }
        let minutes = SignedDuration::from_mins(i64::try_from(minutes).unwrap_or(i64::from(u32::MAX)));
        let (job, night) = (job.clone(), night.clone());
        let lease = Self { job, night, started: now, deadline: now.saturating_add(minutes).unwrap_or(Timestamp::MAX) };
        let body = serde_json::to_vec(&lease).map_err(|e| Error::internal("a lease has no JSON form").because(e))?;
        if store.create(&key, body.into()).await? {
            lease.confirm(store, registry).await?;
            return Ok(lease);
        }
        let held: Self = store.get_json(&key, LIMIT).await?;
        if held.job == lease.job { Ok(held) } else { Err(held.overlap(registry)) }
    }

    /// Whether its night has written down how it ended, and died before it could give the lease back.
    async fn is_over(&self, store: &dyn Store) -> Result<bool> {
        match store.get(&JobSpec::prefix(&self.job).join("result/night.json")).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == Kind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Two nights that find an expired lease at once both delete it, and the second one deletes what the first one has
    /// taken: whoever is about to change what later nights build on looks again.
    ///
    /// # Errors
    /// Of kind `Job` when it is another night's by now.
    pub async fn confirm(&self, store: &dyn Store, registry: &Registry) -> Result<()> {
        match store.get_json::<Self>(&key(registry), LIMIT).await {
            Ok(held) if held == *self => Ok(()),
            Ok(held) => Err(held.overlap(registry)),
            Err(e) if e.kind() == Kind::NotFound => Err(Error::job(format!(
                "night {} of {} holds its lease no longer; another one has begun and ended meanwhile",
                self.night,
                registry.model()
            ))),
            Err(e) => Err(e),
        }
    }

    fn overlap(&self, registry: &Registry) -> Error {
        Error::job(format!(
            "night {} of {} is still going on (job {}, since {}, until {} at the latest); two nights of one model must not \
             overlap",
            self.night,
            registry.model(),
            self.job,
            self.started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            self.deadline.strftime("%Y-%m-%dT%H:%M:%SZ"),
        ))
    }

    /// What is left until the deadline.
    pub fn left(&self) -> std::time::Duration {
        self.deadline.duration_since(Timestamp::now()).try_into().unwrap_or_default()
    }

    /// Gives up what `job` holds.
    pub async fn clear(store: &dyn Store, registry: &Registry, job: &JobId) -> Result<()> {
        match store.get_json::<Self>(&key(registry), LIMIT).await {
            Ok(held) if held.job == *job => held.release(store, registry).await,
            Err(e) if e.kind() != Kind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Gives it up.
    pub async fn release(&self, store: &dyn Store, registry: &Registry) -> Result<()> {
        match store.get_json::<Self>(&key(registry), LIMIT).await {
            Ok(held) if held == *self => store.delete(&key(registry)).await,
            Err(e) if e.kind() != Kind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

fn key(registry: &Registry) -> Key {
    registry.root().join("night.json")
}
