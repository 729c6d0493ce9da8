//! Headless Chromium, as the tests of pages run it.

use std::process::{Command, Output};

/// Runs it without a window; it must end well.
pub fn chromium(arguments: &[&str]) -> Output {
    let program = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".into());
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(&program)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--enable-logging=stderr", "--virtual-time-budget=10000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .output()
        .unwrap_or_else(|e| {
            panic!("'{program}' cannot be run ({e}): install Chromium (`make test` does) or set CHROMIUM to it")
        });
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What the browser's console was told.
pub fn complaints(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stderr).lines().filter(|l| l.contains("CONSOLE")).map(String::from).collect()
}
