//! What a cluster costs, on a real broker and a real S3 server of its own:
//! `cargo bench --bench cluster -- overhead scaling tasks broker latency failover scale`.
//! Without arguments: all but `scale`. Figures of one machine, processes beside each other on its cores; ratios say
//! more than times.

#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};

#[path = "../tests/servers/mod.rs"]
mod servers;

use servers::rabbitmq::RabbitMq;
use servers::seaweedfs::SeaweedFs;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |name: &str| wanted.iter().any(|w| w == name) || wanted.is_empty() && name != "scale";
    let bench = Bench::start();
    if wants("overhead") {
        bench.overhead();
    }
    if wants("scaling") {
        bench.scaling();
    }
    if wants("latency") {
        bench.latency();
    }
    if wants("failover") {
        bench.failover();
    }
    if wants("tasks") {
        bench.tasks();
    }
    if wants("broker") {
        bench.broker();
    }
    if wants("scale") {
        bench.scale();
    }
}

struct Bench {
    broker: RabbitMq,
    s3: SeaweedFs,
    folder: tempfile::TempDir,
    photos: PathBuf,
}

/// Commands that need no libtorch. `HARDY_CLIENT` names a program built without it, as clusters have it.
const CLIENT: [&str; 4] = ["coordinator", "submit", "status", "fetch"];

/// A process that ends with its value.
struct Process(Child);

impl Process {
    /// The most memory it ever had, MiB.
    fn peak(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("0 0 kB");
        line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }

    /// Seconds of processor time so far.
    fn processor_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default().to_string();
        let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
        ticks / 100.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process whose log is read.
struct Heard {
    process: Process,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Heard {
    /// Waits for a line with all of `words`.
    fn until(&mut self, words: &[&str]) {
        self.lines.find(|line| words.iter().all(|word| line.as_ref().unwrap().contains(word))).unwrap().unwrap();
    }

    fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill").args(["-s", signal, &self.process.0.id().to_string()]).status().unwrap().success()
        );
    }
}

/// The job that is timed: most of a minute of real training of the small network.
const JOB: &[&str] = &[
    "model.architecture=hardy_small",
    "model.weights=none",
    "model.input_size=128",
    "baseline.rounds=2",
    "train.rounds=10",
    "data.shard_images=45",
    "guard.enabled=false",
    "evaluate.attacks=[\"fgsm\", \"pgd5\"]",
    "evaluate.epsilons=[\"4/255\"]",
];

impl Bench {
    fn start() -> Self {
        let s3 = SeaweedFs::start();
        s3.bucket("hardy");
        let folder = tempfile::tempdir().unwrap();
        let photos = folder.path().join("photos");
        let bench = Self { broker: RabbitMq::start(), s3, folder, photos };
        bench.draw("120");
        bench
    }

    /// So many photos of each class: the time of a job grows with them, and what it costs to begin, merge and end does not.
    fn draw(&self, per_class: &str) {
        let photos = self.photos.to_str().unwrap();
        let _ = std::fs::remove_dir_all(&self.photos);
        self.ok(&["dataset", "synth", "--out", photos, "--per-class", per_class, "--size", "128", "-q"]);
    }

    fn hardy(&self, arguments: &[&str]) -> Command {
        let client = std::env::var("HARDY_CLIENT").ok().filter(|_| CLIENT.contains(&arguments[0]));
        let mut command = Command::new(client.as_deref().unwrap_or(env!("CARGO_BIN_EXE_hardy")));
        command.args(arguments).envs(self.s3.credentials());
        command.env("HARDY_QUEUE__URL", self.broker.url()).env("HARDY_STORE__URL", "s3://hardy/bench");
        command.env("HARDY_STORE__ENDPOINT", self.s3.endpoint()).stdout(Stdio::null());
        command
    }

    fn ok(&self, arguments: &[&str]) {
        let output = self.hardy(arguments).output().unwrap();
        assert!(output.status.success(), "hardy {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn spawn(&self, arguments: &[&str]) -> Process {
        Process(self.hardy(arguments).arg("-q").stderr(Stdio::null()).spawn().unwrap())
    }

    fn listen(&self, arguments: &[&str], log: &str) -> Heard {
        let mut command = self.hardy(arguments);
        let mut child = command.env("HARDY_LOG", log).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Heard { process: Process(child), lines }
    }

    /// Coordinator and workers that have shown that they work.
    fn cluster(&self, workers: &[&str]) -> Vec<Process> {
        let mut processes = vec![self.spawn(&["coordinator"])];
        processes.extend(workers.iter().map(|threads| self.spawn(&["worker", "--workers", threads])));
        let heard = || {
            let name = unique("warm-up");
            self.ok(&["submit", "--rehearse", "50", "--wait", "-q", "--name", &name]);
            let status = self.hardy(&["status", &name, "--json"]).stdout(Stdio::piped()).output().unwrap();
            let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
            status["workers"].as_array().unwrap().len()
        };
        while heard() < workers.len() {}
        processes
    }

    fn arguments<'a>(&'a self, first: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = first.to_vec();
        arguments.extend(["-q", "--data", self.photos.to_str().unwrap()]);
        arguments.extend(JOB.iter().flat_map(|setting| ["--set", setting]));
        arguments
    }

