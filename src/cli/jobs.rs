//! `hardy jobs`, `status`, `cancel`, `retry`, `fetch`: what people ask of the jobs of a cluster.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::SettingsArgs;
use super::cluster;
use super::watch::pace;
use crate::coordinator::export;
use crate::error::{Context, Error, Kind, Result};
use crate::jobs::{self, Jobs, State, Status};
use crate::outcome::Count;
use crate::task::JobId;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hardy jobs\n  hardy jobs --json | jq '.[] | select(.state == \"failed\")'")]
pub(super) struct JobsArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hardy status nightly-2026-11-22\n  hardy status --json nightly-2026-11-22")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The job; without it, every job on a line.
    job: Option<JobId>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hardy cancel nightly-2026-11-22   # what is done is kept; tasks in progress run out and are ignored
  hardy retry nightly-2026-11-22    # a failed or cancelled job goes on, without doing again what was done")]
pub(super) struct OneJobArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The job.
    job: JobId,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hardy fetch nightly-2026-11-22 --out results   # report.json, report.html, model/")]
pub(super) struct FetchArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The job.
    job: JobId,
    /// Where its results go.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub(super) fn list(args: JobsArgs, as_json: bool) -> Result<()> {
    let settings = args.settings.resolve()?.settings;
    let all = cluster::block_on(async { Jobs::new(cluster::store(&settings).await?).all().await })?;
    if as_json {
        return print_json(&all);
    }
    if all.is_empty() {
        println!("no jobs");
        return Ok(());
    }
    println!("{:<40} {:<10} {:<21} STAGE", "JOB", "STATE", "SUBMITTED");
    for status in &all {
        println!("{:<40} {:<10} {:<21} {}", status.job, status.state, status.submitted, place(status));
    }
    Ok(())
}

pub(super) fn status(args: StatusArgs, as_json: bool) -> Result<()> {
    let Some(job) = args.job else { return list(JobsArgs { settings: args.settings }, as_json) };
    let settings = args.settings.resolve()?.settings;
    let status = cluster::block_on(async { Jobs::new(cluster::store(&settings).await?).status(&job).await })?;
    if as_json {
        return print_json(&status);
    }
    print!("{}", describe(&status));
    Ok(())
}

pub(super) fn cancel(args: OneJobArgs, as_json: bool) -> Result<()> {
    change(args, as_json, "cancelling", async |jobs, job| jobs.cancel(job).await)
}

pub(super) fn retry(args: OneJobArgs, as_json: bool) -> Result<()> {
    change(args, as_json, "open again:", async |jobs, job| jobs.retry(job).await)
}

fn change(
    args: OneJobArgs,
    as_json: bool,
    what: &str,
    act: impl AsyncFnOnce(&Jobs, &JobId) -> Result<()>,
) -> Result<()> {
    let settings = args.settings.resolve()?.settings;
    cluster::block_on(async {
        let jobs = Jobs::new(cluster::store(&settings).await?);
        act(&jobs, &args.job).await?;
        jobs::wake(&*cluster::queue(&settings).await?, &args.job).await
    })?;
    if as_json {
        return print_json(&json!({ "job": args.job }));
    }
    println!("{what} {}", args.job);
    Ok(())
}

pub(super) fn fetch(args: FetchArgs, as_json: bool) -> Result<()> {
    let settings = args.settings.resolve()?.settings;
    cluster::block_on(async {
        let store = cluster::store(&settings).await?;
        let status = Jobs::new(store.clone()).status(&args.job).await?;
        if status.state != State::Done {
            let why = status.error.map(|(_, e)| format!(": {e}")).unwrap_or_default();
            return Err(Error::job(format!("job {} is {} and has no results{why}", args.job, status.state)));
        }
        export(&*store, &args.job, &args.out).await
    })?;
    if as_json {
        return print_json(&json!({ "job": args.job, "out": args.out }));
    }
    println!("results of {} in {}", args.job, args.out.display());
    Ok(())
}

/// What a job that has ended means for the exit code.
pub(super) fn verdict(status: &Status) -> Result<()> {
    match (status.state, &status.error) {
        (State::Failed, Some((_, error))) => Err(Error::job(format!("job {} failed: {error}", status.job))),
        (State::Failed, None) => Err(Error::job(format!("job {} failed", status.job))),
        (State::Done, _) => status.night.as_ref().map_or(Ok(()), |night| night.verdict()),
        (State::Cancelled, _) => Err(Error::job(format!("job {} was cancelled", status.job))),
        _ => Ok(()),
    }
}

fn place(status: &Status) -> String {
    match (&status.error, &status.stage) {
        (Some((_, error)), _) => error.clone(),
        (None, Some(stage)) if status.state == State::Running => {
            format!("{} {}/{}", stage.name, stage.done, stage.tasks)
        }
        _ => String::new(),
    }
}

fn describe(status: &Status) -> String {
    let mut text = format!("job        {}\nstate      {}\nsubmitted  {}\n", status.job, status.state, status.submitted);
    if !status.coordinator.is_empty() {
        text += &format!("leader     {}, seen {}\n", status.coordinator, status.updated);
    }
    if let Some(stage) = &status.stage {
        text += &format!("stage      {}: {} of {} tasks", stage.name, stage.done, stage.tasks);
        if status.state == State::Running {
            text += &format!(", {}", pace(status));
        }
        text += "\n";
    }
    if status.state == State::Running {
        let names: Vec<&str> = status.workers.iter().map(|w| w.0.as_str()).collect();
        text += &format!("workers    {} busy: {}\n", names.len(), names.join(", "));
    }
    if status.failures > 0 {
        let last = status.last_failure.as_deref().unwrap_or_default();
        text += &format!("failures   {} attempts, the last: {last}\n", status.failures);
    }
    if let Some(last) = &status.last_declined {
        text += &format!("declined   {} times, the last: {last}\n", status.declined);
    }
    for lost in &status.left_out {
        text += &format!("left out   {} {}\n", lost.task, lost.why);
    }
    if let Some(round) = status.rounds.last() {
        let held = |name: &str, count: Count| match count.n {
            0 => String::new(),
            _ => format!(", {name} {:.1} %", 100.0 * count.accuracy()),
        };
        text += &format!(
            "round      {} {}: loss {:.3}{}{}\n",
            round.phase,
            round.round + 1,
            round.loss,
            held("held clean", round.held_clean),
            held("PGD", round.held_pgd)
        );
    }
    for event in &status.guard {
        text += &format!("guard      round {}: {}\n", event.round + 1, event.what);
    }
    if let Some(night) = &status.night {
        text += &format!("night      {}\n", night.line());
    }
    if let Some((code, error)) = &status.error {
        text += &format!("error      {error} (exit code {code})\n");
    }
    text
}

pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context(Kind::Internal, || "the answer has no JSON form".into())?;
    println!("{text}");
    Ok(())
}
