"""The chart, rendered by Helm's own library."""

import functools
import os
import pathlib

import pytest
import yaml
from helm_python import Chart

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/hardy"
CASES = ["default", *sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))]


@functools.cache
def loaded():
    return Chart.load(CHART)


def case_values(case):
    return {} if case == "default" else yaml.safe_load((CHART / f"ci/{case}.yaml").read_text())


def render(values, name="night", namespace="flowers"):
    """Every object of the chart with `values`."""
    files = loaded().render(values, name=name, namespace=namespace)
    manifests = {name: text for name, text in files.items() if name.endswith(".yaml")}
    return [object for text in manifests.values() for object in yaml.safe_load_all(text) if object]


@functools.cache
def rendered(case):
    return render(case_values(case))


def of(objects, kind, suffix=""):
    """The objects of a kind, by name."""
    return [o for o in objects if o["kind"] == kind and o["metadata"]["name"].endswith(suffix)]


def pods(objects):
    """Every pod that the objects lead to: (name of the object, metadata, spec)."""
    found = []
    for o in objects:
        spec = o.get("spec", {})
        template = {
            "Deployment": lambda: spec["template"],
            "ScaledJob": lambda: spec["jobTargetRef"]["template"],
            "CronJob": lambda: spec["jobTemplate"]["spec"]["template"],
            "Pod": lambda: o,
        }.get(o["kind"])
        if template:
            pod = template()
            found.append((f"{o['kind']} {o['metadata']['name']}", pod["metadata"], pod["spec"]))
    return found


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture
def objects(case):
    return rendered(case)


@pytest.fixture(scope="session")
def hardy():
    """The program; HARDY_BIN, or what `make build` made."""
    path = pathlib.Path(os.environ.get("HARDY_BIN", ROOT / "target/release/hardy"))
    if not path.exists():
        pytest.fail(f"{path} is missing: run `make build` or set HARDY_BIN")
    return path
