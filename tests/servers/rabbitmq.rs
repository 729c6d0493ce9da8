//! A RabbitMQ broker: the server that Debian packages, as a node of its own.

use std::fs;
use std::net::SocketAddr;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The server's own scripts: Debian's wrappers around them insist on a system user.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";
const PATIENCE: Duration = Duration::from_secs(180);

/// Listens to nobody else, and does not keep a core busy with waiting, which others here have use for.
const ERLANG: &str = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none";

pub const USER: &str = "hardy";
pub const PASSWORD: &str = "not-to-be-seen";

/// A running broker. TLS listens on a port of its own and asks for the client's certificate.
pub struct RabbitMq {
    folder: tempfile::TempDir,
    ports: Ports,
    /// Maps names of Erlang nodes to ports. Started here, since a node would leave one behind.
    mapper: Child,
    node: Option<Child>,
}

struct Ports {
    amqp: u16,
    amqps: u16,
    nodes: u16,
    mapper: u16,
}

impl RabbitMq {
    pub fn start() -> Self {
        let script = Path::new(SCRIPTS).join("rabbitmq-server");
        assert!(script.exists(), "{} is missing: run deploy/setup.sh tests", script.display());
        let folder = tempfile::tempdir().unwrap();
        let [amqp, amqps, nodes, mapper] = free_ports();
        let ports = Ports { amqp, amqps, nodes, mapper };
        certificates(folder.path());
        let file = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "default_user = {USER}\ndefault_pass = {PASSWORD}\nlisteners.tcp.1 = 127.0.0.1:{amqp}\n\
             listeners.ssl.1 = 127.0.0.1:{amqps}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n\
             disk_free_limit.absolute = 50MB\nraft.wal_max_size_bytes = 16777216\n",
            file("ca.pem"),
            file("server.pem"),
            file("server.key"),
        );
        fs::write(folder.path().join("rabbitmq.conf"), config).unwrap();
        fs::write(folder.path().join("plugins"), "[].").unwrap();
        let mapper = Command::new("epmd")
            .args(["-address", "127.0.0.1", "-port", &ports.mapper.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("epmd comes with rabbitmq-server: run deploy/setup.sh tests");
        let mut broker = Self { folder, ports, mapper, node: None };
        broker.wait_for(broker.ports.mapper);
        broker.restart();
        broker
    }

    /// Where it is, with user and password.
    pub fn url(&self) -> String {
        format!("amqp://{USER}:{PASSWORD}@127.0.0.1:{}", self.ports.amqp)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.amqp))
    }

    /// The same by way of something between.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!("amqp://{USER}:{PASSWORD}@{address}")
    }

    /// The same by TLS.
    pub fn tls_url(&self) -> String {
        format!("amqps://{USER}:{PASSWORD}@localhost:{}", self.ports.amqps)
    }

    /// One of `ca.pem`, `client.pem`, `client.key`.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Stops it as an administrator would.
    pub fn stop(&mut self) {
        if let Some(mut node) = self.node.take() {
            Command::new("kill").arg(node.id().to_string()).status().unwrap();
            node.wait().unwrap();
        }
    }

    /// Ends it at once, as a loss of power would.
    pub fn kill(&mut self) {
        if let Some(mut node) = self.node.take() {
            let _ = node.kill();
            let _ = node.wait();
        }
    }

    /// Starts it again, with the same ports and data; returns when it answers.
    pub fn restart(&mut self) {
        self.kill();
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = self.command("rabbitmq-server");
        // "detached" makes the script become the server instead of watching over it.
        command.env("detached", "1").stdout(log.try_clone().unwrap()).stderr(log);
        self.node = Some(command.spawn().unwrap());
        self.wait_for(self.ports.amqp);
        self.wait_for(self.ports.amqps);
    }

    /// Runs `rabbitmqctl`; returns what it printed.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.command("rabbitmqctl").arg("--quiet").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn command(&self, script: &str) -> Command {
        let folder = self.folder.path();
        let mut command = Command::new(Path::new(SCRIPTS).join(script));
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .env("HOME", folder)
            .env("ERL_EPMD_PORT", self.ports.mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("hardy{}@localhost", self.ports.amqp))
            .env("RABBITMQ_DIST_PORT", self.ports.nodes.to_string())
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder)
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG);
        command
    }

    fn wait_for(&mut self, port: u16) {
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = self.node.as_mut().and_then(|node| node.try_wait().unwrap());
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "the broker does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        text.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.kill();
        let _ = self.mapper.kill();
        let _ = self.mapper.wait();
    }
}

/// Ports that were free a moment ago, all different.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|l| l.local_addr().unwrap().port())
}

/// An authority, and certificates signed by it for the server and for a client.
fn certificates(folder: &Path) {
    let script = r#"
        set -e
        new() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1.key"; }
        new ca
        openssl req -x509 -new -key ca.key -subj "/CN=test authority" -days 2 -out ca.pem
        sign() {
            new "$1"
            printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' > "$1.ext"
            openssl req -new -key "$1.key" -subj "/CN=$1" |
                openssl x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile "$1.ext" -out "$1.pem"
        }
        sign server
        sign client
    "#;
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
