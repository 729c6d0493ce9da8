//! Which versions stay.

use std::collections::BTreeSet;

use super::{DESCRIPTION, Happening, Note, Registry};
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
        let going: Vec<VersionId> = old.filter(|id| !promoted.contains(id)).cloned().collect();
        for id in &going {
            let reason = format!("older than the {keep} newest and never current");
            let (version, night) = (Some(id.clone()), None);
            self.note(Note { what: Happening::Removed, version, night, reason, forced: false }).await?;
            self.store.delete(&self.folder(id).join(DESCRIPTION)).await?;
        }
        let mut left = self.listed().await?;
        left.retain(|id, keys| {
            let removed = |e: &super::Entry| e.note.what == Happening::Removed && e.note.version.as_ref() == Some(id);
            let whole = keys.iter().any(|k| k.name() == DESCRIPTION);
            !whole && (going.contains(id) || history.iter().any(removed))
        });
        for key in left.into_values().flatten() {
            self.store.delete(&key).await?;
        }
        Ok(going)
    }
}
