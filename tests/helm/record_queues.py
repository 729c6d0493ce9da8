"""Records how many tasks wait and are being worked on while a job runs.

    record_queues.py --management http://user:password@host:15672 --vhost hardy > history.jsonl
    record_queues.py --hardy target/release/hardy > history.jsonl

The first watches a cluster until Ctrl-C. The second starts a broker, an S3 server, a coordinator and workers of
its own, has them do a small job of the synthetic flowers, and ends with it. One JSON object a line:
{"t": seconds, "ready": {queue: messages}, "unacked": {queue: messages}}.
"""

import argparse
import base64
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = pathlib.Path("/usr/lib/rabbitmq/bin")
ACCESS, SECRET = "recorderaccess", "recorder-secret"
JOB = [
    "model.architecture=hardy_small",
    "model.weights=none",
    "model.input_size=64",
    "data.shard_images=24",
    "data.near_duplicate_bits=0",
    "baseline.rounds=2",
    "train.rounds=5",
    "train.replicas=4",
    "adversary.freshness=round",
    "evaluate.epsilons=[\"4/255\"]",
]


def sample(management, vhost, prefix):
    """Messages ready and unacknowledged, by task queue."""
    parts = urllib.parse.urlsplit(management)
    login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password)}"
    address = parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]).geturl().rstrip("/")
    request = urllib.request.Request(f"{address}/api/queues/{urllib.parse.quote(vhost, safe='')}")
    request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        queues = [q for q in json.load(answer) if q["name"].startswith(f"{prefix}.tasks.")]
    return {
        "ready": {q["name"]: q.get("messages_ready", 0) for q in queues},
        "unacked": {q["name"]: q.get("messages_unacknowledged", 0) for q in queues},
    }


def record(management, vhost, prefix, every, ended=lambda: False):
    began = time.monotonic()
    while not ended():
        now = time.monotonic() - began
        print(json.dumps({"t": round(now, 2), **sample(management, vhost, prefix)}), flush=True)
        time.sleep(max(0, every - (time.monotonic() - began - now)))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, answers):
    began = time.monotonic()
    while not answers():
        if time.monotonic() - began > 180:
            raise SystemExit(f"{what} does not start")
        time.sleep(0.3)


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def broker(folder, start):
    """A RabbitMQ node of its own; the addresses of AMQP and of its management."""
    amqp, management, nodes, mapper = (free_port() for _ in range(4))
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n"
        "default_user = hardy\ndefault_pass = hardy\ndisk_free_limit.absolute = 50MB\n"
    )
    # Counts every half second instead of every five.
    settings = "[{rabbit, [{quorum_tick_interval, 500}, {collect_statistics_interval, 500}]}]."
    (folder / "advanced.config").write_text(settings)
    (folder / "plugins").write_text("[rabbitmq_management].")
    env = os.environ | {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"record{amqp}@localhost",
        "RABBITMQ_DIST_PORT": str(nodes),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "detached": "1",
    }
    start(["epmd", "-address", "127.0.0.1", "-port", str(mapper)], folder, env)
    start([SCRIPTS / "rabbitmq-server"], folder, env)
    wait_for("the broker", lambda: listens(amqp) and listens(management))
    return f"amqp://hardy:hardy@127.0.0.1:{amqp}", f"http://hardy:hardy@127.0.0.1:{management}"


def store(folder, start):
    """An S3 server of its own with a bucket; its endpoint."""
    weed = os.environ.get("HARDY_TEST_WEED", ROOT / ".deps/python/bin/weed")
    names = ["s3.port", "master.port", "master.port.grpc", "s3.port.grpc", "volume.port", "volume.port.grpc"]
    ports = {name: free_port() for name in names + ["filer.port", "filer.port.grpc"]}
    identity = {"name": "hardy", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}]}
    identity["actions"] = ["Admin", "Read", "Write", "List", "Tagging"]
    (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "s3").mkdir()
    start(
        [weed, "server", *(f"-{name}={port}" for name, port in ports.items()), "-s3.port.iceberg=0", "-s3.port.lance=0"]
        + ["-dir=s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-s3.config=identities.json", "-s3.iam=false"]
        + ["-master.volumeSizeLimitMB=64", "-volume.max=200", "-volume.minFreeSpace=0"],
        folder,
    )
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"

    def refuses():
        try:
            urllib.request.urlopen(endpoint, timeout=2)
        except urllib.error.HTTPError as e:
            return e.code == 403
        except OSError:
            return False

    wait_for("the S3 server", refuses)
    master = f"-master=127.0.0.1:{ports['master.port']}.{ports['master.port.grpc']}"
    subprocess.run([weed, "shell", master], input=b"s3.bucket.create -name hardy\n", cwd=folder, check=True, stdout=2)
    return endpoint


def small_job(hardy, workers, every):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hardy-record-"))
    running = []

    def start(command, cwd, env=None):
        log = open(folder / f"{len(running)}.log", "w")
        running.append(subprocess.Popen([str(c) for c in command], cwd=cwd, env=env, stdout=log, stderr=log))
        return running[-1]

    try:
        url, management = broker(folder, start)
        env = os.environ | {
            "HARDY_QUEUE__URL": url,
            "HARDY_STORE__URL": "s3://hardy/recorded",
            "HARDY_STORE__ENDPOINT": store(folder, start),
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }
        photos = folder / "photos"
        make = [hardy, "dataset", "synth", "--out", photos, "--per-class", "80", "--size", "96"]
        subprocess.run(make, check=True, stdout=2)
        start([hardy, "coordinator"], folder, env)
        for _ in range(workers):
            start([hardy, "worker", "--workers", "1"], folder, env)
        settings = [word for setting in JOB for word in ("--set", setting)]
        submitted = start([hardy, "submit", "--data", photos, "--name", "recorded", "--wait", *settings], folder, env)
        record(management, "/", "hardy", every, lambda: submitted.poll() is not None)
        if submitted.returncode != 0:
            raise SystemExit(f"the job failed: {(folder / f'{len(running) - 1}.log').read_text()}")
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--management", help="address of the broker's management, with user and password")
    where.add_argument("--hardy", type=pathlib.Path, help="the program, for a job of its own")
    parser.add_argument("--vhost", default="/")
    parser.add_argument("--prefix", default="hardy", help="queue.prefix")
    parser.add_argument("--workers", type=int, default=4, help="with --hardy: how many")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two samples")
    args = parser.parse_args()
    if args.hardy:
        small_job(args.hardy.resolve(), args.workers, args.every)
    else:
        try:
            record(args.management, args.vhost, args.prefix, args.every)
        except KeyboardInterrupt:
            sys.exit(0)


if __name__ == "__main__":
    main()
