"""A small world in which the documents' commands are typed: photos, a broker, an S3 server, a cluster of Hardy."""

import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile

from commands import commands, fences
from conftest import ROOT
from servers import SCRIPTS, Processes, RabbitMq, SeaweedFs, free_ports, listens, without_settings

PATIENCE = 600  # seconds that one command may take on a slow machine
TOKEN = "scene-token"
RIGHTS = "docs/security.md"  # makes the broker's users, which all others need

# Settings that make every job small; variables win over the files that --config names.
SMALL = {
    "model.architecture": "hardy_small",
    "model.weights": "none",
    "model.input_size": "32",
    "data.shard_images": "64",
    "data.near_duplicate_bits": "0",
    "baseline.rounds": "1",
    "train.rounds": "2",
    "train.input_size": "0",
    "train.batch": "8",
    "guard.images": "10",
    "guard.steps": "3",
    "guard.gap": "1",
    "guard.drop": "1",
    "evaluate.epsilons": '["2/255", "8/255"]',
    "evaluate.examples": "4",
    "attack.method": "fgsm",
    "attack.epsilons": "[]",
    # A network this small is not worth promoting; what the gate judges is not the matter here.
    "gate.epsilon": "2/255",
    "gate.checks": "false",
    "gate.class_floor": "0",
}


def stand_ins(broker, store):
    """What the pages write, and what stands for it here."""
    url = broker.url("hardy", "PASSWORD", "hardy")
    return {
        "amqp://user:password@broker/vhost": url,
        "amqp://hardy:password@rabbitmq/hardy": url,
        "rabbitmq.brokers:5672": broker.address,
        "http://minio:9000": store.endpoint,
        "AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…": " ".join(f"{k}={v}" for k, v in store.CREDENTIALS.items()),
        "--per-class 200": "--per-class 12 --size 40",
        # The TorchScript file of the tests knows no flowers.
        "photos --model resnet18.pt": "photos --model resnet18.pt --label reddish",
        # One model is enough to see images carried over.
        "other-run/model": "flowers-run/model",
        # The first night, and one without new photos; the settings of this world do not reach them.
        "--nights 14": "--nights 2 --set baseline.rounds=1 --set train.rounds=2 --set gate.class_floor=0",
        "http://USER:PASSWORD@rabbitmq:15672": broker.management("hardy-keda", "PASSWORD"),
        # Until Ctrl-C.
        "tests/helm/record_queues.py": f"timeout --preserve-status --signal=INT 4 {ROOT}/tests/helm/record_queues.py",
        "hardy COMMAND": "hardy run",
    }


# What a page takes to have happened before a command: part of the command, and what brings it about.
PRESUMED = {
    "/api/jobs/nightly/cancel": "hardy submit --rehearse 4000 --stored --name nightly",
    "/api/jobs/nightly/retry": "hardy watch nightly || test $? = 7",
    "hardy status JOB": "hardy submit --rehearse 4000 --stored --name JOB",
    "hardy retry JOB": "hardy cancel JOB && { hardy watch JOB || test $? = 7; }",
    "hardy fetch JOB": "hardy watch JOB",
}


def photos(scene, folder):
    scene.hardy("dataset", "synth", "--out", folder / "photos", "--per-class", "12", "--size", "40")


def flower_photos(scene, folder):
    shutil.copytree(scene.given("photos") / "photos", folder / "flower_photos")


def a_photo(name):
    def give(scene, folder):
        shutil.copy(next((scene.given("photos") / "photos/val").rglob("*.jpg")), folder / name)

    return give


def torchscript(_, folder):
    for kind in ("pt", "json"):
        shutil.copy(ROOT / f"tests/fixtures/script/traced.{kind}", folder / f"resnet18.{kind}")


