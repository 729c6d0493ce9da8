//! A broker, an S3 server, and processes of Hardy between them.

use std::collections::BTreeMap;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::servers::rabbitmq::RabbitMq;
use crate::servers::seaweedfs::SeaweedFs;
use crate::small::{self, SMALL, Scene};

/// The longest that anything here may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(600);

pub struct Cluster {
    pub broker: RabbitMq,
    pub s3: SeaweedFs,
    pub scene: Scene,
    pub processes: BTreeMap<String, Child>,
    started: usize,
}

impl Cluster {
    pub fn start() -> Self {
        let s3 = SeaweedFs::start();
        s3.bucket("hardy");
        Self { broker: RabbitMq::start(), s3, scene: Scene::new(), processes: BTreeMap::new(), started: 0 }
    }

    /// The program with this cluster's settings.
    pub fn hardy(&self, arguments: &[&str]) -> Command {
        self.hardy_by(arguments, &self.broker.url(), &self.s3.endpoint())
    }

    /// The same, reaching broker and store by other ways.
    pub fn hardy_by(&self, arguments: &[&str], broker: &str, endpoint: &str) -> Command {
        let mut command = small::program();
        command.args(arguments).envs(self.s3.credentials());
        command.env("HARDY_QUEUE__URL", broker).env("HARDY_QUEUE__SILENCE", "10");
        command.env("HARDY_STORE__URL", "s3://hardy/cluster").env("HARDY_STORE__ENDPOINT", endpoint);
        command.env("HARDY_WORKER__GRACE", "60").env("TMPDIR", self.scene.folder.path());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.hardy(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "hardy {arguments:?}: {}", small::text(&output.stderr));
        small::text(&output.stdout)
    }

    /// Submits the small job.
    pub fn submit(&self, name: &str, more: &[&str]) {
        self.submit_from(self.scene.photos.to_str().unwrap(), name, more);
    }

    /// The same with photos from elsewhere.
    pub fn submit_from(&self, photos: &str, name: &str, more: &[&str]) {
        let mut arguments = vec!["submit", "--data", photos, "--name", name];
        arguments.extend(SMALL.iter().chain(more).flat_map(|setting| ["--set", setting]));
        assert_eq!(self.ok(&arguments).trim(), name);
    }

    /// Starts `hardy worker` or `hardy coordinator` under a name of its own, which is returned.
    pub fn start_process(&mut self, what: &str) -> String {
        let name = format!("{what}-{}", self.started);
        let command = match what {
            "worker" => self.hardy(&["worker", "--workers", "1", "--name", &name]),
            _ => self.hardy(&[what, "--name", &name]),
        };
        self.start_command(&name, command);
        name
    }

