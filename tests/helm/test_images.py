"""Dockerfile and compose file, as far as they can be checked without a container engine."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

import pytest
import yaml
from conftest import CASES, ROOT, loaded, pods, rendered
from servers import Processes, SeaweedFs

DOCKERFILE = ROOT / "deploy/Dockerfile"
COMPOSE = ROOT / "deploy/compose.yaml"


def tool(name):
    return [sys.executable, "-m", name] if name != "hadolint" else [sys.executable.rsplit("/", 1)[0] + "/hadolint"]


def stages():
    """(base, name) of every stage, in order."""
    return re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE.read_text(), re.M)


def test_hadolint():
    subprocess.run([*tool("hadolint"), DOCKERFILE], check=True)


def test_bases_are_pinned_by_tag():
    names = {name for _, name in stages()}
    for base, _ in stages():
        assert base in names or re.fullmatch(r"[\w./-]+:(?!latest)[\w.-]+", base), base
    assert {"coordinator", "worker-cpu", "worker-cuda"} <= names


def test_the_trial_knows_bases_and_stages():
    """Of deploy/try_images.sh, which takes long; here only that it fits the Dockerfile."""
    trial = ROOT / "deploy/try_images.sh"
    subprocess.run(["bash", "-n", trial], check=True)
    names = {name for _, name in stages()}
    assert set(re.search(r'^GIVEN_STAGES="(.*)"$', trial.read_text(), re.M)[1].split()) < names
    bases = [base for base, _ in stages() if base not in names]
    for pattern in re.findall(r"\$\(base (\S+)\)", trial.read_text()):
        assert sum(pattern in base for base in bases) == 1, pattern
    assert len(bases) == 3, "all have a stand-in"
    long_form = re.search(r"^\tdeploy/try_images.sh (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    taken_from = re.findall(r"(?:--from=|^FROM )([\w-]+)", DOCKERFILE.read_text(), re.M)
    assert set(long_form) == names - set(taken_from), "every image that is not a part of another"


def test_the_images_are_built_and_start(request):
    """The short form of deploy/try_images.sh, with the programs that `make build` made."""
    if os.geteuid() != 0 or not shutil.which("buildah") or not shutil.which("debootstrap"):
        pytest.skip("takes root, buildah and debootstrap")
    # Whatever is mounted goes with the namespace, before the folder does.
    apart = ["unshare", "--mount"]
    if subprocess.run([*apart, "true"]).returncode != 0:
        pytest.skip("takes a mount namespace")
    built = request.getfixturevalue("hardy").resolve().parent
    with tempfile.TemporaryDirectory(prefix="hardy-images-", dir="/var/tmp", ignore_cleanup_errors=True) as room:
        env = {"HARDY_TRY_IMAGES": room} | os.environ | {"HARDY_TRY_BUILT": str(built)}
        subprocess.run([*apart, ROOT / "deploy/try_images.sh"], check=True, env=env)


def test_the_toolchain_is_new_enough():
    wanted = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["rust-version"].split(".")[:2]
    tag = re.search(r"^FROM rust:(\d+)\.(\d+)-", DOCKERFILE.read_text(), re.M)
    assert [int(n) for n in tag.groups()] >= [int(n) for n in wanted]


def test_what_is_copied_is_sent_to_the_builder():
    text = DOCKERFILE.read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    copied = [word for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M) for word in line.split()[:-1]]
    for path in copied:
        assert (ROOT / path).exists() and path in allowed, path
    assert set(allowed) == set(copied)
    # Cargo wants every target it is told of, and the program what it includes.
    for kind in ("bench", "bin"):
        for target in tomllib.loads((ROOT / "Cargo.toml").read_text())[kind]:
            path = target.get("path", f"benches/{target['name']}.rs")
            assert any(path == c or path.startswith(c + "/") for c in copied), path


def test_last_stages_are_not_root():
    for name in ("coordinator", "worker"):
        stage = re.search(rf"^FROM \S+ AS {name}$(.*?)(?=^FROM |\Z)", DOCKERFILE.read_text(), re.M | re.S)[1]
        assert re.search(r"^USER 65532:65532$", stage, re.M) and "tini" in stage, name


def test_the_chart_uses_the_images_there_are():
    images = {spec["containers"][0]["image"] for case in CASES for _, _, spec in pods(rendered(case))}
    names = {image.rsplit("/", 1)[-1].split(":")[0] for image in images}
    assert names == {f"hardy-{target}" for target in ("coordinator", "worker-cpu", "worker-cuda")}
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    assert loaded().metadata["appVersion"] == version
    assert set(re.findall(r"^ARG VERSION=(\S+)$", DOCKERFILE.read_text(), re.M)) == {version}


def test_compose_follows_the_specification():
    subprocess.run([*tool("check_jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE], check=True)


def test_the_bucket_of_compose_is_made():
    """Its command, typed at a real server, also where the bucket is there already."""
    service = yaml.safe_load(COMPOSE.read_text())["services"]["bucket"]
    with tempfile.TemporaryDirectory(prefix="hardy-bucket-", ignore_cleanup_errors=True) as name:
        with Processes(pathlib.Path(name)) as processes:
            store = SeaweedFs(processes)
            [command] = service["command"]
            assert command.count("s3:9333") == 1
            path = f"{pathlib.Path(store.program).parent}:{os.environ['PATH']}"
            for _ in range(2):
                line = [*service["entrypoint"], command.replace("s3:9333", store.master)]
                subprocess.run(line, check=True, cwd=name, env=os.environ | {"PATH": path}, timeout=60)
            store_knows = subprocess.run(
                [store.program, "shell", f"-master={store.master}"], input="s3.bucket.list\n", cwd=name, text=True,
                capture_output=True,
            )  # fmt: skip
            assert re.search(r"^\s*hardy\b", store_knows.stdout + store_knows.stderr, re.M), store_knows


def test_compose():
    compose = yaml.safe_load(COMPOSE.read_text())
    services = compose["services"]
    targets = {s["build"]["target"] for s in services.values() if "build" in s}
    assert targets == {"coordinator", "worker-cpu"} and services["worker"]["deploy"]["replicas"] == 2
    settings = tomllib.loads((ROOT / "configs/default.toml").read_text())
    for name, service in services.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: open to others"
        for need in service.get("depends_on", []):
            assert need in services, name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (COMPOSE.parent / source).exists(), f"{name}: {source}"
        for config in service.get("configs", []):
            assert config["source"] in compose["configs"], name
        if "image" in service and "hardy" not in service["image"]:
            assert re.fullmatch(r"[\w./-]+:(?!latest)[\w.-]+", service["image"]), service["image"]
        for variable in service.get("environment", {}):
            if variable.startswith("HARDY_") and "HTTP" not in variable:
                section, key = variable.removeprefix("HARDY_").lower().split("__")
                assert key in settings[section], variable
    for text in (c["content"] for c in compose["configs"].values()):
        assert yaml.safe_load(text)
    grace = settings["worker"]["grace"]
    assert int(services["worker"]["stop_grace_period"].rstrip("s")) > grace
