"""What the API of Kubernetes and of its operators takes."""

import json
import re

import jsonschema
import kubernetes_validate
import yaml
from conftest import CHART, ROOT

OLDEST = re.search(r">=(\d+\.\d+)", yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"])[1]
NEWEST = kubernetes_validate.latest_version()
CRDS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "tests/helm/crds").glob("*.json")}


def validate(o, version):
    """Raises where the API of `version` would not take the object."""
    if o["kind"].lower() in CRDS:
        validate_custom(o)
    else:
        kubernetes_validate.validate(o, version, strict=True)
    for inner in parts_of_the_api(o):
        kubernetes_validate.validate(inner, version, strict=True)


def validate_custom(o):
    jsonschema.validate(o, CRDS[o["kind"].lower()], cls=jsonschema.Draft202012Validator)


def parts_of_the_api(o):
    """What a custom resource takes over from the API unchanged."""
    spec = o.get("spec", {})
    if o["kind"] == "ScaledJob":
        yield {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": spec["jobTargetRef"]}
    if o["kind"] == "ScaledObject":
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec["scaleTargetRef"]["name"]}
        hpa = {"scaleTargetRef": target, "maxReplicas": spec["maxReplicaCount"]}
        hpa |= spec["advanced"]["horizontalPodAutoscalerConfig"]
        yield {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"}, "spec": hpa}
