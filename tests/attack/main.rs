//! `hardy attack` from end to end, on a small TorchScript network that tests/python/script_fixture.py made.
#![allow(clippy::unwrap_used)]

mod evaluate;
mod folder;
mod imagenet;
mod patch;
mod photo;
mod refusals;
mod scene;
mod script;
