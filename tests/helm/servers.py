"""Real servers: each on free ports, in a folder of its own, ended with the processes it was started among."""

import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The server's own scripts: Debian's wrappers around them insist on a system user.
SCRIPTS = pathlib.Path("/usr/lib/rabbitmq/bin")
PATIENCE = 180  # seconds


class Processes:
    """Processes that end with this, each with a log in `folder`."""

    def __init__(self, folder):
        self.folder = folder
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            process.kill()
            process.wait()

    def start(self, name, command, folder=None, env=None):
        """Starts `command`; should this process be killed, the kernel ends it."""
        guarded = ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
        with self.log(name).open("a") as log:
            process = subprocess.Popen(
                guarded, cwd=folder or self.folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.running.append(process)
        return process

    def log(self, name):
        return self.folder / f"{name}.log"

    def wait_for(self, name, process, answers):
        began = time.monotonic()
        while not answers():
            if process.poll() is not None or time.monotonic() - began > PATIENCE:
                raise RuntimeError(f"{name} does not start:\n{self.log(name).read_text()[-4000:]}")
            time.sleep(0.2)


def free_ports(count):
    """Ports that were free a moment ago, all different."""
    held = [socket.socket() for _ in range(count)]
    for s in held:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class RabbitMq:
    """A broker with its management; `admin` may do everything."""

    ADMIN = "admin"

    def __init__(self, processes):
        if not (SCRIPTS / "rabbitmq-server").exists():
            raise RuntimeError(f"{SCRIPTS}/rabbitmq-server is missing: run deploy/setup.sh tests")
        folder = processes.folder / "rabbitmq"
        folder.mkdir()
        self.port, self.management_port, nodes, mapper = free_ports(4)
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self.management_port}\n"
            f"default_user = {self.ADMIN}\ndefault_pass = {self.ADMIN}\n"
            "disk_free_limit.absolute = 50MB\nraft.wal_max_size_bytes = 16777216\n"
        )
        # Quorum queues tell their counts every half second instead of every five.
        settings = "[{rabbit, [{quorum_tick_interval, 500}]}]."
        (folder / "advanced.config").write_text(settings)
        (folder / "plugins").write_text("[rabbitmq_management].")
        # What this node's own programs need to find it.
        self.environment = {
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"hardy{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(nodes),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        # "detached" makes the script become the server instead of watching over it.
        env = os.environ | self.environment | {"detached": "1"}
        # Maps names of nodes to ports. Started here, since a node would leave one behind.
        names = processes.start("epmd", ["epmd", "-address", "127.0.0.1", "-port", mapper], folder, env)
        processes.wait_for("epmd", names, lambda: listens(mapper))
        server = processes.start("rabbitmq", [SCRIPTS / "rabbitmq-server"], folder, env)
        processes.wait_for("rabbitmq", server, lambda: listens(self.port) and listens(self.management_port))

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def url(self, user=ADMIN, password=ADMIN, vhost=""):
        return f"amqp://{user}:{password}@{self.address}/{vhost}".rstrip("/")

    def management(self, user=ADMIN, password=ADMIN):
        return f"http://{user}:{password}@127.0.0.1:{self.management_port}"


class SeaweedFs:
    """An S3 server that asks for credentials."""

    CREDENTIALS = {"AWS_ACCESS_KEY_ID": "hardytestaccess", "AWS_SECRET_ACCESS_KEY": "hardy-test-secret-41c8"}

    def __init__(self, processes):
        self.folder = processes.folder / "seaweedfs"
        self.folder.mkdir()
        (self.folder / "data").mkdir()
        self.program = os.environ.get("HARDY_TEST_WEED", ROOT / ".deps/python/bin/weed")
        if not pathlib.Path(self.program).exists():
            raise RuntimeError(f"{self.program} is missing: run deploy/setup.sh tests, or set HARDY_TEST_WEED")
        servers = [f"{server}.port{kind}" for server in ("s3", "master", "volume", "filer") for kind in ("", ".grpc")]
        self.ports = dict(zip(servers, free_ports(len(servers))))
        access, secret = self.CREDENTIALS.values()
        identity = {"name": "hardy", "credentials": [{"accessKey": access, "secretKey": secret}]}
        identity["actions"] = ["Admin", "Read", "Write", "List", "Tagging"]
        (self.folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
        server = processes.start(
            "seaweedfs",
            [self.program, "server", *(f"-{name}={port}" for name, port in self.ports.items())]
            + ["-s3.port.iceberg=0", "-s3.port.lance=0", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
            + ["-s3", "-s3.config=identities.json", "-s3.iam=false", "-s3.autoCreateBucket=false"]
            + ["-master.volumeSizeLimitMB=64", "-volume.max=200", "-volume.minFreeSpace=0"],
            self.folder,
        )
        processes.wait_for("seaweedfs", server, self._refuses_strangers)

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.ports['s3.port']}"

    @property
    def master(self):
        return f"127.0.0.1:{self.ports['master.port']}.{self.ports['master.port.grpc']}"

    def bucket(self, name):
        said = subprocess.run(
            [self.program, "shell", f"-master={self.master}"], input=f"s3.bucket.create -name {name}\n", cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ).stdout  # fmt: skip
        if "create bucket under" not in said:
            raise RuntimeError(f"no bucket {name}: {said}")

    def put(self, folder, where):
        """Copies the files of `folder` to `where`, bucket/prefix, by the server's own way in."""
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            to = f"http://127.0.0.1:{self.ports['filer.port']}/buckets/{where}/{path.relative_to(folder)}"
            kind = {"Content-Type": "application/octet-stream"}
            urllib.request.urlopen(urllib.request.Request(to, path.read_bytes(), kind, method="PUT")).close()

    def _refuses_strangers(self):
        """As it does once it knows its identities."""
        try:
            urllib.request.urlopen(self.endpoint, timeout=2).close()
        except urllib.error.HTTPError as e:
            return e.code == 403
        except OSError:
            pass
        return False


def without_settings(environment):
    """`environment` without settings of Hardy, which are meant for something else."""
    return {name: text for name, text in environment.items() if not (name.startswith("HARDY_") and "__" in name)}