def torch_weights(_, folder):
    """A ResNet-18 as torch.save writes it, each of its tensors 0.5 repeated."""

    def text(of):
        return b"X" + struct.pack("<i", len(of)) + of.encode()

    def numbers(of):
        return b"(" + b"".join(b"J" + struct.pack("<i", n) for n in of) + b"t"

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x01tQ"
    pickle = b"\x80\x02}("
    networks = json.loads((ROOT / "tests/fixtures/model/timm.json").read_text())
    for name, shape, kind in networks["resnet18"]["tensors"]:
        if kind == "torch.float32":
            tensor = storage + b"K\0" + numbers(shape) + numbers([0] * len(shape)) + b"\x89ccollections\nOrderedDict\n)R"
            pickle += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + tensor + b"tR"
    with zipfile.ZipFile(folder / "resnet18.pth", "w") as archive:
        archive.writestr("resnet18/data.pkl", pickle + b"u.")
        archive.writestr("resnet18/data/0", struct.pack("<f", 0.5))


def trained(scene, folder):
    scene.hardy("run", "--data", scene.given("photos") / "photos", "--out", folder / "flowers-run")


def another(scene, folder):
    scene.hardy(
        "run", "--data", scene.given("photos") / "photos", "--out", folder / "other-run", "--set", "job.seed=7"
    )


def values(_, folder):
    """The example of the operating guide."""
    [example] = [fence.text for fence in fences("docs/operating.md") if fence.language == "yaml"]
    (folder / "values.yaml").write_text(example)


def checkout(name):
    return lambda _, folder: (folder / name).symlink_to(ROOT / name)


# Who types a command has these, unless the page makes them itself.
GIVEN = {
    "photos": photos,
    "flower_photos": flower_photos,
    "labrador.jpg": a_photo("labrador.jpg"),
    "photo.jpg": a_photo("photo.jpg"),
    "resnet18.pt": torchscript,
    "resnet18.pth": torch_weights,
    "flowers-run": trained,
    "other-run": another,
    "values.yaml": values,
    "configs": checkout("configs"),
    "helm": checkout("helm"),
}


