//! A folder with a few synthetic photos, and the program to run on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A job small enough for a test: a network of our own at 32 pixels.
pub const SMALL: &[&str] = &[
    "model.architecture=hardy_small",
    "model.weights=none",
    "model.input_size=32",
    "data.shard_images=12",
    "data.near_duplicate_bits=0",
    "baseline.rounds=2",
    "train.rounds=2",
    "train.batch=8",
    "guard.images=10",
    "guard.steps=3",
    "guard.gap=1",
    "guard.drop=1",
    "adversary.freshness=round",
    "evaluate.attacks=[\"fgsm\", \"pgd5\"]",
    "evaluate.epsilons=[\"2/255\", \"8/255\"]",
    "evaluate.examples=4",
];

pub struct Scene {
    pub folder: TempDir,
    pub photos: PathBuf,
}

impl Scene {
    /// Twenty photos to train on and five to measure of each of five flowers.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let photos = folder.path().join("photos");
        let made = hardy(&["dataset", "synth", "--out", photos.to_str().unwrap(), "--per-class", "20", "--size", "40"]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        Self { folder, photos }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command of the small job, not started.
    pub fn command(&self, out: &Path, workers: usize, more: &[&str]) -> Command {
        self.on(&self.photos, out, workers, more)
    }

    /// The same on other photos.
    pub fn on(&self, photos: &Path, out: &Path, workers: usize, more: &[&str]) -> Command {
        let mut command = program();
        command.arg("run").arg("--data").arg(photos).arg("--out").arg(out);
        command.args(["--workers", &workers.to_string()]);
        for setting in SMALL.iter().chain(more) {
            command.args(["--set", setting]);
        }
        command
    }

    /// Runs the small job to its end.
    pub fn run(&self, out: &Path, workers: usize, more: &[&str]) {
        let output = self.command(out, workers, more).output().unwrap();
        assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    }

    /// Starts the small job.
    pub fn start(&self, out: &Path, workers: usize) -> Child {
        self.command(out, workers, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// The program, without settings of the caller's environment.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hardy"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HARDY_") && name.contains("__")) {
        command.env_remove(name);
    }
    command
}

pub fn hardy(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The hash of every output of every finished task, as the job's log has it: `task/output` to SHA-256.
pub fn outputs(out: &Path) -> BTreeMap<String, String> {
    let jobs = out.join(".hardy/jobs");
    let job = std::fs::read_dir(jobs).unwrap().next().unwrap().unwrap().path();
    let mut folders: Vec<_> = std::fs::read_dir(job.join("log")).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    let mut found = BTreeMap::new();
    for page in std::fs::read_dir(folders.last().unwrap()).unwrap() {
        let page: Value = serde_json::from_slice(&std::fs::read(page.unwrap().path()).unwrap()).unwrap();
        for done in page["done"].as_array().unwrap() {
            for (name, blob) in done["success"]["outputs"].as_object().unwrap() {
                let task = done["task"].as_str().unwrap();
                found.insert(format!("{task}/{name}"), blob["sha256"].as_str().unwrap().to_string());
            }
        }
    }
    found
}

/// Attempts that left something behind, by task.
pub fn attempts(out: &Path) -> BTreeMap<String, usize> {
    let jobs = out.join(".hardy/jobs");
    let job = std::fs::read_dir(jobs).unwrap().next().unwrap().unwrap().path();
    let entries = std::fs::read_dir(job.join("attempts")).unwrap().map(|e| e.unwrap());
    entries
        .map(|task| (task.file_name().into_string().unwrap(), std::fs::read_dir(task.path()).unwrap().count()))
        .collect()
}

pub fn report(out: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap()
}
