//! Pictures that the network of the fixture is right about, and the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tempfile::TempDir;

pub const CLASSES: [&str; 3] = ["reddish", "greenish", "bluish"];

pub struct Scene {
    pub folder: TempDir,
}

impl Scene {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A picture of one class: grey noise with one channel raised, as the network learned it.
    pub fn picture(&self, name: &str, class: usize, seed: u64) -> PathBuf {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let picture = RgbImage::from_fn(32, 32, |_, _| {
            Rgb(std::array::from_fn(|channel| {
                let level: f64 = 0.45 + 0.1 * random.random::<f64>() + if channel == class { 0.06 } else { 0.0 };
                (level * 255.0).round() as u8
            }))
        });
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture.save(&path).unwrap();
        path
    }

    /// Class folders with `count` pictures each.
    pub fn photos(&self, count: usize) -> PathBuf {
        for (class, name) in CLASSES.iter().enumerate() {
            for number in 0..count {
                self.picture(&format!("photos/{name}/{number}.png"), class, (100 * class + number) as u64);
            }
        }
        self.path("photos")
    }

    /// `hardy attack PHOTOS --model traced.pt --out OUT MORE…`, not started.
    pub fn attack(&self, photos: &Path, out: &str, more: &[&str]) -> Command {
        let mut command = program();
        command.arg("attack").arg(photos).arg("--model").arg(fixture("traced.pt"));
        command.arg("--out").arg(self.path(out)).args(more);
        command
    }

    /// The same with `--json`, run to its end: what it printed.
    pub fn attacked(&self, photos: &Path, out: &str, more: &[&str]) -> Value {
        let output = self.attack(photos, out, more).arg("--json").output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/script").join(name)
}

/// The program, without settings of the caller's environment.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hardy"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HARDY_") && name.contains("__")) {
        command.env_remove(name);
    }
    command
}

/// Exit code and message of a command that must fail, without a panic.
pub fn refused(mut command: Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = text(&stderr);
    assert!(!status.success() && !said.contains("panicked"), "{said}");
    (status.code().unwrap(), said)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn pixels(path: &Path) -> RgbImage {
    image::open(path).unwrap().into_rgb8()
}

/// The largest difference of a value in levels.
pub fn distance(a: &RgbImage, b: &RgbImage) -> u8 {
    a.iter().zip(b.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// The names of all files below `folder`, hidden ones left out.
pub fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with('.') {
            continue;
        }
        if entry.path().is_dir() {
            found.extend(files(&entry.path()).into_iter().map(|file| format!("{name}/{file}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}
