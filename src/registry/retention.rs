//! Which versions stay.

use std::collections::BTreeSet;

use super::history::is_removed;
use super::{DESCRIPTION, Registry};
use crate::error::Result;
use crate::task::VersionId;

impl Registry {
    /// Removes versions, but the `keep` newest and every one that ever was current. Returns those that went.
    ///
    /// The description goes first: readers find a whole version or none. What a removal that broke off left
    /// behind goes the next time.
    pub async fn retain(&self, keep: usize) -> Result<Vec<VersionId>> {
        let history = self.history().await?;
        let promoted: BTreeSet<&VersionId> = history.iter().filter_map(|e| e.current.as_ref()).collect();
        let versions = self.versions().await?;
        let old = versions.iter().rev().skip(keep).map(|v| &v.id);
        let mut going: Vec<VersionId> = Vec::new();
        for id in old.filter(|id| !promoted.contains(id)) {
            if self.give_up(id, &format!("older than the {keep} newest and never current")).await? {
                self.store.delete(&self.folder(id).join(DESCRIPTION)).await?;
                going.push(id.clone());
            }
        }
        let mut left = self.listed().await?;
        left.retain(|id, keys| {
            let whole = keys.iter().any(|k| k.name() == DESCRIPTION);
            !whole && (going.contains(id) || is_removed(&history, id))
        });
        for key in left.into_values().flatten() {
            self.store.delete(&key).await?;
        }
        Ok(going)
    }
}
