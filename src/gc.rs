//! Removes from a store what nothing refers to any more: outputs of attempts that did not count, logs
//! of coordinators that were succeeded, everything of jobs that ended long ago, and what was copied for jobs
//! that nobody submitted in the end.

use std::sync::Arc;

use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::coordinator::{JobSpec, Memory};
use crate::error::{Kind, Result};
use crate::jobs::{Jobs, Status};
use crate::store::{Entry, Key, Store};
use crate::task::{JobId, TaskId};

/// For how long a client may copy nothing more before the job it copies for counts as never submitted.
const GRACE: SignedDuration = SignedDuration::from_hours(48);

/// What is read of an unfinished submission is refused above this size.
const LIMIT: u64 = 1 << 10;

/// What was removed, or would be.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Outputs of attempts that failed or came second.
    pub attempts: Sum,
    /// Logs of earlier coordinators.
    pub logs: Sum,
    /// Everything of jobs that ended before the limit.
    pub expired: Sum,
    /// The jobs these belonged to.
    pub expired_jobs: Vec<JobId>,
    /// What was copied for jobs that nobody submitted.
    pub unfinished: Sum,
}

/// Objects and their size.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// How many.
    pub objects: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// Collects on `store`. Jobs that ended more than `keep` ago go as a whole. With `dry_run` nothing is removed.
///
/// What a running job may still need stays: outputs of every attempt at a task that is not done.
pub async fn collect(store: &Arc<dyn Store>, keep: SignedDuration, dry_run: bool) -> Result<Collected> {
    let jobs = Jobs::new(store.clone());
    let mut collected = Collected::default();
    let mut entries = store.list(Some(&Key::new("jobs")?)).await?;
    let mut group: Vec<Entry> = Vec::new();
    loop {
        let next = entries.try_next().await?;
        let ends = match (&next, group.first()) {
            (Some(entry), Some(first)) => job_of(entry) != job_of(first),
            (None, Some(_)) => true,
            _ => false,
        };
        if ends {
            job(store, &jobs, std::mem::take(&mut group), keep, dry_run, &mut collected).await?;
        }
        match next {
            Some(entry) => group.push(entry),
            None => return Ok(collected),
        }
    }
}

fn job_of(entry: &Entry) -> Option<&str> {
    entry.key.as_str().split('/').nth(1)
}

async fn job(
    store: &Arc<dyn Store>,
    jobs: &Jobs,
    entries: Vec<Entry>,
    keep: SignedDuration,
    dry_run: bool,
    collected: &mut Collected,
) -> Result<()> {
    // Not a job of ours.
    let Some(Ok(id)) = entries.first().and_then(job_of).map(str::parse::<JobId>) else { return Ok(()) };
    let end = jobs.end(&id).await?;
    if end.as_ref().is_some_and(|end| is_expired(end, keep)) {
        return expire(store, jobs, id, entries, dry_run, collected).await;
    }
    match jobs.spec(&id).await {
        Err(e) if e.kind() == Kind::NotFound && end.is_none() => {
            return unfinished(store, &id, entries, dry_run, collected).await;
        }
        Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Data) => return Ok(()),
        other => drop(other?),
    }
    let prefix = JobSpec::prefix(&id);
    let memory = match Memory::of(&**store, &prefix).await {
        // What counts cannot be told, and the other jobs are not to wait for that.
        Err(e) if !e.kind().is_outage() => {
            warn!(job = %id, "left as it is: {}", e.chain());
            return Ok(());
        }
        memory => memory?,
    };
    let attempts = format!("{prefix}/attempts/");
    let logs = format!("{prefix}/log/");
    for entry in &entries {
        let key = entry.key.as_str();
        if let Some((task, rest)) = key.strip_prefix(&attempts).and_then(|k| k.split_once('/')) {
            let attempt = rest.split('/').next().unwrap_or_default();
            let useless = match memory.winner(&TaskId(task.to_string())) {
                Some(winner) => winner != attempt,
                None => end.is_some() || memory.failed(attempt),
            };
            if useless {
                remove(store, entry, dry_run, &mut collected.attempts).await?;
            }
        } else if let Some((folder, _)) = key.strip_prefix(&logs).and_then(|k| k.split_once('/'))
            && folder < memory.folder()
        {
            remove(store, entry, dry_run, &mut collected.logs).await?;
        }
    }
    Ok(())
}

