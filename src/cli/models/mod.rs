//! `hardy models`: the versions of models and which one is current.

mod current;
mod diff;
mod files;
mod show;
mod words;

use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{SettingsArgs, cluster};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::registry::{Registry, Version};
use crate::store::Store;
use crate::task::{ModelName, VersionId};

use current::{PromoteArgs, RollbackArgs, promote, rollback};
use diff::{DiffArgs, diff};
use files::{AddArgs, ExportArgs, add, export};
use show::{ListArgs, OneArgs, list, show};

#[derive(Debug, Subcommand)]
pub(super) enum ModelsCommand {
    /// List all models, or the versions of one.
    #[command(after_help = "Examples:\n  hardy models list --store models\n  hardy models list flowers --json")]
    List(ListArgs),
    /// Say what a version is and what happened to it; without one, the current version.
    #[command(after_help = "Example:\n  hardy models show flowers 2026-11-22 --store models")]
    Show(OneArgs),
    /// Compare two versions image by image: figures, gate, settings.
    #[command(after_help = "Example:\n  hardy models diff flowers 2026-11-21 2026-11-22 --store models")]
    Diff(DiffArgs),
    /// Make a version current, if the gate lets it.
    #[command(after_help = "\
Examples:
  hardy models promote flowers 2026-11-22 --store models
  hardy models promote flowers 2026-11-22 --store models --force --reason \"roses matter less now\"

The gate compares it with the version that is current, from what both said of each image of the frozen test
set. Exit code 8 when it does not pass, or when another promotion came first; the reason of a forced
promotion is kept in the history.")]
    Promote(PromoteArgs),
    /// Make an earlier version current again.
    #[command(after_help = "\
Examples:
  hardy models rollback flowers --store models
  hardy models rollback flowers --store models --to 2026-11-20 --reason \"customers complain\"")]
    Rollback(RollbackArgs),
    /// Write a version's files into a folder.
    #[command(
        after_help = "Example:\n  hardy models export flowers --store models --out model   # the current version"
    )]
    Export(ExportArgs),
    /// Put the model of a finished run into the registry. It is not promoted by this.
    #[command(after_help = "Example:\n  hardy models add flowers 1.0 --from flowers-run --store models")]
    Add(AddArgs),
}

#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The store with the registry, instead of store.url: a folder or s3://bucket/prefix.
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
}

impl StoreArgs {
    /// Settings with the store they name.
    pub(super) fn resolve(&self) -> Result<Settings> {
        let mut settings = self.settings.resolve()?.settings;
        if let Some(url) = &self.store {
            settings.store.url.clone_from(url);
        }
        Ok(settings)
    }

    pub(super) async fn open(&self, settings: &Settings) -> Result<Arc<dyn Store>> {
        cluster::store(settings).await
    }
}

pub(super) fn run(command: ModelsCommand, json: bool) -> Result<()> {
    cluster::block_on(async {
        match command {
            ModelsCommand::List(args) => list(args, json).await,
            ModelsCommand::Show(args) => show(args, json).await,
            ModelsCommand::Diff(args) => diff(args, json).await,
            ModelsCommand::Promote(args) => promote(args, json).await,
            ModelsCommand::Rollback(args) => rollback(args, json).await,
            ModelsCommand::Export(args) => export(args, json).await,
            ModelsCommand::Add(args) => add(args, json).await,
        }
    })
}

async fn one(registry: &Registry, version: Option<VersionId>) -> Result<Version> {
    let id = match version {
        Some(id) => id,
        None => registry.current().await?.ok_or_else(|| unknown_current(registry.model()))?,
    };
    registry.version(&id).await
}

fn unknown_current(model: &ModelName) -> Error {
    Error::not_found(format!("{model} has no current version; `hardy models list {model}` lists what it has"))
}
