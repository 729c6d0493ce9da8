//! SeaweedFS, a real S3 server in one program, with credentials on.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const ACCESS_KEY: &str = "hardytestaccess";
const SECRET_KEY: &str = "hardy-test-secret-7d2f";
const START: Duration = Duration::from_secs(60);

/// A server in a temporary folder. Dropped, it is ended and its folder removed. Start it on the test's own
/// thread: should that thread or its process die without a drop, the kernel ends the server.
pub struct SeaweedFs {
    folder: TempDir,
    ports: Ports,
    process: Option<Child>,
}

struct Ports {
    s3: u16,
    master: u16,
    master_grpc: u16,
    /// The ports of what is not spoken to from outside.
    others: [u16; 5],
}

impl SeaweedFs {
    /// Starts a server on free ports and waits until it answers.
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("data")).expect("a folder for the data");
        let identities = format!(
            r#"{{"identities": [{{"name": "hardy",
                "credentials": [{{"accessKey": "{ACCESS_KEY}", "secretKey": "{SECRET_KEY}"}}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"]}}]}}"#
        );
        std::fs::write(folder.path().join("identities.json"), identities).expect("the identities are written");
        let mut server = Self { folder, ports: Ports::free(), process: None };
        server.restart();
        server
    }

    /// Where it speaks S3.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The address of the endpoint.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.s3))
    }

    /// The environment variables from which AWS's chain takes the credentials.
    pub fn credentials(&self) -> [(&'static str, &'static str); 2] {
        [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
    }

    /// Makes a bucket.
    pub fn bucket(&self, name: &str) {
        let master = format!("127.0.0.1:{}.{}", self.ports.master, self.ports.master_grpc);
        let mut shell = Command::new(program())
            .args(["shell", &format!("-master={master}")])
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("weed shell starts");
        let mut input = shell.stdin.take().expect("its input");
        writeln!(input, "s3.bucket.create -name {name}").expect("it takes a command");
        drop(input);
        let output = shell.wait_with_output().expect("weed shell ends");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("create bucket under"), "no bucket {name}: {text}");
    }

    /// Kills the server as a crash would; what it stored remains.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts the server again on the same ports with the same data.
    pub fn restart(&mut self) {
        self.stop();
        let log = self.folder.path().join("log");
        let file = std::fs::File::create(&log).expect("a log file");
        let Ports { s3, master, master_grpc, others: [s3_grpc, volume, volume_grpc, filer, filer_grpc] } = self.ports;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program()).arg("server");
        for (flag, port) in [
            ("s3.port", s3),
            ("s3.port.grpc", s3_grpc),
            ("s3.port.iceberg", 0),
            ("s3.port.lance", 0),
            ("master.port", master),
            ("master.port.grpc", master_grpc),
            ("volume.port", volume),
            ("volume.port.grpc", volume_grpc),
            ("filer.port", filer),
            ("filer.port.grpc", filer_grpc),
        ] {
            command.arg(format!("-{flag}={port}"));
        }
        command
            .args(["-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-s3.config=identities.json"])
            .args(["-s3.iam=false", "-s3.autoCreateBucket=false"])
            .args(["-master.volumeSizeLimitMB=64", "-volume.max=200", "-volume.minFreeSpace=0"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log file"))
            .stderr(file);
        self.process = Some(command.spawn().expect("setpriv (package util-linux) starts weed"));
        let begun = Instant::now();
        while !self.answers() {
            let ended = self.process.as_mut().and_then(|p| p.try_wait().ok().flatten());
            if ended.is_some() || begun.elapsed() > START {
                panic!("SeaweedFS does not start: {}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// Whether it refuses a request without a signature, as it does once it knows its identities.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address()) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
        let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).is_ok() && answer.ends_with(b" 403")
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Ports {
    fn free() -> Self {
        // All are held until the last is found, so that they differ.
        let held: [TcpListener; 8] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [s3, master, master_grpc, others @ ..] = held.each_ref().map(|l| l.local_addr().expect("its port").port());
        Self { s3, master, master_grpc, others }
    }
}

/// `weed` of the tests' Python packages, or the one that `HARDY_TEST_WEED` names.
fn program() -> PathBuf {
    let named = std::env::var_os("HARDY_TEST_WEED").map(PathBuf::from);
    let path = named.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/.deps/python/bin/weed").into());
    match std::fs::metadata(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            panic!("{} is missing: run deploy/setup.sh tests, or set HARDY_TEST_WEED", path.display())
        }
        _ => path,
    }
}