/// Removes everything of a job.
async fn expire(
    store: &Arc<dyn Store>,
    jobs: &Jobs,
    id: JobId,
    mut entries: Vec<Entry>,
    dry_run: bool,
    collected: &mut Collected,
) -> Result<()> {
    // The lists first: a job that is only half there must not be listed. How it ended goes last: as long as that is
    // there, whoever is interrupted begins once more.
    if !dry_run {
        jobs.strike(&id).await?;
    }
    let end = JobSpec::prefix(&id).join("end.json");
    entries.sort_by_key(|entry| entry.key == end);
    for entry in &entries {
        remove(store, entry, dry_run, &mut collected.expired).await?;
    }
    collected.expired_jobs.push(id);
    Ok(())
}

/// What a collection found of a submission that was not finished. A listing has no dates.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    objects: usize,
    at: Timestamp,
}

/// Removes what was copied for a job that was never submitted, once nothing has been added to it for long enough.
async fn unfinished(
    store: &Arc<dyn Store>,
    id: &JobId,
    mut entries: Vec<Entry>,
    dry_run: bool,
    collected: &mut Collected,
) -> Result<()> {
    let note = JobSpec::prefix(id).join("unfinished.json");
    let objects = entries.iter().filter(|entry| entry.key != note).count();
    let before = match store.get_json::<Found>(&note, LIMIT).await {
        Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Data) => None,
        found => Some(found?).filter(|found| found.objects == objects),
    };
    match before {
        Some(found) if Timestamp::now().duration_since(found.at) > GRACE => {
            entries.sort_by_key(|entry| entry.key == note);
            for entry in &entries {
                remove(store, entry, dry_run, &mut collected.unfinished).await?;
            }
        }
        None if !dry_run => drop(store.put_json(&note, &Found { objects, at: Timestamp::now() }).await?),
        _ => {}
    }
    Ok(())
}

fn is_expired(end: &Status, keep: SignedDuration) -> bool {
    let ended: Option<Timestamp> = end.updated.parse().ok();
    ended.is_some_and(|ended| Timestamp::now().duration_since(ended) > keep)
}

