//! The one thread of a worker that computes. libtorch runs nowhere else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use tokio::sync::oneshot;
use tracing::Span;

use super::compute::Compute;
use crate::error::{Context, Error, Kind, Result};
use crate::model::caught;
use crate::task::WorkerId;

type Parcel = Box<dyn FnOnce(&mut Compute) + Send>;

/// A handle to the thread. Dropped, the thread rests after what it is doing; it never ends, see [`Thread::start`].
#[derive(Debug)]
pub(crate) struct Thread {
    parcels: mpsc::Sender<Parcel>,
}

impl Thread {
    /// The thread lives as long as the process, with the model it used last: the libraries below have destructors of
    /// their own for threads and tensors, and they have crashed a process that was about to end well.
    pub(super) fn start(worker: &WorkerId) -> Result<Self> {
        let (parcels, inbox) = mpsc::channel::<Parcel>();
        std::thread::Builder::new()
            .name(format!("compute {worker}"))
            .spawn(move || {
                let mut compute = Compute::default();
                while let Ok(parcel) = inbox.recv() {
                    parcel(&mut compute);
                }
                loop {
                    std::thread::park();
                }
            })
            .context(Kind::Internal, || "the compute thread cannot be started".into())?;
        Ok(Self { parcels })
    }

    /// Runs `work` on the thread. A panic in it is an error of this task and of no other.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Compute) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, result) = oneshot::channel();
        let span = Span::current();
        let parcel: Parcel = Box::new(move |compute| {
            let _inside = span.enter();
            let outcome = catch_unwind(AssertUnwindSafe(|| caught(|| work(compute)))).unwrap_or_else(|panic| {
                *compute = Compute::default();
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                Err(Error::internal(format!("the computation panicked: {text}")))
            });
            // The receiver is gone when the task was given up; nobody wants the result then.
            let _ = answer.send(outcome);
        });
        self.parcels.send(parcel).map_err(|_| Error::internal("the compute thread has ended"))?;
        result.await.map_err(|_| Error::internal("the compute thread has ended"))?
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::no_gradient;

    #[tokio::test]
    async fn a_model_that_fails_on_the_way_back_ends_its_job_and_a_panic_only_its_task() {
        let thread = Thread::start(&WorkerId("w".into())).unwrap();
        let failed = thread.run(|_| -> Result<()> { no_gradient(&tch::TchError::Torch("no way back".into())) });
        let error = failed.await.unwrap_err();
        assert_eq!(error.kind(), Kind::Model);
        assert!(error.chain().contains("no way back"), "{}", error.chain());
        let panicked = thread.run(|_| -> Result<()> { panic!("a bug") }).await.unwrap_err();
        assert_eq!(panicked.kind(), Kind::Internal);
        assert_eq!(thread.run(|_| Ok(7)).await.unwrap(), 7);
    }
}
