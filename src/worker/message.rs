//! What the queue can bring a worker.

use crate::task::{Envelope, Task, VERSION};

/// A message, as far as it can be read.
#[derive(Debug)]
pub(super) enum Message {
    Task(Box<Task>),
    /// From a coordinator of another release.
    OtherVersion(Envelope),
    Unreadable(String),
}

pub(super) fn parse(body: &[u8]) -> Message {
    match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) if envelope.version != VERSION => Message::OtherVersion(envelope),
        Ok(_) => match serde_json::from_slice(body) {
            Ok(task) => Message::Task(task),
            Err(e) => Message::Unreadable(e.to_string()),
        },
        Err(e) => Message::Unreadable(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_of_another_version_can_be_answered_and_garbage_cannot() {
        let next = br#"{"version": 2, "job": "j", "id": "train-r0000-0-train-0", "work": {"kind": "dream"}}"#;
        assert!(matches!(parse(next), Message::OtherVersion(e) if e.version == 2 && e.task.0.starts_with("train")));
        for garbage in [&b""[..], b"hello", b"{}", br#"{"version": 1, "job": "../x", "id": "t"}"#] {
            assert!(matches!(parse(garbage), Message::Unreadable(_)), "{garbage:?}");
        }
    }
}
