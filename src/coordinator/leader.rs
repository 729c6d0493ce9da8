//! A coordinator of a cluster: waits until it leads, then runs every open job.
//!
//! Leading is a right that the broker gives to one connection. A coordinator that has lost it without
//! knowing can do no harm: what it still writes lies under its own, older epoch, and the reports it
//! thinks to have answered are delivered to the next one.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, info_span, warn};

use super::Coordinator;
use super::board::Board;
use super::post::{Inbox, Post};
use crate::error::{Error, Result};
use crate::jobs::{Jobs, State, Status};
use crate::metrics::CoordinatorMetrics;
use crate::task::JobId;
use crate::trace;

/// How often the store is asked for new jobs when nobody rings.
const SCAN: Duration = Duration::from_secs(5);

/// The jobs that run here, each yielding its id once it has ended.
type Running<'a> = FuturesUnordered<LocalBoxFuture<'a, (JobId, Result<()>)>>;

/// How long to wait after a failure of store or queue before leading again.
const PAUSE: Duration = Duration::from_secs(3);

/// Says that this coordinator leads no longer, however it comes to that.
struct Leading<'a>(&'a CoordinatorMetrics);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.0.lead(false);
    }
}

impl Coordinator {
    /// Leads whenever it can, until `stop`.
    pub async fn serve(&self, stop: CancellationToken) -> Result<()> {
        loop {
            info!(coordinator = self.id, "stands by");
            let mut lead = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                lead = self.pulse.during(self.queue.lead()) => lead?,
            };
            info!(coordinator = self.id, "leads");
            self.metrics.lead(true);
            let leading = Leading(&self.metrics);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = lead.lost() => warn!(coordinator = self.id, "leads no longer: the connection was lost"),
                broken = self.lead() => {
                    if let Err(e) = broken {
                        error!("stops leading: {}", e.chain());
                    }
                }
            }
            drop((lead, leading));
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Runs all open jobs, until store or queue fail.
    async fn lead(&self) -> Result<()> {
        let jobs = Jobs::new(self.store.clone());
        let post = Post::default();
        let mut known: HashMap<JobId, CancellationToken> = HashMap::new();
        let mut running = Running::new();
        // The inboxes must be open before the first report is read.
        self.take_up(&jobs, &post, &mut known, &running).await?;
        let sorting = post.sort(&*self.queue);
        tokio::pin!(sorting);
        loop {
            self.pulse.beat();
            tokio::select! {
                broken = &mut sorting => return broken,
                Some((job, outcome)) = running.next() => {
                    known.remove(&job);
                    outcome?;
                }
                () = post.bell.notified() => self.take_up(&jobs, &post, &mut known, &running).await?,
                () = tokio::time::sleep(SCAN) => self.take_up(&jobs, &post, &mut known, &running).await?,
            }
        }
    }

    /// Starts what is open and does not run, and cancels what somebody wants to end.
    async fn take_up<'a>(
        &'a self,
        jobs: &'a Jobs,
        post: &'a Post,
        known: &mut HashMap<JobId, CancellationToken>,
        running: &Running<'a>,
    ) -> Result<()> {
        for job in jobs.open().await? {
            if !known.contains_key(&job) {
                info!(%job, "taken up");
                let cancel = CancellationToken::new();
                known.insert(job.clone(), cancel.clone());
                // Its inbox takes what arrives before the job is ready to read it.
                let inbox = post.open(&job);
                let span = info_span!("job", %job, coordinator = self.id);
                trace::of_job(&span, &job);
                let run = async move {
                    let outcome = self.job(jobs, &job, inbox, cancel).instrument(span).await;
                    // The root of the trace ends after everything below it.
                    (job, outcome.map(|end| trace::ended(&end)))
                };
                running.push(Box::pin(run));
            }
        }
        for job in jobs.to_cancel().await? {
            match known.get(&job) {
                Some(cancel) => cancel.cancel(),
                // It ended at the same moment.
                None => jobs.forget_cancel(&job).await?,
            }
        }
        Ok(())
    }

    /// Runs one job to its end and writes down how it ended. Fails when store or queue do, and for nothing that lies
    /// on them: one damaged job must not hold up the others.
    async fn job(&self, jobs: &Jobs, id: &JobId, inbox: Inbox, cancel: CancellationToken) -> Result<Status> {
        if let Some(end) = jobs.end(id).await?.filter(Status::has_ended) {
            // Whoever ended it died before it could close the book.
            jobs.close(&end).await?;
            return Ok(end);
        }
        let spec = match jobs.spec(id).await {
            Err(e) if !e.kind().is_outage() => return self.unreadable(jobs, id, &e).await,
            spec => spec?,
        };
        let board = Board::new(Status::submitted(&spec), &self.id);
        let outcome = tokio::select! {
            outcome = self.perform(spec, board.observer(), inbox, cancel.clone()) => outcome?,
            () = board.keep_written(jobs) => Err(Error::internal("the board ended")),
        };
        let mut status = board.now();
        status.state = match &outcome {
            Ok(()) => State::Done,
            Err(_) if cancel.is_cancelled() => State::Cancelled,
            Err(_) => State::Failed,
        };
        if let (State::Failed, Err(e)) = (status.state, &outcome) {
            error!(job = %id, "failed: {}", e.chain());
            status.error = Some((e.kind().exit_code(), e.chain()));
        }
        info!(job = %id, state = %status.state, "ended");
        jobs.close(&status).await?;
        Ok(status)
    }

    async fn unreadable(&self, jobs: &Jobs, id: &JobId, e: &Error) -> Result<Status> {
        error!(job = %id, "cannot be read: {}", e.chain());
        let status = Status::failed(id, e);
        jobs.close(&status).await?;
        Ok(status)
    }
}