async fn remove(store: &Arc<dyn Store>, entry: &Entry, dry_run: bool, sum: &mut Sum) -> Result<()> {
    sum.objects += 1;
    sum.bytes += entry.size;
    if dry_run { Ok(()) } else { store.delete(&entry.key).await }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use crate::coordinator::{Finished, Program};
    use crate::faulty::dying;
    use crate::jobs::State;
    use crate::store::LocalStore;

    async fn world() -> (tempfile::TempDir, Arc<dyn Store>, Jobs, JobId) {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(folder.path()).unwrap());
        let jobs = Jobs::new(store.clone());
        let id: JobId = "night".parse().unwrap();
        let settings = Layers::new().unwrap().resolve().unwrap().settings;
        let created = "2026-01-01T00:00:00Z".into();
        let spec = JobSpec { created, ..JobSpec::new(id.clone(), Program::Train, &settings, "photos") };
        assert!(jobs.submit(&spec).await.unwrap());
        let prefix = JobSpec::prefix(&id);
        for key in ["done/winner/a.tar", "done/loser/a.tar", "open/first/a.tar"] {
            store.put_bytes(&prefix.join(format!("attempts/{key}")), "12345").await.unwrap();
        }
        Memory::write_for_tests(&store, &prefix, "old", &[]).await;
        Memory::write_for_tests(&store, &prefix, "new", &[Finished::of("done", "winner")]).await;
        (folder, store, jobs, id)
    }

    async fn left(store: &Arc<dyn Store>) -> Vec<String> {
        let entries: Vec<_> = store.list(None).await.unwrap().try_collect().await.unwrap();
        entries.into_iter().map(|e| e.key.as_str().to_string()).collect()
    }

    #[tokio::test]
    async fn a_running_job_loses_only_what_can_never_count() {
        let (_folder, store, _, _) = world().await;
        let before = left(&store).await;
        let planned = collect(&store, SignedDuration::from_hours(1), true).await.unwrap();
        assert_eq!(left(&store).await, before, "a dry run removes nothing");
        assert_eq!(planned.attempts, Sum { objects: 1, bytes: 5 });
        assert_eq!(collect(&store, SignedDuration::from_hours(1), false).await.unwrap(), planned);
        let after = left(&store).await;
        assert!(after.contains(&"jobs/night/attempts/done/winner/a.tar".to_string()));
        assert!(after.contains(&"jobs/night/attempts/open/first/a.tar".to_string()), "it may still be reported");
        assert!(!after.iter().any(|k| k.contains("loser") || k.contains("-old/")), "{after:?}");
        assert_eq!(collect(&store, SignedDuration::from_hours(1), false).await.unwrap(), Collected::default());
    }

    #[tokio::test]
    async fn an_ended_job_keeps_what_counts_until_it_expires() {
        let (_folder, store, jobs, id) = world().await;
        let mut end = Status::waiting(&id, "2026-01-01T00:00:00Z");
        end.state = State::Done;
        jobs.close(&end).await.unwrap();
        collect(&store, SignedDuration::MAX, false).await.unwrap();
        let kept = left(&store).await;
        assert!(
            kept.iter().any(|k| k.contains("winner")) && !kept.iter().any(|k| k.contains("open/first")),
            "{kept:?}"
        );
        let expired = collect(&store, SignedDuration::from_hours(24), false).await.unwrap();
        assert_eq!(expired.expired_jobs, [id]);
        assert_eq!(left(&store).await, [""; 0]);
    }

    #[tokio::test]
    async fn an_expiry_that_is_cut_off_anywhere_is_begun_once_more() {
        for left_to_it in 0.. {
            let (_folder, store, jobs, id) = world().await;
            let mut end = Status::waiting(&id, "2026-01-01T00:00:00Z");
            end.state = State::Done;
            jobs.close(&end).await.unwrap();
            let keep = SignedDuration::from_hours(24);
            let died = collect(&dying(&store, left_to_it), keep, false).await.is_err();
            collect(&store, keep, false).await.unwrap();
            assert_eq!(left(&store).await, [""; 0], "cut off after {left_to_it} changes");
            if !died {
                assert!(left_to_it > 5, "it was cut off nowhere");
                return;
            }
        }
    }

    #[tokio::test]
    async fn what_a_client_copied_before_it_died_goes_once_it_has_rested() {
        let (_folder, store, ..) = world().await;
        let copied = async |name: &str| {
            let key = Key::new(format!("jobs/dead/photos/rose/{name}")).unwrap();
            store.put_bytes(&key, "12345").await.unwrap();
        };
        let collected = async |dry_run: bool| collect(&store, SignedDuration::MAX, dry_run).await.unwrap().unfinished;
        let rests = async |objects: usize, hours: i64| {
            let found = Found { objects, at: Timestamp::now() - SignedDuration::from_hours(hours) };
            store.put_json(&Key::new("jobs/dead/unfinished.json").unwrap(), &found).await.unwrap();
        };
        copied("a.jpg").await;
        let before = left(&store).await;
        assert_eq!(collected(true).await, Sum::default());
        assert_eq!(left(&store).await, before, "a dry run writes nothing");
        for _ in 0..2 {
            assert_eq!(collected(false).await, Sum::default(), "it may still be at it");
        }
        rests(1, 49).await;
        copied("b.jpg").await;
        assert_eq!(collected(false).await, Sum::default(), "it is at it");
        rests(2, 47).await;
        assert_eq!(collected(false).await, Sum::default());
        rests(2, 49).await;
        assert_eq!(collected(true).await.objects, 3);
        assert_eq!(collected(false).await.objects, 3);
        assert!(!left(&store).await.iter().any(|key| key.contains("dead")));
    }

    #[tokio::test]
    async fn a_job_whose_log_is_damaged_is_left_as_it_is_and_others_are_collected() {
        let (_folder, store, ..) = world().await;
        let page = Key::new("jobs/damaged/log/00000000-c/00000000.snapshot.json").unwrap();
        store.put_bytes(&page, "{").await.unwrap();
        let id: JobId = "damaged".parse().unwrap();
        let settings = Layers::new().unwrap().resolve().unwrap().settings;
        Jobs::new(store.clone()).submit(&JobSpec::new(id, Program::Train, &settings, "photos")).await.unwrap();
        let collected = collect(&store, SignedDuration::from_hours(1), false).await.unwrap();
        assert_eq!(collected.attempts.objects, 1);
        assert!(left(&store).await.contains(&page.as_str().to_string()));
    }
}
