"""Alert rules and dashboard: they parse, do what they say, and name only metrics there are."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from conftest import CHART, ROOT, of, render, rendered
from figures import check, documented

RULES = CHART / "rules/hardy.yaml"
RULES_TEST = ROOT / "tests/helm/rules_test.yaml"
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is missing (Debian's package prometheus)")


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels():
    return [p for p in json.loads((CHART / "dashboards/hardy.json").read_text())["panels"] if p["type"] != "row"]


def expressions():
    shown = [target["expr"].replace("$__rate_interval", "5m") for panel in panels() for target in panel["targets"]]
    for expression in shown:
        selectors = re.findall(r"\bhardy_\w+(\{[^}]*\})?", expression)
        assert all('{namespace=~"$namespace", job=~"$job"' in selector for selector in selectors), "of the chosen release"
    return [rule["expr"] for rule in rules()] + shown


def test_only_figures_there_are():
    used = set()
    for expression in expressions():
        names = check(expression)
        assert names, expression
        used |= names
    of_histograms = {name for name in documented() if name.endswith(("_sum", "_count"))}
    # Those of one worker are the leader's, seen from below.
    of_a_worker = {name for name in documented() if name.startswith("hardy_worker_")}
    assert used == documented().keys() - of_histograms - of_a_worker, "the dashboard shows everything"


def test_the_alerts_are_tried_with_figures_there_are():
    for test in yaml.safe_load(RULES_TEST.read_text())["tests"]:
        for series in test["input_series"]:
            assert check(series["series"]), series


@pytest.mark.parametrize(
    "typo",
    [
        "hardy_queue_message",
        'hardy_queue_messages{queue=~".*tasks.*"}',
        'hardy_queue_messages{queue!="tasks"}',
        'hardy_queue_messages{queues="high"}',
        "sum by (queues) (hardy_queue_messages)",
        "max(hardy_workers) > on (pods) hardy_workers_busy",
        'hardy_tasks_total{outcome="handed_back"}',
        'hardy_task_duration_seconds{kind="train"}',
    ],
)
def test_a_selector_that_finds_nothing_is_noticed(typo):
    with pytest.raises(AssertionError):
        check(typo)


def test_alerts_keep_releases_apart():
    """What is gathered is gathered by release, and only what is of one release is held against each other."""
    for rule in rules():
        text = rule["expr"]
        for function, labels in re.findall(r"\b(sum|max|min|count|avg)\b(?: by \(([^)]*)\))?", text):
            assert {"namespace", "job"} <= set(labels.split(", ")), f"{rule['alert']}: {function}"
        for labels in re.findall(r"\b(?:and|unless)\b(?: on \(([^)]*)\))?", text):
            assert labels == "namespace, job", rule["alert"]


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


def test_nights_can_be_left_out_of_the_alerts():
    def alerts(nights):
        rule = {"enabled": True, "nights": nights}
        spec = of(render({"metrics": {"prometheusRule": rule}}), "PrometheusRule")[0]["spec"]
        return {rule["alert"] for group in spec["groups"] for rule in group["rules"]}

    of_nights = {"HardyNoSuccessfulNight", "HardyNeverSucceeded", "HardyRobustAccuracyFell"}
    assert alerts(True) - alerts(False) == of_nights and alerts(False) and not alerts(False) & of_nights


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
    subprocess.run(["promtool", "test", "rules", RULES_TEST.name], check=True, cwd=RULES_TEST.parent)
    tested = set(re.findall(r"alertname: (\w+)", RULES_TEST.read_text()))
    assert tested == {rule["alert"] for rule in rules()}
