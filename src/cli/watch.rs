//! `hardy watch` and `hardy submit --wait`: follows a job until it ends.

use std::time::Duration;

use clap::Args;

use super::SettingsArgs;
use super::cluster;
use super::jobs::verdict;
use super::terminal::{Audience, observer};
use crate::coordinator::{Observer, Progress};
use crate::error::Result;
use crate::jobs::{Jobs, StageStatus, State, Status};
use crate::task::JobId;

/// How often the store is asked.
const INTERVAL: Duration = Duration::from_secs(1);

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
    let screen = observer(if quiet || as_json { Audience::Nobody } else { Audience::Person });
    let mut shown = Status::waiting(job, "");
    loop {
        let status = jobs.status(job).await?;
        if as_json && status != shown && !quiet {
            println!("{}", serde_json::to_string(&status).unwrap_or_default());
        }
        show_changes(&screen, &shown, &status);
        if !as_json && !quiet && status.state != shown.state {
            let leader = if status.state == State::Running { &*format!(" under {}", status.coordinator) } else { "" };
            eprintln!("{job} is {}{leader}", status.state);
        }
        if status.has_ended() {
            return Ok(status);
        }
        shown = status;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Says what lies between two looks at a job in the words of its progress.
fn show_changes(screen: &Observer, before: &Status, now: &Status) {
    let name = |stage: &Option<StageStatus>| stage.as_ref().map(|s| (s.name.clone(), s.tasks));
    let known = rounds_in_common(before, now);
    if let Some(stage) = &now.stage {
        let (mut done, mut images) = before.stage.as_ref().map_or((0, 0), |s| (s.done, s.images));
        if name(&before.stage) != name(&now.stage) || stage.done < done {
            if let Some(old) = &before.stage {
                screen(&Progress::StageDone { name: old.name.clone() });
            }
            screen(&Progress::Stage { name: stage.name.clone(), tasks: stage.tasks, done: 0 });
            (done, images) = (0, 0);
        }
        screen(&Progress::Images(stage.images.saturating_sub(images)));
        (done..stage.done).for_each(|_| screen(&Progress::TaskDone));
    }
    now.rounds[known..].iter().for_each(|r| screen(&Progress::Round(Box::new(r.clone()))));
    now.guard.iter().skip(before.guard.len()).for_each(|e| screen(&Progress::Guard(e.clone())));
}

/// A coordinator that takes over tells its rounds from the beginning.
fn rounds_in_common(before: &Status, now: &Status) -> usize {
    before.rounds.len().min(now.rounds.len())
}
