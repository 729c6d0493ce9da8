//! The photos of a job where they come from. That is not the cluster's store: a bucket that is misspelt or forbidden is
//! the fault of one job and no reason to keep the others waiting.

use std::sync::Arc;

use futures_util::TryStreamExt;

use super::stage::Job;
use crate::config::StoreSettings;
use crate::error::{Error, Kind, Result};
use crate::store::{self, Entry, Store};

/// Opens the job's source.
pub(super) async fn open(job: &Job, access: &StoreSettings) -> Result<Arc<dyn Store>> {
    reach(job, store::open(&job.spec.source, access)).await
}

/// Everything that lies in it.
pub(super) async fn entries(job: &Job, source: &dyn Store) -> Result<Vec<Entry>> {
    let listing = async { source.list(None).await?.try_collect::<Vec<Entry>>().await };
    reach(job, listing).await
}

/// Waits for `work` on the source, unless the job is cancelled. The source has been patient before it failed, so the job
/// fails with it; where the cluster's store is away as well, that is what is said.
async fn reach<T>(job: &Job, work: impl Future<Output = Result<T>>) -> Result<T> {
    let outcome = tokio::select! {
        biased;
        () = job.cancelled.cancelled() => return Err(Error::job("the job was cancelled")),
        outcome = work => outcome,
    };
    match outcome {
        Err(e) if e.kind() == Kind::Storage => {
            if let Err(away) = job.store.get_blob(&job.spec_blob).await
                && away.kind() == Kind::Storage
            {
                return Err(away);
            }
            Err(Error::data(format!("the photos {} cannot be read", job.spec.source.escape_debug())).because(e))
        }
        outcome => outcome,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use crate::faulty::away;
    use crate::store::LocalStore;

    async fn job(folder: &tempfile::TempDir, below: &'static str) -> Job {
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let mut job = Job::for_tests(&store, Layers::new().unwrap().resolve().unwrap().settings).await;
        job.store = away(&store, below);
        job
    }

    async fn refused<T>(kind: Kind) -> Result<T> {
        Err(Error::new(kind, "the bucket cannot be opened").because("NoSuchBucket"))
    }

    #[tokio::test]
    async fn a_source_that_cannot_be_read_fails_its_job_and_not_the_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let job = job(&folder, "nothing is away").await;
        let error = reach(&job, refused::<()>(Kind::Storage)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Data);
        for words in ["s3://nowhere/photos", "cannot be opened", "NoSuchBucket"] {
            assert!(error.chain().contains(words), "{}", error.chain());
        }
        assert_eq!(reach(&job, refused::<()>(Kind::Usage)).await.unwrap_err().kind(), Kind::Usage);
        assert_eq!(reach(&job, async { Ok(7) }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn where_the_clusters_store_is_away_too_the_job_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let job = job(&folder, "spec.json").await;
        assert_eq!(reach(&job, refused::<()>(Kind::Storage)).await.unwrap_err().kind(), Kind::Storage);
    }

    #[tokio::test]
    async fn nobody_waits_for_the_source_of_a_cancelled_job() {
        let folder = tempfile::tempdir().unwrap();
        let job = job(&folder, "nothing is away").await;
        job.cancelled.cancel();
        let error = reach(&job, std::future::pending::<Result<()>>()).await.unwrap_err();
        assert!(error.kind() == Kind::Job && error.to_string().contains("cancelled"), "{error}");
    }
}
