"""A job is one trace, whoever worked on it: real processes, of which the leader is stopped half-way, and a collector."""

import hashlib
import json
import pathlib
import subprocess
import tempfile
import time
from collections import Counter

import pytest
from collector import Collector
from record_queues import NAME, prepare
from servers import Processes

PATIENCE = 900  # seconds that anything may take on a slow machine
COORDINATORS, WORKERS = ["first", "second"], ["one", "two"]


class Cluster:
    """Coordinators and workers by name, each of which sends its spans."""

    def __init__(self, hardy, processes, collector):
        self.hardy, self.processes, self.collector = hardy, processes, collector
        _, env, self.submit = prepare(hardy, processes)
        self.env = {name: text for name, text in env.items() if not name.startswith(("OTEL_", "HARDY_LOG"))}
        self.sending = self.env | {
            "HARDY_LOG_FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        self.serving = {}

    def start(self, what, name, *more, **env):
        command = [self.hardy, what, "--name", name, *more]
        self.serving[name] = self.processes.start(name, command, env=self.sending | env)

    def until(self, what, holds):
        """Waits until `holds`, which gives what it was asked for; nobody may leave meanwhile without being told to."""
        began = time.monotonic()
        while not (found := holds()):
            gone = [name for name, process in self.serving.items() if process.poll() is not None]
            if gone or time.monotonic() - began > PATIENCE:
                logs = {name: self.processes.log(name).read_text()[-3000:] for name in gone or self.serving}
                raise RuntimeError(f"{what} did not come, {gone or 'nobody'} has left: {logs}")
            time.sleep(0.1)
        return found

    def stop(self, *names):
        """SIGTERM; all must leave in peace."""
        leaving = {name: self.serving.pop(name) for name in names}
        for process in leaving.values():
            process.terminate()
        codes = {name: process.wait(PATIENCE) for name, process in leaving.items()}
        assert set(codes.values()) == {0}, {name: self.processes.log(name).read_text()[-3000:] for name in codes}

    def leads(self, name):
        return '"message":"leads"' in self.processes.log(name).read_text()

    def status(self):
        """How the job goes; nothing before it was submitted."""
        asked = subprocess.run([self.hardy, "status", "--json", NAME], env=self.env, capture_output=True, text=True)
        return json.loads(asked.stdout) if asked.returncode == 0 else {}

    def half_way(self):
        """Whether defended training has begun and both workers have been at work on it."""
        rounds = Counter(round["phase"] for round in self.status().get("rounds", []))
        seen = {span.attributes["worker"] for span in list(self.collector.spans) if span.name == "task"}
        return rounds["train"] >= 1 and len(seen) == len(WORKERS)


@pytest.fixture(scope="module")
def spans(hardy):
    """Every span of a job whose first leader was stopped half-way."""
    with tempfile.TemporaryDirectory(prefix="hardy-traces-", ignore_cleanup_errors=True) as name:
        with Processes(pathlib.Path(name)) as processes, Collector() as collector:
            cluster = Cluster(hardy.resolve(), processes, collector)
            cluster.start("coordinator", "first")
            cluster.until("the lead", lambda: cluster.leads("first"))
            cluster.start("coordinator", "second")
            # A quiet log takes nothing from the traces.
            for worker, level in zip(WORKERS, ["info", "error"]):
                cluster.start("worker", worker, "--workers", "1", HARDY_LOG=level)
            submitted = processes.start("submit", cluster.submit, env=cluster.env)
            cluster.until("half of the job", cluster.half_way)
            cluster.stop("first")
            cluster.until("the other one's lead", lambda: cluster.leads("second"))
            assert submitted.poll() is None, "the job was over before it had two leaders"
            cluster.until("the end", lambda: submitted.poll() is not None)
            assert submitted.returncode == 0, processes.log("submit").read_text()
            # The last thing a leader does for a job.
            cluster.until("the root", lambda: any(not span.parent for span in list(collector.spans)))
            cluster.stop("second", *WORKERS)
            assert collector.spans and not collector.refused, collector.refused
            return list(collector.spans)


@pytest.fixture(scope="module")
def root(spans):
    [root] = [span for span in spans if not span.parent]
    return root


@pytest.fixture(scope="module")
def tasks(spans):
    return [span for span in spans if span.name == "task"]


def test_the_job_is_one_trace_known_by_its_name(spans, root):
    digest = hashlib.sha256(NAME.encode()).hexdigest()
    assert {span.trace for span in spans} == {digest[:32]} and root.id == digest[32:48]
    assert {span.attributes["job"] for span in spans} == {NAME}
    assert {span.resource["service.name"] for span in spans} == {"hardy"}


def test_the_root_is_the_job(root):
    assert (root.name, root.attributes["state"], root.failed) == (f"job {NAME}", "done", False)


def test_everything_else_is_a_child_of_the_root(spans, root):
    children = [span for span in spans if span is not root]
    assert {span.parent for span in children} == {root.id}
    assert Counter(span.name for span in children).keys() == {"job", "task"}
    assert len({span.id for span in spans}) == len(spans)


def test_every_task_says_what_it_was(tasks):
    for span in tasks:
        assert {"job", "task", "attempt", "worker", "kind", "outcome"} <= span.attributes.keys(), span
        assert span.attributes["outcome"] in ("done", "failed", "handed_back"), span
    assert len({span.attributes["attempt"] for span in tasks}) == len(tasks)
    done = {span.attributes["kind"] for span in tasks if span.attributes["outcome"] == "done"}
    assert {"inspect", "shard", "augment", "train", "merge", "evaluate"} <= done


def test_all_who_took_part_are_there(spans, tasks):
    assert {span.attributes["worker"] for span in tasks} == {f"{worker}.0" for worker in WORKERS}
    assert {span.attributes["coordinator"] for span in spans if span.name == "job"} == set(COORDINATORS)


def test_nothing_lies_outside_of_the_root(spans, root):
    for span in spans:
        assert root.began <= span.began <= span.ended <= root.ended, span
    first, second = sorted((span for span in spans if span.name == "job"), key=lambda span: span.began)
    assert first.ended <= second.began, "one leads after the other"
