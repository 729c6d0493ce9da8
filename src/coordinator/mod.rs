//! The job as a program: it asks for stages of tasks and decides on what they bring.
//!
//! The program is deterministic and its log remembers every finished task, so that a coordinator
//! which starts over passes through the finished stages and goes on where the last one stopped.

mod log;

mod progress;
mod spec;
mod stage;

pub use progress::{Observer, Progress};
pub use spec::{JobSpec, Program};
pub use stage::Job;
