//! `hardy models promote` and `rollback`: which version is current.

use clap::Args;

use super::StoreArgs;
use super::words::or_none;
use crate::cli::jobs::print_json;
use crate::error::Result;
use crate::registry::{Entry, Forced, Registry};
use crate::task::{ModelName, VersionId};

#[derive(Debug, Args)]
pub(in crate::cli) struct PromoteArgs {
    #[command(flatten)]
    at: StoreArgs,
    /// The model.
    model: ModelName,
    /// The version.
    version: VersionId,
    /// Promote it although the gate does not let it.
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why; kept in the history.
    #[arg(long, requires = "force", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RollbackArgs {
    #[command(flatten)]
    at: StoreArgs,
    /// The model.
    model: ModelName,
    /// The version to go back to. Default: the one that was current before.
    #[arg(long, value_name = "VERSION")]
    to: Option<VersionId>,
    /// Why; kept in the history.
    #[arg(long, default_value = "by hand")]
    reason: String,
}

pub(super) async fn promote(args: PromoteArgs, json: bool) -> Result<()> {
    let settings = args.at.resolve()?;
    let registry = Registry::new(args.at.open(&settings).await?, &args.model);
    let forced = args.force.then(|| Forced { reason: args.reason.unwrap_or_default() });
    let entry = registry.promote(&args.version, &settings.gate, forced).await?;
    said(&entry, json)
}

pub(super) async fn rollback(args: RollbackArgs, json: bool) -> Result<()> {
    let settings = args.at.resolve()?;
    let registry = Registry::new(args.at.open(&settings).await?, &args.model);
    let entry = registry.roll_back(args.to.as_ref(), &args.reason).await?;
    said(&entry, json)
}

fn said(entry: &Entry, json: bool) -> Result<()> {
    if json {
        return print_json(entry);
    }
    println!(
        "{} is current, before it was {}; {}",
        or_none(entry.current.as_ref()),
        or_none(entry.previous.as_ref()),
        entry.note.reason
    );
    Ok(())
}
