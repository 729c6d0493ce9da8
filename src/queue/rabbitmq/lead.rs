//! Leadership: whoever owns the exclusive queue leads. The broker gives it to one connection at a time
//! and deletes it with that connection, together with the claim to what it consumed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::QueueDeclareOptions;
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;
use rand::RngExt;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::connection::{Line, Link};
use super::fault::{Fault, soft};
use crate::error::Result;
use crate::queue::Lead;

pub(super) struct RabbitLead {
    /// Ends with the channel or the connection; no message ever comes.
    claim: lapin::Consumer,
    _line: Line,
    /// The broker tells connections apart, not the parts of this process.
    _here: OwnedMutexGuard<()>,
}

/// Waits until the queue is free.
pub(super) async fn lead(link: &Link, queue: &str, here: Arc<Mutex<()>>) -> Result<RabbitLead> {
    let here = here.lock_owned().await;
    let mut trial = link.trial();
    loop {
        match claim(link, queue).await {
            Ok(Some((line, claim))) => return Ok(RabbitLead { claim, _line: line, _here: here }),
            Ok(None) => {
                trial = link.trial();
                let pause = Duration::from_millis(rand::rng().random_range(1000..3000));
                tokio::time::sleep(pause).await;
            }
            Err(fault) => trial.again(fault).await?,
        }
    }
}

async fn claim(link: &Link, queue: &str) -> Result<Option<(Line, lapin::Consumer)>, Fault> {
    let line = link.line().await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    match line.channel().queue_declare(queue.into(), options, FieldTable::default()).await {
        Err(error) if soft(&error) == Some(AMQPSoftError::RESOURCELOCKED) => return Ok(None),
        outcome => outcome?,
    };
    let claim = line.consume(queue).await?;
    Ok(Some((line, claim)))
}

#[async_trait]
impl Lead for RabbitLead {
    async fn lost(&mut self) {
        while let Some(Ok(_)) = self.claim.next().await {}
    }
}
