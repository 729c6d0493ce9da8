//! What is secret is nowhere to be read: not in logs, objects of jobs, answers of commands or the list of processes.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::scene::Cluster;
use crate::servers::rabbitmq::PASSWORD;
use crate::small;

/// A part of a webhook's address, which is all that it takes to use it.
const TOKEN: &str = "t0ken-of-the-hook";

#[test]
fn secrets_are_written_nowhere() {
    let mut cluster = Cluster::start();
    let [_, (_, key)] = cluster.s3.credentials();
    let secrets = [PASSWORD, key, TOKEN];
    let hook = format!("http://127.0.0.1:9/{TOKEN}");
    let wrong = cluster.broker.url().replace(PASSWORD, &format!("{PASSWORD}-not"));
    let talkative = |mut command: Command| {
        command.env("HARDY_LOG", "debug").env("HARDY_WEBHOOK__URL", &hook);
        command
    };
    let mut said: Vec<(String, String)> = Vec::new();

    for what in ["coordinator", "worker"] {
        let command = talkative(cluster.hardy(&[what, "--name", what]));
        cluster.start_command(what, command);
        let line = std::fs::read(PathBuf::from(format!("/proc/{}/cmdline", cluster.processes[what].id()))).unwrap();
        said.push((format!("the command line of the {what}"), small::text(&line)));
    }
    let photos = cluster.scene.photos.to_str().unwrap().to_string();
    let mut job = vec!["submit", "--data", &photos, "--name", "open", "--wait"];
    job.extend(small::SMALL.iter().chain(&["train.rounds=1", "baseline.rounds=1"]).flat_map(|s| ["--set", s]));
    for arguments in [&job[..], &["status", "open", "--json"], &["jobs", "--json"], &["config", "show"], &["doctor"]] {
        let output = talkative(cluster.hardy(arguments)).output().unwrap();
        said.push((format!("{arguments:?}"), small::text(&output.stdout) + &small::text(&output.stderr)));
    }
    cluster.finished("open");

    let refused =
        talkative(cluster.hardy_by(&["doctor", "--client"], &wrong, &cluster.s3.endpoint())).output().unwrap();
    assert!(!refused.status.success(), "another password opens nothing");
    said.push(("with a wrong password".into(), small::text(&refused.stdout) + &small::text(&refused.stderr)));
    let mut denied = talkative(cluster.hardy(&["jobs"]));
    denied.env("AWS_SECRET_ACCESS_KEY", format!("{key}-not"));
    let denied = denied.stdout(Stdio::null()).output().unwrap();
    assert!(!denied.status.success(), "another key opens nothing");
    said.push(("with a wrong key".into(), small::text(&denied.stderr)));

    for what in ["coordinator", "worker"] {
        let log = cluster.log(what);
        assert!(log.contains("DEBUG"), "{log}");
        said.push((format!("the log of the {what}"), log));
    }
    for object in cluster.list("jobs") {
        said.push((object.clone(), small::text(&cluster.object(&object))));
    }
    for (place, text) in said {
        for secret in secrets {
            let line = text.lines().find(|line| line.contains(secret)).unwrap_or_default();
            assert!(!text.contains(secret), "{place} tells {secret}: {line}");
        }
    }
}
