//! `hardy coordinator`: plans jobs, hands out their tasks and gathers what they bring, until told to stop.

use clap::Args;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::SettingsArgs;
use super::cluster::{self, host_and_chance};
use crate::coordinator::Coordinator;
use crate::error::Result;
use crate::task::WorkerId;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  HARDY_QUEUE__URL=amqp://user:password@broker/vhost HARDY_STORE__URL=s3://bucket/hardy hardy coordinator

Any number may run; one leads, the others stand by. SIGTERM ends it; another one goes on with its jobs.")]
pub(super) struct CoordinatorArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Its name in logs and states. Default: host name and a random part.
    #[arg(long)]
    name: Option<WorkerId>,
}

pub(super) fn run(args: CoordinatorArgs) -> Result<()> {
    let settings = args.settings.resolve()?.settings;
    let id = args.name.unwrap_or_else(host_and_chance).0;
    cluster::block_on(async {
        let (store, queue) = tokio::select! {
            ends = cluster::stay(&settings) => ends?,
            () = cluster::interrupted() => return Ok(()),
        };
        let (access, policy, webhook) = (settings.store.clone(), settings.queue.clone(), settings.webhook.clone());
        let coordinator = Coordinator { store, queue, id, access, policy, webhook };
        let stop = CancellationToken::new();
        tokio::select! {
            outcome = coordinator.serve(stop.clone()) => outcome,
            () = cluster::interrupted() => {
                info!("told to stop; another coordinator goes on");
                Ok(())
            }
        }
    })
}