    fn alone(&self) -> f64 {
        let out = self.folder.path().join(unique("alone"));
        let began = Instant::now();
        self.ok(&self.arguments(&["run", "--workers", "1", "--out", out.to_str().unwrap()]));
        began.elapsed().as_secs_f64()
    }

    fn on_cluster(&self) -> f64 {
        let (name, out) = (unique("job"), self.folder.path().join(unique("fetched")));
        let began = Instant::now();
        self.ok(&self.arguments(&["submit", "--wait", "--name", &name]));
        self.ok(&["fetch", &name, "--out", out.to_str().unwrap()]);
        began.elapsed().as_secs_f64()
    }

    /// A job over broker and S3 with one worker against `hardy run`, interleaved.
    fn overhead(&self) {
        let _cluster = self.cluster(&["1"]);
        let mut ratios: Vec<f64> = (0..5)
            .map(|_| {
                let (alone, cluster) = (self.alone(), self.on_cluster());
                println!("overhead: hardy run {alone:.1} s, cluster {cluster:.1} s, ratio {:.3}", cluster / alone);
                cluster / alone
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        println!("overhead: median ratio {:.3} (lowest {:.3}, highest {:.3}, n = 5)", ratios[2], ratios[0], ratios[4]);
    }

    /// Two workers of one thread against one, in a job of minutes, and what the machine allows: two runs at once that
    /// know nothing of each other against one.
    fn scaling(&self) {
        self.draw("360");
        let mut ratios = Vec::new();
        for _ in 0..3 {
            let alone = self.alone();
            let both = {
                let began = Instant::now();
                std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(|| self.alone()))));
                began.elapsed().as_secs_f64()
            };
            let one = {
                let _cluster = self.cluster(&["1"]);
                self.on_cluster()
            };
            let two = {
                let _cluster = self.cluster(&["1", "1"]);
                self.on_cluster()
            };
            let limit = 2.0 * alone / both;
            println!(
                "scaling: one worker {one:.1} s, two {two:.1} s, ratio {:.2}, two runs at once {limit:.2}",
                one / two
            );
            ratios.push(one / two);
        }
        self.draw("120");
        ratios.sort_by(f64::total_cmp);
        println!("scaling: median ratio {:.2}", ratios[1]);
    }

    /// From the start of `hardy submit` to the start of its first task, as the worker's log tells it.
    fn latency(&self) {
        let _coordinator = self.spawn(&["coordinator"]);
        let mut worker = self.listen(&["worker", "--workers", "1"], "hardy::worker=debug");
        let mut until_started = || {
            let (name, began) = (unique("one"), Instant::now());
            self.ok(&["submit", "--rehearse", "1", "-q", "--name", &name]);
            worker.until(&["started", &name]);
            began.elapsed().as_secs_f64()
        };
        until_started();
        let mut seconds: Vec<f64> = (0..9).map(|_| until_started()).collect();
        seconds.sort_by(f64::total_cmp);
        println!(
            "latency: start of `hardy submit` to start of its first task: median {:.2} s (lowest {:.2}, highest {:.2})",
            seconds[4], seconds[0], seconds[8]
        );
    }

    /// From the end of the leading coordinator to the lead of the one that stands by: killed, as by a crash, and stopped
    /// without a word, as when its machine loses power.
    fn failover(&self) {
        for (how, signal) in [("killed", "KILL"), ("silent", "STOP")] {
            let mut seconds: Vec<f64> = (0..5)
                .map(|_| {
                    let mut first = self.listen(&["coordinator"], "info");
                    first.until(&[" leads "]);
                    let mut second = self.listen(&["coordinator"], "info");
                    second.until(&[" stands by "]);
                    let began = Instant::now();
                    first.signal(signal);
                    second.until(&[" leads "]);
                    began.elapsed().as_secs_f64()
                })
                .collect();
            seconds.sort_by(f64::total_cmp);
            println!(
                "failover: the leader is {how}: another one leads after {:.1} s (lowest {:.1}, highest {:.1}, n = 5)",
                seconds[2], seconds[0], seconds[4]
            );
        }
    }

    /// Empty tasks per second with one consumer.
    fn tasks(&self) {
        let _cluster = self.cluster(&["1"]);
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
        let python = std::env::var("HARDY_PEERS_PYTHON").unwrap_or_else(|_| "python3".into());
        for _ in 0..3 {
            println!("tasks: hardy, 1 consumer: {:.0} tasks/s", self.rehearse(5_000, &[]));
            let mut celery = Command::new(&python);
            celery.current_dir(&folder).args(["celery_tasks.py", &self.broker.url(), "2000"]);
            match celery.output() {
                Ok(output) if output.status.success() => print!("tasks: {}", String::from_utf8_lossy(&output.stdout)),
                _ => println!(
                    "tasks: celery cannot be run by {python} (HARDY_PEERS_PYTHON, benches/peers/requirements.txt)"
                ),
            }
        }
    }

    /// What the broker itself allows one consumer with one message at a time: nothing is done with the messages, and no
    /// coordinator, log or store is there.
    fn broker(&self) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for _ in 0..3 {
            for told in [false, true] {
                let rate = runtime.block_on(messages(&self.broker.url(), 3_000, told));
                let what = if told { "a confirmed answer to each" } else { "acknowledgements alone" };
                println!("broker: 1 consumer, prefetch 1, {what}: {rate:.0} messages/s");
            }
        }
    }

    /// A thousand consumers; the coordinator's memory and time per task for 10,000 and 100,000 tasks.
    fn scale(&self) {
        let mut per_task = Vec::new();
        for tasks in [10_000, 100_000] {
            let cluster = self.cluster(&["1000"]);
            let before = cluster[0].processor_seconds();
            let rate = self.rehearse(tasks, &["--stored"]);
            let cost = (cluster[0].processor_seconds() - before) * 1e6 / f64::from(tasks);
            per_task.push(cost);
            println!(
                "scale: {tasks} tasks, 1,000 consumers: {rate:.0} tasks/s, coordinator {cost:.0} µs of processor a task, \
                 {:.0} MiB at most",
                cluster[0].peak()
            );
        }
        println!("scale: cost per task, 100,000 against 10,000: {:.2}", per_task[1] / per_task[0]);
    }

    /// Tasks per second of a job of empty tasks, as its coordinator measured it.
    fn rehearse(&self, tasks: u32, more: &[&str]) -> f64 {
        let (name, out) = (unique("rehearsal"), self.folder.path().join(unique("figures")));
        self.ok(&[&["submit", "--rehearse", &tasks.to_string(), "--wait", "-q", "--name", &name], more].concat());
        self.ok(&["fetch", &name, "--out", out.to_str().unwrap()]);
        let figures: serde_json::Value =
            serde_json::from_slice(&std::fs::read(out.join("rehearsal.json")).unwrap()).unwrap();
        figures["tasks_per_second"].as_f64().unwrap()
    }
}

