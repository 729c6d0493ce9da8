//! Whether a process is alive and whether it can work, for whoever watches over it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use tokio::time::timeout;

use crate::error::{Error, Kind, Result};
use crate::queue::{Queue, Topic};
use crate::store::{self, Key, Store};

/// A loop that has not come round for so long hangs: twice as long as anybody waits for a store.
const STALE: Duration = Duration::from_secs(2 * store::PATIENCE.as_secs());

/// How often a loop that only waits says that it is alive.
pub const BEAT: Duration = Duration::from_secs(5);

/// How long broker and store may take to answer.
const PROMPT: Duration = Duration::from_secs(3);

/// For how long an answer of both holds.
const FRESH: Duration = Duration::from_secs(5);

/// A loop's sign of life. Clones share it.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Mutex<Instant>>);

impl Default for Pulse {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Pulse {
    /// The loop has come round.
    pub fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits for `event`, beating.
    pub async fn during<T>(&self, event: impl Future<Output = T>) -> T {
        self.during_while(event, || true).await
    }

    /// Waits for `event`, beating as long as it `goes_on`.
    pub async fn during_while<T>(&self, event: impl Future<Output = T>, goes_on: impl Fn() -> bool) -> T {
        tokio::pin!(event);
        loop {
            if goes_on() {
                self.beat();
            }
            tokio::select! {
                happened = &mut event => return happened,
                () = tokio::time::sleep(BEAT) => {}
            }
        }
    }
}

fn age(beat: &Mutex<Instant>) -> Duration {
    beat.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
}

/// Broker and store of this process.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The queue.
    pub queue: Arc<dyn Queue>,
}

/// The state of one process.
#[derive(Debug, Default)]
pub struct Health {
    /// Those whose loops have ended are gone.
    pulses: Mutex<Vec<(String, Weak<Mutex<Instant>>)>>,
    ends: OnceLock<Ends>,
    answered: tokio::sync::Mutex<Option<Instant>>,
}

impl Health {
    /// Watches over a loop from now on, until it drops its pulse.
    pub fn pulse(&self, name: impl Into<String>) -> Pulse {
        let pulse = Pulse::default();
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).push((name.into(), Arc::downgrade(&pulse.0)));
        pulse
    }

    /// The process has reached broker and store for the first time.
    pub fn connected(&self, store: &Arc<dyn Store>, queue: &Arc<dyn Queue>) {
        // It happens once.
        let _ = self.ends.set(Ends { store: store.clone(), queue: queue.clone() });
    }

    /// Broker and store.
    ///
    /// # Errors
    /// As long as they have not been reached.
    pub fn ends(&self) -> Result<&Ends> {
        self.ends.get().ok_or_else(|| Error::queue("broker and store have not been reached yet"))
    }

    /// Says which loop hangs, if one does.
    ///
    /// # Errors
    /// Naming it.
    pub fn alive(&self) -> Result<()> {
        self.alive_within(STALE)
    }

    fn alive_within(&self, limit: Duration) -> Result<()> {
        let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ages = pulses.iter().filter_map(|(name, pulse)| Some((name, age(&*pulse.upgrade()?))));
        match ages.find(|(_, age)| *age > limit) {
            Some((name, age)) => Err(Error::internal(format!("{name} has hung for {} s", age.as_secs()))),
            None => Ok(()),
        }
    }

    /// Asks broker and store.
    ///
    /// # Errors
    /// Of kind `Queue` or `Storage`, when one does not answer.
    pub async fn ready(&self) -> Result<()> {
        let ends = self.ends()?;
        let mut answered = self.answered.lock().await;
        if answered.is_some_and(|at| at.elapsed() < FRESH) {
            return Ok(());
        }
        *answered = None;
        let broker = timeout(PROMPT, ends.queue.backlog(Topic::Dead)).await;
        broker.map_err(|_| Error::queue("the broker does not answer"))??;
        let listing = async { ends.store.list(Some(&Key::new("open")?)).await?.try_next().await };
        match timeout(PROMPT, listing).await.map_err(|_| Error::storage("the store does not answer"))? {
            // A name that no key can have: somebody else's object, and an answer.
            Err(e) if e.kind() != Kind::Data => return Err(e),
            _ => {}
        }
        *answered = Some(Instant::now());
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::queue::MemoryQueue;
    use crate::store::LocalStore;

    #[tokio::test]
    async fn a_loop_that_does_not_come_round_is_named() {
        let health = Health::default();
        let pulse = health.pulse("the worker w.0");
        assert_eq!(pulse.during(async { 7 }).await, 7);
        assert!(health.alive_within(Duration::from_secs(60)).is_ok());
        let hung = health.alive_within(Duration::ZERO).unwrap_err();
        assert!(hung.chain().contains("the worker w.0 has hung"), "{hung}");
        drop(pulse);
        assert!(health.alive_within(Duration::ZERO).is_ok(), "a worker that has left does not hang");
    }

    #[tokio::test]
    async fn a_loop_whose_work_does_not_go_on_is_named() {
        let health = Health::default();
        let pulse = health.pulse("the worker w.0");
        let short = Duration::from_millis(100);
        let waiting = async |goes_on: bool| {
            tokio::time::sleep(short).await;
            let work = pulse.during_while(std::future::pending::<()>(), || goes_on);
            assert!(timeout(short / 4, work).await.is_err());
            health.alive_within(short).is_ok()
        };
        assert!(waiting(true).await);
        assert!(!waiting(false).await);
    }

    #[tokio::test]
    async fn is_ready_once_broker_and_store_answer() {
        let health = Health::default();
        assert!(health.ready().await.unwrap_err().chain().contains("not been reached"));
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(&folder.path().join("store")).unwrap());
        let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::new(3));
        // What no key can be called, among the markers.
        let open = folder.path().join("store/open");
        std::fs::create_dir(&open).unwrap();
        std::fs::write(open.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        health.connected(&store, &queue);
        health.ready().await.unwrap();
    }
}
