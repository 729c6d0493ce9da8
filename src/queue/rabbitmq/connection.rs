//! Connections that come back, and channels that close in order. lapin's own recovery stays off:
//! two mechanisms would make two consumers of one.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use lapin::options::BasicConsumeOptions;
use lapin::tcp::{AMQPUriTcpExt, TLSConfig};
use lapin::types::FieldTable;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::{info, warn};

use super::address::Address;
use super::fault::{Fault, Trial, connecting};
use super::topology::Topology;
use crate::error::{Error, Result};

/// How long the network and then the broker may take to answer.
const DIAL: Duration = Duration::from_secs(10);
const HANDSHAKE: Duration = Duration::from_secs(30);

/// One connection, made when needed and again after each loss.
pub(super) struct Link {
    address: Address,
    name: &'static str,
    patience: Option<Duration>,
    /// What to declare on each new connection.
    topology: Option<Topology>,
    live: Mutex<Option<Arc<Connection>>>,
}

impl Link {
    pub fn new(address: Address, name: &'static str, patience: Option<Duration>, topology: Option<Topology>) -> Self {
        Self { address, name, patience, topology, live: Mutex::default() }
    }

    pub fn trial(&self) -> Trial {
        Trial::new(self.patience)
    }

    /// The connection; waits for the broker as long as patience lasts.
    pub async fn connection(&self) -> Result<Arc<Connection>> {
        let mut live = self.live.lock().await;
        if let Some(connection) = live.as_ref().filter(|c| c.status().connected()) {
            return Ok(connection.clone());
        }
        let place = self.address.place();
        if live.take().is_some() {
            warn!(broker = %place, connection = self.name, "lost the connection to the broker; connecting again");
        }
        let mut trial = self.trial();
        loop {
            match self.open().await {
                Ok(connection) => {
                    info!(broker = %place, connection = self.name, failures = trial.failures(), "connected to the broker");
                    let connection = Arc::new(connection);
                    *live = Some(connection.clone());
                    return Ok(connection);
                }
                Err(fault) => {
                    if let (0, Fault::Passing(error)) = (trial.failures(), &fault) {
                        warn!(broker = %place, error = %error.chain(), "no connection to the broker; trying on");
                    }
                    trial.again(fault).await?;
                }
            }
        }
    }

    /// A new channel.
    pub async fn line(&self) -> Result<Line, Fault> {
        let connection = self.connection().await.map_err(Fault::Final)?;
        Ok(Line::new(connection.create_channel().await?))
    }

    /// Declares what is missing: somebody may delete a queue under a running program.
    async fn mend(&self) -> Result<(), Fault> {
        match &self.topology {
            Some(topology) => topology.declare(&self.line().await?).await,
            None => Ok(()),
        }
    }

    /// After a failed attempt at something: waits a while and restores what was missing; or returns the
    /// failure, if there shall be no other attempt.
    pub async fn again(&self, trial: &mut Trial, fault: Fault) -> Result<()> {
        let missing = matches!(fault, Fault::Missing(_));
        trial.again(fault).await?;
        match missing.then_some(self.mend()) {
            Some(mending) => mending.await.or_else(|fault| match fault {
                Fault::Final(error) => Err(error),
                Fault::Passing(_) | Fault::Missing(_) => Ok(()),
            }),
            None => Ok(()),
        }
    }

    async fn open(&self) -> Result<Connection, Fault> {
        let place = self.address.place();
        let connecting_now = timeout(HANDSHAKE, self.handshake()).await;
        let connection = match connecting_now {
            Ok(outcome) => outcome.map_err(|e| connecting(e, self.address.user(), &place))?,
            Err(_) => return Err(Fault::Passing(Error::queue(format!("the broker at {place} does not answer")))),
        };
        if let Some(topology) = &self.topology {
            topology.declare(&Line::new(connection.create_channel().await?)).await?;
        }
        Ok(connection)
    }

    async fn handshake(&self) -> lapin::Result<Connection> {
        let tls = self.address.tls.clone();
        let connect = async move |uri: AMQPUri, runtime| {
            let plain = AMQPUri { scheme: AMQPScheme::AMQP, ..uri.clone() };
            let dialled = timeout(DIAL, async {
                let stream = plain.connect_with_config_async(TLSConfig::default(), &runtime).await?;
                match &tls {
                    Some(tls) => stream.into_rustls(tls, &uri.authority.host).await,
                    None => Ok(stream),
                }
            });
            let stream = dialled.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
            stream.map_err(lapin::Error::from)
        };
        let properties = ConnectionProperties::default().with_connection_name(format!("hardy {}", self.name).into());
        Connection::connector(self.address.uri.clone(), lapin::runtime::default_runtime()?, connect, properties).await
    }
}

/// A channel that is closed before its consumers go: lapin would send both orders at once, and a
/// cancellation that comes too late counts there as a fault of the whole connection.
pub(super) struct Line {
    channel: Channel,
    consumers: StdMutex<Vec<lapin::Consumer>>,
    runtime: Handle,
}

impl Line {
    fn new(channel: Channel) -> Self {
        Self { channel, consumers: StdMutex::default(), runtime: Handle::current() }
    }

    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub fn connected(&self) -> bool {
        self.channel.status().connected()
    }

    /// Starts to consume one queue.
    pub async fn consume(&self, queue: &str) -> lapin::Result<lapin::Consumer> {
        let consumer = self
            .channel
            .basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await?;
        self.consumers().push(consumer.clone());
        Ok(consumer)
    }

    /// Forgets consumers that were cancelled.
    pub fn forget(&self) {
        self.consumers().clear();
    }

    fn consumers(&self) -> std::sync::MutexGuard<'_, Vec<lapin::Consumer>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.connected() {
            let (channel, consumers) = (self.channel.clone(), std::mem::take(&mut *self.consumers()));
            self.runtime.spawn(async move {
                // A connection lost meanwhile has closed the channel as well.
                let _ = channel.close(200, "done".into()).await;
                drop(consumers);
            });
        }
    }
}