    pub fn start_command(&mut self, name: &str, mut command: Command) {
        let log = std::fs::File::create(self.scene.path(&format!("{name}.log"))).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.processes.insert(name.to_string(), child);
        self.started += 1;
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.scene.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// Ends a process at once.
    pub fn kill(&mut self, name: &str) {
        let mut child = self.processes.remove(name).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn signal(&self, name: &str, signal: &str) {
        let pid = self.processes[name].id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    pub fn names(&self, what: &str) -> Vec<String> {
        self.processes.keys().filter(|name| name.starts_with(what)).cloned().collect()
    }

    /// How a job goes; `None` while the store cannot say.
    pub fn status(&self, job: &str) -> Option<Value> {
        let output = self.run(&["status", "--json", job]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until the status of `job` is as `wanted` says.
    pub fn until(&self, job: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let status = self.status(job);
            if let Some(status) = status.as_ref().filter(|s| wanted(s)) {
                return status.clone();
            }
            assert!(began.elapsed() < PATIENCE, "{what} did not come in time: {status:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits for the end of `job`, which must be a good one.
    pub fn finished(&self, job: &str) {
        let end = self.until(job, "the end", has_ended);
        assert_eq!(end["state"], "done", "{end:#}\n{}", self.logs());
    }

    /// The last lines of every process.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for name in self.processes.keys() {
            let log = self.log(name);
            let lines: Vec<&str> = log.lines().rev().take(15).collect();
            text += &format!("--- {name}\n{}\n", lines.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        text
    }

    /// The hash of every output of every finished task, as [`small::outputs`] has it for `hardy run`.
    pub fn outputs(&self, job: &str) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for done in self.done(job) {
            for (name, blob) in done["success"]["outputs"].as_object().unwrap() {
                let task = done["task"].as_str().unwrap();
                found.insert(format!("{task}/{name}"), blob["sha256"].as_str().unwrap().to_string());
            }
        }
        found
    }

    /// Every finished task in the log of `job`.
    pub fn done(&self, job: &str) -> Vec<Value> {
        let pages = self.list(&format!("jobs/{job}/log"));
        let last = pages.iter().filter_map(|key| key.rsplit('/').nth(1)).max().unwrap().to_string();
        let newest = pages.iter().filter(|key| key.contains(&last));
        let pages = newest.map(|key| serde_json::from_slice::<Value>(&self.object(key)).unwrap());
        let mut done: BTreeMap<String, Value> = BTreeMap::new();
        for task in pages.flat_map(|page| page["done"].as_array().unwrap().clone()) {
            done.insert(task["task"].as_str().unwrap().to_string(), task);
        }
        done.into_values().collect()
    }

    /// Keys on the store below `prefix`.
    pub fn list(&self, prefix: &str) -> Vec<String> {
        use futures_util::TryStreamExt;
        let prefix = hardy::store::Key::new(prefix).unwrap();
        self.with_store(async move |store| {
            let entries: Vec<_> = store.list(Some(&prefix)).await.unwrap().try_collect().await.unwrap();
            entries.into_iter().map(|e| e.key.as_str().to_string()).collect()
        })
    }

    pub fn object(&self, key: &str) -> Vec<u8> {
        let key = hardy::store::Key::new(key).unwrap();
        self.with_store(async move |store| store.get_bytes(&key, 1 << 30).await.unwrap().to_vec())
    }

    pub fn overwrite(&self, key: &str, bytes: Vec<u8>) {
        let key = hardy::store::Key::new(key).unwrap();
        self.with_store(async move |store| drop(store.put_bytes(&key, bytes).await.unwrap()));
    }

    /// Puts the photos into a bucket of their own; where they are.
    pub fn photos_elsewhere(&self) -> String {
        self.s3.bucket("photos");
        let url = "s3://photos/flowers";
        self.with_store_at(url, async |store| {
            for entry in walkdir::WalkDir::new(&self.scene.photos).into_iter().map(Result::unwrap) {
                if entry.file_type().is_file() {
                    let key = entry.path().strip_prefix(&self.scene.photos).unwrap().to_str().unwrap().to_string();
                    let bytes = std::fs::read(entry.path()).unwrap();
                    store.put_bytes(&hardy::store::Key::new(key).unwrap(), bytes).await.unwrap();
                }
            }
        });
        url.to_string()
    }

    fn with_store<T>(&self, work: impl AsyncFnOnce(std::sync::Arc<dyn hardy::store::Store>) -> T) -> T {
        self.with_store_at("s3://hardy/cluster", work)
    }

    fn with_store_at<T>(&self, url: &str, work: impl AsyncFnOnce(std::sync::Arc<dyn hardy::store::Store>) -> T) -> T {
        for (name, value) in self.s3.credentials() {
            // SAFETY: the test has one thread that reads or writes the environment.
            #[allow(unsafe_code)]
            unsafe {
                std::env::set_var(name, value);
            }
        }
        let access = hardy::config::StoreSettings {
            url: String::new(),
            endpoint: self.s3.endpoint(),
            region: String::new(),
            path_style: true,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = hardy::store::open(url, &access).await.unwrap();
            work(store).await
        })
    }

    /// Collects garbage and checks that nothing is left that does not count.
    pub fn assert_no_orphans(&self, job: &str) {
        self.ok(&["gc"]);
        let winners: Vec<String> = self
            .done(job)
            .iter()
            .map(|d| format!("jobs/{job}/attempts/{}/{}/", d["task"].as_str().unwrap(), d["attempt"].as_str().unwrap()))
            .collect();
        for key in self.list(&format!("jobs/{job}/attempts")) {
            assert!(winners.iter().any(|w| key.starts_with(w)), "an orphan: {key}");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.processes.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn has_ended(status: &Value) -> bool {
    ["done", "failed", "cancelled"].iter().any(|s| status["state"] == *s)
}
