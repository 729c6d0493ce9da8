"""What the chart renders, for the default values and for every file of helm/hardy/ci."""

import json
import re
import subprocess

import jsonschema
import pytest
import yaml
from api import CRDS, NEWEST, OLDEST, validate, validate_custom
from conftest import CHART, ROOT, case_values, loaded, of, pods, render, rendered
from helm_python import chart as helm
from helm_python.errors import HelmError


def test_lint(case):
    for version in (OLDEST, NEWEST):
        report = helm.lint(CHART, case_values(case), strict=True, namespace="flowers", kube_version=f"v{version}.0")
        # An icon is for catalogues; nothing else is excused.
        notes = [m for m in report["messages"] if "icon is recommended" not in m["error"]]
        assert (notes, report["errors"]) == ([], [])


def test_notes(case):
    notes = loaded().render(case_values(case), name="night", namespace="flowers")["hardy/templates/NOTES.txt"]
    assert "helm test night --namespace flowers" in notes and "<no value>" not in notes and "%!" not in notes
    assert len(notes.splitlines()) < 30


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_objects_are_what_the_api_knows(objects, version):
    for o in objects:
        validate(o, version)


@pytest.mark.parametrize("kind", sorted(CRDS))
def test_the_committed_schemas_refuse_what_is_wrong(kind):
    whole = [o for case in ("default", "aws-gpu", "on-prem-minio", "scaledjob") for o in rendered(case)]
    good = next(o for o in whole if o["kind"].lower() == kind)
    for wrong in (good | {"apiVersion": "v1"}, good | {"spec": good["spec"] | {"replica": 1}}, good | {"spec": []}):
        with pytest.raises(jsonschema.ValidationError):
            validate_custom(wrong)


@pytest.mark.parametrize(
    "typo",
    [
        "coordinater: {replicas: 2}",
        "worker: {gpus: {enabled: true}}",
        "worker: {gpu: {enabled: 'yes'}}",
        "autoscaling: {mode: hpa2}",
        "autoscaling: {maxReplica: 3}",
        "autoscaling: {maxReplicas: 0}",
        "config: {train: {round: 3}}",
        "config: {trian: {rounds: 3}}",
        "config: {train: {rounds: three}}",
        "nightly: {config: {train: {round: 3}}}",
        "nightly: {schedule: daily}",
        "nightly: {data: /photos}",
        "nightly: {name: 'a b'}",
        "worker: {resources: {limit: {cpu: 1}}}",
        "worker: {scratch: 20GB}",
        "worker: {maxUnavailable: 0}",
        "worker: {maxUnavailable: 0%}",
        "autoscaling: {jobIdleSeconds: 0}",
        "config: {http: {listen: '0.0.0.0:8080'}}",
        "image: {registry: registry.example.org/team}",
        "logFormat: xml",
        "networkPolicy: {egressPorts: [amqp]}",
        # Passwords belong in Secrets.
        "config: {queue: {url: 'amqp://u:p@h'}}",
        "config: {http: {token: t}}",
        "config: {webhook: {url: 'https://hooks.slack.com/services/T0/B0/x'}}",
        "nightly: {config: {webhook: {url: 'https://hooks.slack.com/services/T0/B0/x'}}}",
        "rabbitmq: {managementUrl: 'http://u:p@h:15672'}",
    ],
)
def test_a_typo_is_refused(typo):
    with pytest.raises(HelmError, match="(?i)additional propert|not allowed|schema|must be|don't meet"):
        render(yaml.safe_load(typo))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("worker: {terminationGracePeriodSeconds: 540}", "must be more than config.worker.grace, 540"),
        ("{config: {worker: {count: 0}}, worker: {resources: {limits: {cpu: 4}}}}", "autoscaling.tasksPerReplica"),
        ("{config: {worker: {count: 0}}, autoscaling: {mode: fixed}}", "worker.resources.limits.cpu"),
        ("config: {worker: {idle: 60}}", "config.worker.idle"),
        ("nightly: {enabled: true}", "nightly.data"),
        ("nightly: {enabled: true, data: 's3://b/p', name: nightly}", "nightly.name"),
        ("rabbitmq: {managementUrl: ''}", "rabbitmq.managementUrl"),
        ("{rabbitmq: {cluster: {enabled: true}}, config: {queue: {ca: /ca.crt}}}", "rabbitmq.cluster.enabled"),
        ("serviceAccount: {create: false}", "serviceAccount.name"),
        ("rabbitmq: {existingSecret: ''}", "rabbitmq.existingSecret"),
        ("rabbitmq: {monitoring: {existingSecret: ''}}", "rabbitmq.monitoring.existingSecret"),
    ],
)
def test_what_cannot_work_is_refused(values, words):
    with pytest.raises(HelmError, match=re.escape(words)):
        render(yaml.safe_load(values))