/// Messages per second that one consumer acknowledges, by the bare client, after a confirmed message of its own when
/// something is to be `told`.
async fn messages(url: &str, count: u32, told: bool) -> f64 {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let (taking, telling) = (connection.create_channel().await.unwrap(), connection.create_channel().await.unwrap());
    telling.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let queues = [unique("asked"), unique("told")];
    for queue in &queues {
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        taking.queue_declare(queue.as_str().into(), durable, quorum).await.unwrap();
    }
    let say = |queue: &str| {
        let persistent = BasicProperties::default().with_delivery_mode(2);
        telling.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), &[b' '; 400], persistent)
    };
    let mut confirmed = Vec::new();
    for _ in 0..count {
        confirmed.push(say(&queues[0]).await.unwrap());
    }
    for confirmation in confirmed {
        confirmation.await.unwrap();
    }
    taking.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut arriving = taking.basic_consume(queues[0].as_str().into(), "".into(), options, none).await.unwrap();
    let began = Instant::now();
    for _ in 0..count {
        let message = arriving.next().await.unwrap().unwrap();
        if told {
            say(&queues[1]).await.unwrap().await.unwrap();
        }
        message.ack(BasicAckOptions::default()).await.unwrap();
    }
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    for queue in &queues {
        telling.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    }
    rate
}

fn unique(name: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    format!("{name}-{:x}", now.as_nanos())
}
