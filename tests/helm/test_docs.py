"""What the documents promise beside their commands: values render, names and rights exist."""

import json
import re
import tomllib

import yaml
from conftest import CHART, ROOT, of, pods, render

OPERATING = (ROOT / "docs/operating.md").read_text()
SECURITY = (ROOT / "docs/security.md").read_text()
SECRET = re.compile(r"secret generic (\S+)((?:[^\n]|(?<=\\)\n)*)")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def test_values_in_the_guide_render():
    for block in blocks(OPERATING, "yaml"):
        objects = render(yaml.safe_load(block))
        assert of(objects, "CronJob", "-nightly") and of(objects, "PrometheusRule")
        assert any("eks.amazonaws.com/role-arn" in o["metadata"]["annotations"] for o in of(objects, "ServiceAccount"))
        named = re.findall(r"secret generic (\S+)", OPERATING)
        read = set(re.findall(r"'name': '(hardy-[\w-]+)'", str(objects)))
        assert read == set(named), "the Secrets that are made are those that are read"


def test_values_in_the_readme_render():
    [block] = blocks((ROOT / "README.md").read_text(), "yaml")
    images = {spec["containers"][0]["image"] for _, _, spec in pods(render(yaml.safe_load(block)))}
    assert images and all(image.startswith("registry.example.org/team/hardy-") for image in images)


def test_secrets_are_made_before_the_chart_is_installed():
    for page in ("README.md", "docs/operating.md"):
        before = (ROOT / page).read_text().split("helm install")[0]
        made = {name: set(re.findall(r"--from-literal=(\w+)", rest)) for name, rest in SECRET.findall(before)}
        assert made == {"hardy-rabbitmq": {"url"}, "hardy-rabbitmq-monitoring": {"username", "password"}}, page


def test_pages_name_what_there_is():
    names = {o["metadata"]["name"] for o in render({"nightly": {"enabled": True, "data": "s3://b/p"}})}
    for name in re.findall(r"\bnight-hardy-[a-z-]+", OPERATING.replace("nightly-…", "nightly")):
        assert name in names, name
    for page in ("operating", "security", "cluster"):
        text = (ROOT / f"docs/{page}.md").read_text()
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (ROOT / "docs" / link).exists(), f"{page}.md: {link}"
    for path in re.findall(r"(?<![\w./])((?:tests|helm|deploy)/[\w./-]+\w)", OPERATING):
        assert (ROOT / path).exists(), path


def test_settings_and_values_that_are_named_exist():
    settings = tomllib.loads((ROOT / "configs/default.toml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for page in (OPERATING, SECURITY):
        for path in re.findall(r"`((?:\w+\.)+\w+)`", page):
            keys = path.removeprefix("config.").split(".")
            if keys[-1] in ("yaml", "md", "conf") or "dead" in keys or "com" in keys:
                continue
            found_in = []
            for tree in (settings, values):
                node = tree
                for key in keys:
                    node = node.get(key, ...) if isinstance(node, dict) else ...
                found_in.append(node is not ...)
            assert any(found_in), f"`{path}` is neither a setting nor a value"


def test_rights_on_the_broker_fit_the_queues():
    line = re.search(r"set_permissions -p hardy hardy '(.*)' '(.*)' '(.*)'", SECURITY)
    configure, write, read = (re.compile(pattern) for pattern in line.groups())
    source = (ROOT / "src/queue/rabbitmq/topology.rs").read_text()
    queues = [f"hardy.{name}" for name in re.findall(r'=> "([a-z.]+)"', source)] + ["hardy.leader"]
    assert len(queues) == 7
    for queue in queues:
        assert configure.search(queue) and write.search(queue) and read.search(queue), queue
    assert write.search("amq.default"), "through which everything is published"
    for other in ("hardyx.tasks", "other", "amq.topic", "hardy"):
        assert not configure.search(other) and not write.search(other) and not read.search(other), other


def test_policies_are_json_and_ask_for_no_more_than_is_used():
    policies = [json.loads(block) for block in blocks(SECURITY, "json")]
    rights, trust = policies
    actions = {action for s in rights["Statement"] for action in s["Action"]}
    assert actions == {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}
    account = trust["Statement"][0]["Condition"]["StringEquals"]
    subject = next(value for key, value in account.items() if key.endswith(":sub"))
    objects = render({})
    assert subject == f"system:serviceaccount:flowers:{pods(objects)[0][2]['serviceAccountName']}"
