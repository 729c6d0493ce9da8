#!/usr/bin/env python3
"""Records how many tasks wait and are being worked on while a job runs.

    record_queues.py --management http://user:password@host:15672 --vhost hardy > history.jsonl
    record_queues.py --hardy target/release/hardy > history.jsonl

The first watches a cluster until Ctrl-C; the user needs the tag `monitoring`. The second starts a broker, an S3
server, a coordinator and workers of its own, has them do a small job of the synthetic flowers, and prints what it saw
when that has come to a good end. One JSON object a line:
{"t": seconds, "ready": {queue: messages}, "unacked": {queue: messages}}.
"""

import argparse
import base64
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from servers import Processes, RabbitMq, SeaweedFs, without_settings

NAME = "recorded"
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
    login = f"{urllib.parse.unquote(parts.username or '')}:{urllib.parse.unquote(parts.password or '')}"
    address = parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]).geturl().rstrip("/")
    # Counts as they are: the management's own statistics are kept in steps of five seconds.
    queues = f"{address}/api/queues/{urllib.parse.quote(vhost, safe='')}?disable_stats=true&enable_queue_totals=true"
    request = urllib.request.Request(queues)
    request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        queues = [q for q in json.load(answer) if q["name"].startswith(f"{prefix}.tasks.")]
    return {
        "ready": {q["name"]: q.get("messages_ready", 0) for q in queues},
        "unacked": {q["name"]: q.get("messages_unacknowledged", 0) for q in queues},
    }


def samples(management, vhost, prefix, every):
    """A sample every so many seconds, for ever. Only the first one must not fail."""
    began = time.monotonic()
    for number in itertools.count():
        time.sleep(max(0, began + number * every - time.monotonic()))
        now = round(time.monotonic() - began, 2)
        try:
            seen = sample(management, vhost, prefix)
        except OSError as e:
            if number == 0:
                raise SystemExit(f"record_queues: the broker's management does not answer: {e}") from e
            print(f"record_queues: nothing seen at {now} s: {e}", file=sys.stderr)
            continue
        yield {"t": now, **seen}


def quiet(seen):
    return not any(seen["ready"].values()) and not any(seen["unacked"].values())


def prepare(hardy, processes):
    """A broker and a store; the broker, the environment of Hardy's processes between them, and what submits the job."""
    broker, store, photos = RabbitMq(processes), SeaweedFs(processes), processes.folder / "photos"
    store.bucket("hardy")
    # What a killed worker leaves in its temporary folder goes with all the rest.
    env = without_settings(os.environ) | store.CREDENTIALS | {
        "TMPDIR": str(processes.folder),
        "HARDY_QUEUE__URL": broker.url(),
        "HARDY_STORE__URL": "s3://hardy/recorded",
        "HARDY_STORE__ENDPOINT": store.endpoint,
    }  # fmt: skip
    make = [hardy, "dataset", "synth", "--out", photos, "--per-class", "80", "--size", "96"]
    subprocess.run(make, check=True, stdout=sys.stderr)
    settings = [word for setting in JOB for word in ("--set", setting)]
    return broker, env, [hardy, "submit", "--data", photos, "--name", NAME, "--wait", *settings]


def small_job(hardy, workers, every):
    """The samples of a job of its own, up to the first in which nothing is left of it."""
    with tempfile.TemporaryDirectory(prefix="hardy-record-", ignore_cleanup_errors=True) as name:
        with Processes(pathlib.Path(name)) as processes:
            broker, env, submit = prepare(hardy, processes)
            processes.start("coordinator", [hardy, "coordinator"], env=env)
            for number in range(workers):
                processes.start(f"worker-{number}", [hardy, "worker", "--workers", "1"], env=env)
            submitted = processes.start("submit", submit, env=env)
            seen = []
            for line in samples(broker.management(), "/", "hardy", every):
                seen.append(line)
                if submitted.poll():
                    raise SystemExit(f"record_queues: the job failed:\n{processes.log('submit').read_text()}")
                if submitted.poll() == 0 and quiet(line):
                    return seen


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
    try:
        if args.hardy:
            lines = small_job(args.hardy.resolve(), args.workers, args.every)
        else:
            lines = samples(args.management, args.vhost, args.prefix, args.every)
        for line in lines:
            print(json.dumps(line), flush=True)
    except KeyboardInterrupt:
        sys.exit(0 if args.management else 130)


if __name__ == "__main__":
    main()
