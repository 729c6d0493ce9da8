//! `hardy watch` and `hardy submit --wait`: follows a job until it ends.

use std::time::{Duration, Instant};

use clap::Args;

use super::SettingsArgs;
use super::cluster;
use super::jobs::verdict;
use super::terminal::{Screen, left};
use crate::coordinator::Progress;
use crate::error::Result;
use crate::jobs::{Jobs, StageStatus, State, Status};
use crate::task::JobId;

/// How often the store is asked, once a job has been watched for twenty times as long; a short one is waited for
/// closely.
const INTERVAL: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hardy watch nightly-2026-11-22
  hardy watch --json nightly-2026-11-22   # the whole status as a line whenever it changes

Ends with the job; exit code 0 when it is done, 7 when it failed or was cancelled, 8 when it is a night whose model
the gate rejected.")]
pub(super) struct WatchArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The job.
    job: JobId,
}

pub(super) fn run(args: WatchArgs, as_json: bool, quiet: bool) -> Result<()> {
    let settings = args.settings.resolve()?.settings;
    let end = cluster::block_on(async {
        let jobs = Jobs::new(cluster::store(&settings).await?);
        follow(&jobs, &args.job, as_json, quiet).await
    })?;
    verdict(&end)
}

/// Shows how a job goes until it has ended; returns how it ended.
pub(super) async fn follow(jobs: &Jobs, job: &JobId, as_json: bool, quiet: bool) -> Result<Status> {
    let began = Instant::now();
    let mut screen = (!quiet && !as_json).then(Screen::new);
    let mut shown = Status::waiting(job, "");
    loop {
        let status = jobs.status(job).await?;
        if as_json && status != shown && !quiet {
            println!("{}", serde_json::to_string(&status).unwrap_or_default());
        }
        if let Some(screen) = &mut screen {
            screen.pace(pace(&status));
            changes(&shown, &status).iter().for_each(|change| screen.show(change));
            if status.state != shown.state {
                let leader =
                    if status.state == State::Running { &*format!(" under {}", status.coordinator) } else { "" };
                eprintln!("{job} is {}{leader}", status.state);
            }
        }
        if status.has_ended() {
            return Ok(status);
        }
        shown = status;
        tokio::time::sleep((began.elapsed() / 20).clamp(SHORTEST, INTERVAL)).await;
    }
}

/// How fast a job goes, who works for it, and when its stage will be done.
pub(super) fn pace(status: &Status) -> String {
    let workers = match status.workers.len() {
        1 => "1 worker".to_string(),
        count => format!("{count} workers"),
    };
    format!("{:.1} images/s, {workers}{}", status.images_per_second, status.stage_seconds_left.map_or("".into(), left))
}

/// What lies between two looks at a job in the words of its progress.
fn changes(before: &Status, now: &Status) -> Vec<Progress> {
    let mut changes = Vec::new();
    let name = |stage: &Option<StageStatus>| stage.as_ref().map(|s| (s.name.clone(), s.tasks));
    let known = rounds_in_common(before, now);
    if let Some(stage) = &now.stage {
        let (mut done, mut images) = before.stage.as_ref().map_or((0, 0), |s| (s.done, s.images));
        if name(&before.stage) != name(&now.stage) || stage.done < done {
            changes.extend(before.stage.as_ref().map(|old| Progress::StageDone { name: old.name.clone() }));
            changes.push(Progress::Stage { name: stage.name.clone(), tasks: stage.tasks, done: 0 });
            (done, images) = (0, 0);
        }
        changes.extend((done..stage.done).map(|_| Progress::TaskDone));
        changes.push(Progress::Images(stage.images.saturating_sub(images)));
    }
    changes.extend(now.rounds[known..].iter().map(|r| Progress::Round(Box::new(r.clone()))));
    changes.extend(now.guard.iter().skip(before.guard.len()).cloned().map(Progress::Guard));
    changes
}

/// A coordinator that takes over tells its rounds from the beginning.
fn rounds_in_common(before: &Status, now: &Status) -> usize {
    before.rounds.len().min(now.rounds.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::task::WorkerId;

    #[test]
    fn the_pace_names_workers_and_the_time_that_is_left() {
        let mut status = Status::waiting(&"j".parse().unwrap(), "");
        assert_eq!(pace(&status), "0.0 images/s, 0 workers");
        status.images_per_second = 12.34;
        status.stage_seconds_left = Some(61.2);
        status.workers = vec![WorkerId("a.0".into())];
        assert_eq!(pace(&status), "12.3 images/s, 1 worker, about 61 s left");
    }

    #[test]
    fn a_stage_is_shown_with_what_was_done_of_it_since_the_last_look() {
        let mut before = Status::waiting(&"j".parse().unwrap(), "");
        let stage = StageStatus { name: "shards".into(), done: 1, tasks: 4, images: 10, seconds: 1.0 };
        before.stage = Some(stage.clone());
        let now = Status { stage: Some(StageStatus { done: 3, images: 30, ..stage }), ..before.clone() };
        let changed = changes(&before, &now);
        assert!(matches!(&changed[..], [Progress::TaskDone, Progress::TaskDone, Progress::Images(20)]), "{changed:?}");
    }
}
