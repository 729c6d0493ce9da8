//! The commands: what people type, turned into settings and calls. Nothing of the domain.

mod cluster;
mod completions;
mod compute;
mod config;
mod coordinator;
mod dataset;
mod doctor;
mod gc;
mod jobs;
mod logging;
mod meter;
mod model;
mod models;
pub mod report;
mod submit;
mod terminal;
mod watch;
mod weights;

#[cfg(feature = "compute")]
mod attack;
#[cfg(feature = "compute")]
mod audience;
#[cfg(feature = "compute")]
mod bench_gpu;
#[cfg(feature = "compute")]
mod nightly;
#[cfg(feature = "compute")]
mod patch;
#[cfg(feature = "compute")]
mod predict;
#[cfg(feature = "compute")]
mod run;
#[cfg(feature = "compute")]
mod simulate;
#[cfg(feature = "compute")]
mod worker;

#[cfg(not(feature = "compute"))]
mod forwarded;
#[cfg(not(feature = "compute"))]
use forwarded::{attack, bench_gpu, nightly, patch, predict, run, worker};

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

pub use logging::{Logging, explain};

use crate::config::{Layers, Resolved};
#[cfg(feature = "compute")]
use crate::error::Error;
use crate::error::Result;

const EXAMPLES_AND_EXIT_CODES: &str = "\
Examples:
  hardy dataset synth --out photos                      # draws flowers, for a first run
  hardy run --data photos --out run                     # a robust model and its report
  hardy attack photo.jpg --epsilon 4/255                # breaks a photo on purpose
  hardy submit --data photos --name first --wait        # the same job on a cluster

Exit codes:
  0 done              1 fault of hardy       2 wrong flag or setting    3 unusable data
  4 unusable model    5 store or disk        6 queue                    7 job failed
  8 gate rejected     9 not found            130 interrupted, resumable

Settings come from the built-in configs/default.toml, then --config FILE, then variables
such as HARDY_TRAIN__ROUNDS=3, then --set train.rounds=3. `hardy config show` prints them.";

/// Makes image classifiers robust: attacks a data set, trains on the attacks, proves what the model withstands.
#[derive(Debug, Parser)]
#[command(name = "hardy", bin_name = "hardy", version, after_help = EXAMPLES_AND_EXIT_CODES)]
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
    /// Break a photo or a folder of photos on purpose.
    Attack(attack::AttackArgs),
    /// Train a printable patch that a model takes for something else.
    Patch(patch::PatchArgs),
    /// Write an FGSM copy of every photo into the same class folders of an output tree.
    Augment(run::AugmentArgs),
    /// Retrain a model every night, unwatched.
    Nightly(nightly::NightlyArgs),
    /// List, compare, promote and export the versions of models.
    #[command(subcommand, after_help = "Examples:\n  hardy models list\n  hardy models promote --help")]
    Models(models::ModelsCommand),
    /// Hand a job to a cluster.
    Submit(submit::SubmitArgs),
    /// List the jobs of a cluster.
    Jobs(jobs::JobsArgs),
    /// Say how a job of a cluster goes.
    Status(jobs::StatusArgs),
    /// Follow a job of a cluster until it ends.
    Watch(watch::WatchArgs),
    /// End a job of a cluster.
    Cancel(jobs::OneJobArgs),
    /// Open a failed or cancelled job again.
    Retry(jobs::OneJobArgs),
    /// Bring the results of a job of a cluster here.
    Fetch(jobs::FetchArgs),
    /// Remove from a store what nothing needs any more.
    Gc(gc::GcArgs),
    /// Check broker, store, device and weights, and say what to do about what is wrong.
    Doctor(doctor::DoctorArgs),
    /// Plan jobs, hand their tasks to workers and gather what they bring, until told to stop.
    Coordinator(coordinator::CoordinatorArgs),
    /// Do tasks of a cluster's jobs, until told to stop.
    Worker(worker::WorkerArgs),
    /// Draw, download, import, split or verify photos.
    #[command(subcommand, after_help = "Examples:\n  hardy dataset synth --out photos\n  hardy dataset split --help")]
    Dataset(dataset::DatasetCommand),
    /// Say what a model sees in photos.
    Predict(predict::PredictArgs),
    /// Import weights files.
    #[command(subcommand, after_help = "Example:\n  hardy weights import --help")]
    Weights(weights::WeightsCommand),
    /// Print the headline figures of a finished run, or draw the history of a model.
    Report(report::Args),
    /// Show settings and where they come from.
    #[command(subcommand, after_help = "Examples:\n  hardy config show\n  hardy config reference")]
    Config(config::ConfigCommand),
    /// Say what is computed with.
    #[command(hide = true)]
    Device {
        /// Settings of section `model` that are not the defaults.
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
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
        self.layers()?.resolve()
    }

    /// All layers, for a command that adds flags of its own.
    pub(crate) fn layers(&self) -> Result<Layers> {
        let mut layers = Layers::new()?;
        if let Some(path) = &self.config {
            layers = layers.file(path)?;
        }
        layers.environment(std::env::vars())?.set(&self.set)
    }
}