class Scene:
    def __init__(self, folder, processes, hardy):
        self.folder = folder
        self.processes = processes
        self.program = hardy.resolve()
        self.broker = RabbitMq(processes)
        self.store = SeaweedFs(processes)
        self.store.bucket("bucket")
        self.page_port, *_ = free_ports(1)
        self.stand_ins = stand_ins(self.broker, self.store)
        self.pages = {}
        self.used = set()  # of GIVEN
        self.serves = False
        (folder / "tmp").mkdir()
        self._programs(folder / "bin")
        (folder / ".curlrc").write_text(
            f"silent\nshow-error\nfail-with-body\nconnect-to = coordinator:8080:127.0.0.1:{self.page_port}\n"
        )

    def _programs(self, folder):
        folder.mkdir()
        (folder / "hardy").symlink_to(self.program)
        python, broker = sys.executable, self.broker.environment
        for name, command in {
            # What `make build` makes is there.
            "make": f"{shutil.which('make')} --file={ROOT}/Makefile --old-file=build HARDY=hardy",
            "rabbitmqctl": " ".join(["env", *(f"'{k}={v}'" for k, v in broker.items()), f"{SCRIPTS}/rabbitmqctl"]),
            "helm": f"{python} {ROOT}/tests/helm/stand_ins.py helm",
            "kubectl": f"{python} {ROOT}/tests/helm/stand_ins.py kubectl",
        }.items():
            (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            (folder / name).chmod(0o755)

    @property
    def environment(self):
        """Of somebody who has set up everything as docs/cluster.md says."""
        settings = {"HARDY_" + key.upper().replace(".", "__"): value for key, value in SMALL.items()}
        return without_settings(os.environ) | settings | self.store.CREDENTIALS | {
            "PATH": f"{self.folder}/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "TOKEN": TOKEN,
            "STAND_INS": str(self.folder / "kubernetes.json"),
            "HARDY_QUEUE__URL": self.broker.url("hardy", "PASSWORD", "hardy"),
            "HARDY_STORE__URL": "s3://bucket/hardy",
            "HARDY_STORE__ENDPOINT": self.store.endpoint,
        }  # fmt: skip

    def hardy(self, *words):
        """Runs a command that must succeed; what it printed."""
        done = subprocess.run([self.program, *map(str, words)], env=self.environment, text=True, capture_output=True)
        assert done.returncode == 0, f"hardy {' '.join(map(str, words))}: {done.stderr}"
        return done.stdout

    def given(self, name):
        """The folder in which `name` was made."""
        folder = self.folder / "given" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            GIVEN[name](self, folder)
        return folder

    def serve(self):
        """A cluster with a page on it, and photos in its bucket. Its user is the one of docs/security.md."""
        if not self.serves:
            self.serves = True
            page = {"HARDY_HTTP__LISTEN": f"127.0.0.1:{self.page_port}", "HARDY_HTTP__TOKEN": TOKEN}
            self.store.put(self.given("photos") / "photos", "bucket/photos")
            leader = self.processes.start("coordinator", [self.program, "coordinator"], env=self.environment | page)
            self.processes.wait_for("coordinator", leader, lambda: listens(self.page_port))
            self.processes.start("worker", [self.program, "worker"], env=self.environment)

    def page(self, name):
        if name not in self.pages:
            if name != RIGHTS:
                self.page(RIGHTS).run(commands(RIGHTS)[-1])
                self.serve()
            self.pages[name] = Page(self, name)
        return self.pages[name]


class Page:
    """A folder and a shell in which the commands of a page are typed."""

    def __init__(self, scene, name):
        self.scene = scene
        self.commands = commands(name)
        self.done = {}
        folder = scene.folder / re.sub(r"\W", "-", name)
        folder.mkdir()
        text = "\n".join(command.text for command in self.commands)
        for thing in GIVEN:
            # Not a part of another path or name.
            word = rf"(?<![\w./:-]){re.escape(thing)}(?![\w.-])"
            if re.search(word, text) and not re.search(rf"--out {word}", text):
                scene.used.add(thing)
                shutil.copytree(scene.given(thing), folder, symlinks=True, dirs_exist_ok=True)
        self.shell = Shell(folder, scene.environment)

    def run(self, command, skipped=()):
        """Types the command after all that stand before it; fails where one of them does."""
        for each in self.commands[: self.commands.index(command) + 1]:
            if each not in self.done and each not in skipped:
                self.done[each] = self.type(each.text)
            code, said = self.done.get(each, (0, ""))
            assert code == 0, f"{each}: exit code {code}\n{said[-6000:]}"

    def type(self, text):
        for part, before in PRESUMED.items():
            if part in text:
                code, said = self.shell.type(before)
                assert code == 0, f"{before}: {said}"
        for written, here in self.scene.stand_ins.items():
            text = text.replace(written, here)
        return self.shell.type(text)


class Shell:
    def __init__(self, folder, environment):
        self.folder = folder
        self.count = 0
        self.process = subprocess.Popen(
            ["bash", "-u"], cwd=folder, env=environment, stdin=subprocess.PIPE, text=True, start_new_session=True
        )

    def type(self, text):
        """Exit code of a command and all that it said."""
        self.count += 1
        script, said, code = (self.folder / f".typed-{self.count}.{end}" for end in ("sh", "out", "code"))
        script.write_text(text + "\n")
        if self.process.poll() is not None:
            return None, "the shell is gone"
        self.process.stdin.write(f". {script} </dev/null >{said} 2>&1; echo $? >{code}.new; mv {code}.new {code}\n")
        self.process.stdin.flush()
        began = time.monotonic()
        while not code.exists():
            if self.process.poll() is not None or time.monotonic() - began > PATIENCE:
                return None, (said.read_text() if said.exists() else "") + "\nit did not come to an end"
            time.sleep(0.05)
        return int(code.read_text()), said.read_text()

    def still_running(self):
        """How many of the commands that were sent into the background go on."""
        return int(self.type("jobs -pr | wc -l")[1])

    def close(self):
        """Ends what was started here, as its user would."""
        self.type("kill $(jobs -pr) 2>/dev/null; wait")
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def make(hardy):
    """A scene, and the end of it; for a fixture."""
    with tempfile.TemporaryDirectory(prefix="hardy-scene-", ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        with Processes(folder) as processes:
            scene = Scene(folder, processes, hardy)
            try:
                yield scene
            finally:
                for page in scene.pages.values():
                    page.shell.close()
