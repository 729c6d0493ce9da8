//! The commands: what people type, turned into settings and calls. Nothing of the domain.

mod allocator;
mod bench_gpu;
mod completions;
mod config;
mod dataset;
mod predict;
pub mod report;
mod run;
mod terminal;
mod weights;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::config::{Layers, Resolved};
use crate::error::Result;

const EXIT_CODES: &str = "\
Exit codes:
  0 done              1 fault of hardy       2 wrong flag or setting    3 unusable data
  4 unusable model    5 store or disk        6 queue                    7 job failed
  8 gate rejected     9 not found            130 interrupted, resumable

Settings come from the built-in configs/default.toml, then --config FILE, then variables
such as HARDY_TRAIN__ROUNDS=3, then --set train.rounds=3. `hardy config show` prints them.";

/// Makes image classifiers robust: attacks a data set, trains on the attacks, proves what the model withstands.
#[derive(Debug, Parser)]
#[command(name = "hardy", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Print results as JSON on stdout.
    #[arg(long, global = true)]
    json: bool,
    /// Say more (-v, -vv).
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Say only what went wrong.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole job in this process: shards, baseline, adversarial training, evaluation, report.
    Run(run::RunArgs),
    /// Measure a model on photos: clean and under attack.
    Evaluate(run::EvaluateArgs),
    /// Write an FGSM copy of every photo into the same class folders of an output tree.
    Augment(run::AugmentArgs),
    /// Draw, download, import, split or verify photos.
    #[command(subcommand)]
    Dataset(dataset::DatasetCommand),
    /// Say what a model sees in photos.
    Predict(predict::PredictArgs),
    /// Import weights files.
    #[command(subcommand)]
    Weights(weights::WeightsCommand),
    /// Print the headline figures of a finished run.
    Report(super::cli::report::Args),
    /// Show settings and where they come from.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Check a GPU against the CPU and measure it.
    #[command(hide = true)]
    BenchGpu(bench_gpu::BenchArgs),
    /// Print a completion script for a shell.
    Completions(completions::CompletionsArgs),
}

/// Flags for settings.
#[derive(Debug, Args)]
pub(crate) struct SettingsArgs {
    /// A TOML file of settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, e.g. --set train.rounds=3; may be given again.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl SettingsArgs {
    /// The checked settings of all layers.
    pub(crate) fn resolve(&self) -> Result<Resolved> {
        let mut layers = Layers::new()?;
        if let Some(path) = &self.config {
            layers = layers.file(path)?;
        }
        layers.environment(std::env::vars())?.set(&self.set)?.resolve()
    }
}

impl Cli {
    /// Sets up logging as the flags ask for.
    pub fn start_logging(&self) {
        let level = match (self.quiet, self.verbose) {
            (true, _) => "error",
            (_, 0) => "warn",
            (_, 1) => "hardy=info,warn",
            _ => "hardy=debug,info",
        };
        let filter = tracing_subscriber::EnvFilter::try_from_env("HARDY_LOG").unwrap_or_else(|_| level.into());
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
        log.init();
    }

    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let (json, quiet) = (self.json, self.quiet);
        if matches!(self.command, Command::Run(_) | Command::Evaluate(_) | Command::Augment(_)) {
            allocator::keep_memory();
        }
        match self.command {
            Command::Run(args) => run::run(args, json, quiet),
            Command::Evaluate(args) => run::evaluate(args, json, quiet),
            Command::Augment(args) => run::augment(args, json, quiet),
            Command::Dataset(command) => dataset::run(command, json, quiet),
            Command::Predict(args) => predict::run(args, json),
            Command::Weights(command) => weights::run(command, json),
            Command::Report(args) => report::run(&args, json),
            Command::Config(command) => config::run(command, json),
            Command::BenchGpu(args) => bench_gpu::run(args),
            Command::Completions(args) => completions::run(args),
        }
    }
}
