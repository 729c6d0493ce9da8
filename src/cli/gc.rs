//! `hardy gc`: tidies up the store of a cluster, or of a `hardy run`.

use clap::Args;
use jiff::SignedDuration;

use super::SettingsArgs;
use super::cluster;
use super::jobs::print_json;
use crate::error::Result;
use crate::gc::{self, Sum};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hardy gc --dry-run
  hardy gc --keep-days 7
  hardy gc --set store.url=flowers-run/.hardy   # what killed attempts of a `hardy run` left

Removes outputs of attempts that failed or came second, logs of coordinators that were succeeded, whole
jobs that ended more than --keep-days ago, and what was copied for jobs that were never submitted, once
nothing has been added to it for two days. What counts, or may still count, stays.")]
pub(super) struct GcArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Jobs that ended before so many days go with everything they left.
    #[arg(long, default_value_t = 30, value_name = "DAYS")]
    keep_days: u32,
}

pub(super) fn run(args: GcArgs, as_json: bool) -> Result<()> {
    let settings = args.settings.resolve()?.settings;
    let keep = SignedDuration::from_hours(i64::from(args.keep_days) * 24);
    let collected = cluster::block_on(async {
        let store = cluster::store(&settings).await?;
        gc::collect(&store, keep, args.dry_run).await
    })?;
    if as_json {
        return print_json(&collected);
    }
    let line = |what: &str, sum: Sum| {
        println!("{what:<36} {:>8} objects  {:>10.1} MB", sum.objects, sum.bytes as f64 / 1e6);
    };
    line("attempts that do not count", collected.attempts);
    line("logs of earlier coordinators", collected.logs);
    line(&format!("{} jobs that ended long ago", collected.expired_jobs.len()), collected.expired);
    line("copied for jobs never submitted", collected.unfinished);
    if args.dry_run {
        println!("nothing was removed (--dry-run)");
    }
    Ok(())
}
