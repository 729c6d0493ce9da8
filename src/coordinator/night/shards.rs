//! The shards of a model's photos, which outlive the jobs that packed them.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;

use super::ledger::{Ledger, Stored};
use crate::coordinator::preparation::pack_all;
use crate::coordinator::stage::Job;
use crate::coordinator::training::output;
use crate::dataset::ShardPlan;
use crate::error::Result;
use crate::registry::Registry;
use crate::store::{Blob, Key, Store};
use crate::task::VersionId;

/// Packs shards and copies them to where they outlive the job.
pub(super) async fn store(
    job: &mut Job,
    registry: &Registry,
    night: &VersionId,
    classes: &[String],
    plans: &[ShardPlan],
) -> Result<Vec<Stored>> {
    // Without one of them the ledger could not say where its photos are.
    let made = pack_all(job, classes, plans).await?;
    let mut stored = Vec::with_capacity(made.len());
    for (plan, success) in plans.iter().zip(&made) {
        let from = output(success, "shard")?;
        let key = place(registry, night, plan, &from);
        let blob = job.store.put(&key, job.store.get(&from.key).await?).await?;
        from.check(blob.size, &blob.sha256)?;
        stored.push(Stored { split: plan.split, samples: plan.samples.clone(), blob });
    }
    Ok(stored)
}

/// Where a shard of a night stays. Its content is a part of the name, so that none is ever written over by another one.
fn place(registry: &Registry, night: &VersionId, plan: &ShardPlan, shard: &Blob) -> Key {
    let content: String = shard.sha256.chars().take(12).collect();
    let name = format!("{}-{:05}-{content}.tar", plan.split.name(), plan.index);
    registry.root().join("data/shards").join(night).join(name)
}

/// Removes shards that no page refers to any more. Only the night that runs may do this.
pub(super) async fn tidy(store: &dyn Store, registry: &Registry) -> Result<()> {
    // A job that does not exist wrote no page: everything is read.
    let nobody = "none".parse()?;
    let ledger = Ledger::before(store, registry, &nobody).await?;
    let frozen = ledger.frozen.iter().flat_map(|f| &f.shards);
    let used: BTreeSet<&Key> = ledger.shards.iter().chain(frozen).map(|s| &s.blob.key).collect();
    let entries: Vec<_> = store.list(Some(&registry.root().join("data/shards"))).await?.try_collect().await?;
    for entry in entries.iter().filter(|e| !used.contains(&e.key)) {
        store.delete(&entry.key).await?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dataset::Split;
    use crate::store::LocalStore;

    #[test]
    fn shards_of_one_name_and_another_content_lie_beside_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let registry = Registry::new(store, &"flowers".parse().unwrap());
        let plan = ShardPlan { split: Split::Test, index: 3, samples: Vec::new() };
        let at = |content: &str| {
            let shard = Blob::of(Key::new("jobs/x/shard.tar").unwrap(), content.as_bytes());
            place(&registry, &VersionId("n1".into()), &plan, &shard)
        };
        assert_eq!(at("one"), at("one"));
        assert_ne!(at("one"), at("other"));
        assert!(at("one").as_str().starts_with("models/flowers/data/shards/n1/test-00003-"), "{}", at("one"));
    }
}