def test_every_value_is_explained():
    text = (CHART / "values.yaml").read_text()
    # The settings are explained in configs/default.toml, quantities by what they belong to.
    rest = re.sub(r"^config:\n(?:[ ].*\n)+", "", text, flags=re.M)
    lines = [line for line in rest.splitlines() if not re.match(r" +(requests|limits): ", line)]
    for before, line in zip(["", *lines], lines):
        if re.match(r" *\w+: *\S", line):
            assert before.strip().startswith("#"), f"{line.strip()} is not explained"


def test_the_schema_knows_every_setting():
    subprocess.run(["python3", ROOT / "tests/helm/config_schema.py"], check=True)


def test_hardy_reads_the_rendered_settings(case, objects, hardy, tmp_path):
    values = loaded().merge_values(case_values(case))
    files = of(objects, "ConfigMap")[0]["data"]
    wanted = {"hardy.toml": [values["config"]]}
    if "nightly.toml" in files:
        wanted["nightly.toml"] = [values["config"], values["nightly"]["config"]]
    assert set(files) == set(wanted)
    for name, layers in wanted.items():
        path = tmp_path / name
        path.write_text(files[name])
        command = [hardy, "config", "show", "--json", "--config", path]
        shown = json.loads(subprocess.run(command, check=True, capture_output=True, env={}).stdout)
        flat = {f"{s}.{k}": v for layer in layers for s, keys in layer.items() for k, v in keys.items()}
        assert {k: number(v) for k, v in flat.items()} == {k: number(shown[k]["value"]) for k in flat}
        assert {shown[key]["source"] for key in flat} == {str(path)}


def number(value):
    """4/255 is shown as the number it is."""
    fraction = re.fullmatch(r"(\d+)/(\d+)", value) if isinstance(value, str) else None
    return pytest.approx(int(fraction[1]) / int(fraction[2])) if fraction else value


def test_hardy_knows_every_flag(objects, hardy):
    for name, _, spec in pods(objects):
        args = spec["containers"][0]["args"]
        if args[0] == "worker":
            continue  # hands over to the program that computes, which need not be here
        helped = subprocess.run([hardy, args[0], "--help"], check=True, capture_output=True, text=True).stdout
        for flag in [a for a in args if a.startswith("--")]:
            assert flag in helped, f"{name}: {flag}"


def test_queues_are_those_of_the_program():
    source = (ROOT / "src/queue/rabbitmq/topology.rs").read_text()
    names = dict(re.findall(r'Topic::(\S+) => "([a-z.]+)"', source))
    tasks = {name for topic, name in names.items() if topic.startswith("Tasks")}
    assert len(tasks) == 3 and {"events", "dead", "undelivered"} <= set(names.values())
    for prefix in ("hardy", "a.b-c"):
        trigger = of(render({"config": {"queue": {"prefix": prefix}}}), "ScaledObject")[0]["spec"]["triggers"][0]
        chosen = trigger["metadata"]["queueName"]
        everything = [f"{p}.{n}" for p in (prefix, "x" + prefix, "aXb-c") for n in [*names.values(), "tasks.highest"]]
        assert {q for q in everything if re.search(chosen, q)} == {f"{prefix}.{n}" for n in tasks}
