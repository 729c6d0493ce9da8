//! The models of the registry, read again when something has happened to one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::answer::{SLOW, within};
use crate::error::Result;
use crate::registry::Registry;
use crate::report::Trend;
use crate::store::Store;
use crate::task::ModelName;

/// For how long what was read is told again: many may look at once.
const FRESH: Duration = Duration::from_secs(5);

/// A memory of histories.
#[derive(Debug, Default)]
pub(super) struct Models(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    read: Option<Instant>,
    /// With the number of the newest entry.
    trends: BTreeMap<ModelName, (u64, Arc<Trend>)>,
}

impl Models {
    /// All models with their histories; robust accuracy at the budget `epsilon`, pixel scale.
    pub async fn all(&self, store: &Arc<dyn Store>, epsilon: f64) -> Result<Vec<Arc<Trend>>> {
        let mut known = self.0.lock().await;
        if known.read.is_none_or(|at| at.elapsed() > FRESH) {
            within(SLOW, known.refresh(store, epsilon)).await?;
            known.read = Some(Instant::now());
        }
        Ok(known.trends.values().map(|(_, trend)| trend.clone()).collect())
    }
}

impl Known {
    async fn refresh(&mut self, store: &Arc<dyn Store>, epsilon: f64) -> Result<()> {
        let names = Registry::models(&**store).await?;
        self.trends.retain(|name, _| names.contains(name));
        for name in names {
            let registry = Registry::new(store.clone(), &name);
            let Some(head) = registry.head().await? else { continue };
            if self.trends.get(&name).is_none_or(|(number, _)| *number != head.number) {
                let trend = Arc::new(registry.trend(epsilon).await?);
                self.trends.insert(name, (head.number, trend));
            }
        }
        Ok(())
    }
}