impl Cli {
    /// Sets up logging as the flags and `HARDY_LOG_FORMAT` ask for: text, or JSON lines that name job, task,
    /// attempt and worker and say how long each task took. Keep what is returned until the end.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for another format.
    pub fn start_logging(&self) -> Result<Logging> {
        let serves = matches!(self.command, Command::Coordinator(_) | Command::Worker(_));
        let level = match (self.quiet, self.verbose) {
            (false, 0) if serves => "hardy=info,warn",
            (true, _) => "error",
            (_, 0) => "warn",
            (_, 1) => "hardy=info,warn",
            _ => "hardy=debug,info",
        };
        logging::start(level)
    }

    /// Runs the command; one that computes is handed to the program beside this one that can.
    pub fn run(self) -> Result<()> {
        let (json, quiet) = (self.json, self.quiet);
        match self.command {
            Command::Models(command) => models::run(command, json),
            Command::Submit(args) => submit::run(args, json, quiet),
            Command::Jobs(args) => jobs::list(args, json),
            Command::Status(args) => jobs::status(args, json),
            Command::Watch(args) => watch::run(args, json, quiet),
            Command::Cancel(args) => jobs::cancel(args, json),
            Command::Retry(args) => jobs::retry(args, json),
            Command::Fetch(args) => jobs::fetch(args, json),
            Command::Gc(args) => gc::run(args, json),
            Command::Doctor(args) => doctor::run(args, json),
            Command::Coordinator(args) => coordinator::run(args),
            Command::Dataset(command) => dataset::run(command, json, quiet),
            Command::Weights(command) => weights::run(command, json),
            Command::Report(args) => report::run(args, json),
            Command::Config(command) => config::run(command, json),
            // The program that computes knows the flags of all commands.
            Command::Completions(args) if cfg!(feature = "compute") || !compute::is_here() => completions::run(args),
            Command::Completions(_)
            | Command::Run(_)
            | Command::Evaluate(_)
            | Command::Augment(_)
            | Command::Attack(_)
            | Command::Patch(_)
            | Command::Predict(_)
            | Command::Nightly(_)
            | Command::Worker(_)
            | Command::Device { .. }
            | Command::BenchGpu(_) => Err(compute::hand_over()),
        }
    }

    /// Runs a command that computes.
    #[cfg(feature = "compute")]
    pub fn compute(self) -> Result<()> {
        let (json, quiet) = (self.json, self.quiet);
        crate::model::caught(|| match self.command {
            Command::Run(args) => run::run(args, json, quiet),
            Command::Evaluate(args) => run::evaluate(args, json, quiet),
            Command::Augment(args) => run::augment(args, json, quiet),
            Command::Attack(args) => attack::run(args, json, quiet),
            Command::Patch(args) => patch::run(args, json, quiet),
            Command::Predict(args) => predict::run(args, json),
            Command::Nightly(args) => nightly::run(args, json, quiet),
            Command::Worker(args) => worker::run(args),
            Command::Completions(args) => completions::run(args),
            Command::BenchGpu(args) => bench_gpu::run(args),
            Command::Device { set } => {
                let settings = Layers::new()?.set(&set)?.resolve()?.settings.model;
                crate::model::check_device(&settings)?;
                let device = crate::model::device(&settings.device)?;
                println!(
                    "{}, libtorch {}, {}",
                    format!("{device:?}").to_lowercase(),
                    crate::model::libtorch_version(),
                    crate::model::instruction_set()
                );
                Ok(())
            }
            _ => Err(Error::usage(format!("this is the part of hardy that computes; call {}", compute::CLIENT))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_shows_how_it_is_used() {
        let mut open = vec![Cli::command()];
        while let Some(command) = open.pop() {
            let below = command.get_subcommands().filter(|c| !c.is_hide_set()).cloned();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example") && help.contains("hardy "), "{}: {help}", command.get_name());
            open.extend(below);
        }
    }
}
