"""Alert rules and dashboard: they parse, do what they say, and name only metrics there are."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from conftest import CHART, ROOT, of, rendered

# What coordinators and workers show under /metrics, with their labels.
METRICS = {
    "hardy_tasks_total": {"kind", "outcome"},
    "hardy_task_duration_seconds_bucket": {"kind", "le"},
    "hardy_images_total": {"stage"},
    "hardy_queue_messages": {"queue", "state"},
    "hardy_task_retries_total": set(),
    "hardy_dead_letters": set(),
    "hardy_workers": set(),
    "hardy_leader": set(),
    "hardy_jobs": {"state"},
    "hardy_job_accuracy_ratio": {"model", "attack", "epsilon"},
    "hardy_gate_decisions_total": {"decision"},
    "hardy_current_model_timestamp_seconds": set(),
    "hardy_last_success_timestamp_seconds": set(),
    "hardy_gpu_memory_bytes": {"device"},
    "hardy_gpu_utilisation_ratio": {"device"},
}
RULES = CHART / "rules/hardy.yaml"
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is missing (Debian's package prometheus)")


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels():
    return [p for p in json.loads((CHART / "dashboards/hardy.json").read_text())["panels"] if p["type"] != "row"]


def expressions():
    shown = [target["expr"].replace("$__rate_interval", "5m") for panel in panels() for target in panel["targets"]]
    return [rule["expr"] for rule in rules()] + shown


def test_only_metrics_there_are():
    used = set()
    for expression in expressions():
        names = re.findall(r"hardy_\w+", expression)
        assert names and set(names) <= METRICS.keys(), expression
        used |= set(names)
        labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", expression))
        labels |= {label for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(", ")}
        assert labels <= set().union(*(METRICS[name] for name in names)), expression
    assert used == METRICS.keys(), "the dashboard shows everything"


def test_the_dashboard_has_a_place_for_every_panel():
    taken = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken and all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_the_chart_passes_both_on():
    objects = rendered("aws-gpu")
    assert of(objects, "PrometheusRule")[0]["spec"] == yaml.safe_load(RULES.read_text())
    board = of(objects, "ConfigMap", "-dashboard")[0]["data"]["hardy.json"]
    assert json.loads(board) == json.loads((CHART / "dashboards/hardy.json").read_text())


def test_every_alert_is_in_the_operating_guide():
    guide = (ROOT / "docs/operating.md").read_text()
    for rule in rules():
        assert f"### {rule['alert']}\n" in guide, rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical") and rule["annotations"]["summary"]
    assert set(re.findall(r"### (Hardy\w+)\n", guide)) == {rule["alert"] for rule in rules()}


@needs_promtool
def test_promtool_checks_the_rules(tmp_path):
    subprocess.run(["promtool", "check", "rules", RULES], check=True)
    every = [{"record": f"check:{i}", "expr": expression} for i, expression in enumerate(expressions())]
    path = tmp_path / "every.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "every", "rules": every}]}))
    subprocess.run(["promtool", "check", "rules", path], check=True)


@needs_promtool
def test_alerts_fire_when_they_should():
    test = ROOT / "tests/helm/rules_test.yaml"
    subprocess.run(["promtool", "test", "rules", test.name], check=True, cwd=test.parent)
    tested = set(re.findall(r"alertname: (\w+)", test.read_text()))
    assert tested == {rule["alert"] for rule in rules()}
