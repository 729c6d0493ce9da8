"""`helm` and `kubectl` as the documents use them, where there is no cluster.

    stand_ins.py helm install night helm/hardy --values values.yaml
    stand_ins.py kubectl exec deployment/night-hardy-coordinator -- hardy jobs

Charts are rendered by Helm's own library, and every object is validated for the oldest and the newest API. What a
pod would run is run here, with the pod's settings and Secrets. Flags and kinds that no document uses are refused.
Namespaces, Secrets and releases are kept in the file that STAND_INS names.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import yaml
from api import NEWEST, OLDEST, validate
from conftest import CHART, of, pods, render

MOUNTED = "/etc/hardy/"


class Cluster:
    """What was created so far: names of namespaces, Secrets by namespace/name, objects of releases likewise."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        empty = {"namespaces": ["default"], "secrets": {}, "releases": {}}
        self.state = json.loads(self.path.read_text()) if self.path.exists() else empty

    def save(self):
        self.path.write_text(json.dumps(self.state))

    def check(self, namespace, objects):
        if namespace not in self.state["namespaces"]:
            raise SystemExit(f'namespaces "{namespace}" not found')
        for o in objects:
            for version in (OLDEST, NEWEST):
                validate(o, version)

    def run(self, namespace, release, spec, command):
        """Runs `command` in a pod's only container; ends this process as it ends."""
        container = spec["containers"][0]
        environment = dict(os.environ)
        for variable in container["env"]:
            key = variable.get("valueFrom", {}).get("secretKeyRef")
            secret = key and self.state["secrets"].get(f"{namespace}/{key['name']}")
            if secret:
                environment[variable["name"]] = secret[key["key"]]
            elif "value" in variable:
                environment[variable["name"]] = variable["value"]
        [mounted] = [v["configMap"]["name"] for v in spec["volumes"] if "configMap" in v]
        [files] = [o["data"] for o in of(release, "ConfigMap") if o["metadata"]["name"] == mounted]
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                pathlib.Path(folder, name).write_text(text)
            words = [word.replace(MOUNTED, f"{folder}/") for word in command]
            sys.exit(subprocess.run(words, env=environment).returncode)


def helm(cluster, words):
    parser = argparse.ArgumentParser("helm", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("install", "upgrade", "rollback", "test"):
        one = commands.add_parser(name, allow_abbrev=False)
        one.add_argument("release")
        one.add_argument("--namespace", default="default")
        if name == "test":
            one.add_argument("--logs", action="store_true")
        elif name != "rollback":
            one.add_argument("chart", type=pathlib.Path)
            one.add_argument("--values", action="append", default=[], type=pathlib.Path)
    args = parser.parse_args(words)
    name = f"{args.namespace}/{args.release}"
    revisions = cluster.state["releases"].setdefault(name, [])
    if bool(revisions) == (args.command == "install"):
        raise SystemExit(f"release {name} is {'there already' if revisions else 'not there'}")
    if args.command == "test":
        is_test = [o for o in revisions[-1] if "test" in o["metadata"].get("annotations", {}).get("helm.sh/hook", "")]
        for _, _, spec in pods(is_test):
            cluster.run(args.namespace, revisions[-1], spec, ["hardy", *spec["containers"][0]["args"]])
        raise SystemExit("the release has no tests")
    if args.command == "rollback":
        if len(revisions) < 2:
            raise SystemExit(f"release {name} has no revision before this one")
        return revisions.append(revisions[-2])
    if args.chart.resolve() != CHART:
        raise SystemExit(f"{args.chart} is not the chart")
    values = {}
    for path in args.values:
        values = merged(values, yaml.safe_load(path.read_text()))
    objects = render(values, args.release, args.namespace)
    cluster.check(args.namespace, objects)
    revisions.append(objects)


def merged(below, above):
    both = below.keys() & above.keys()
    deeper = {k: merged(below[k], above[k]) for k in both if isinstance(below[k], dict) and isinstance(above[k], dict)}
    return below | above | deeper


def kubectl(cluster, words):
    end = words.index("--") if "--" in words else len(words)
    words, inside = words[:end], words[end + 1 :]
    parser = argparse.ArgumentParser("kubectl", allow_abbrev=False)
    parser.add_argument("--namespace", default="default")
    commands = parser.add_subparsers(dest="command", required=True)
    kinds = commands.add_parser("create", allow_abbrev=False).add_subparsers(dest="kind", required=True)
    kinds.add_parser("namespace", allow_abbrev=False).add_argument("name")
    secret = kinds.add_parser("secret", allow_abbrev=False)
    secret.add_argument("type", choices=["generic"])
    secret.add_argument("name")
    secret.add_argument("--from-literal", action="append", required=True, metavar="KEY=VALUE")
    commands.add_parser("exec", allow_abbrev=False).add_argument("target")
    commands.add_parser("get", allow_abbrev=False).add_argument("kinds")
    describe = commands.add_parser("describe", allow_abbrev=False)
    describe.add_argument("kinds")
    describe.add_argument("name")
    rollout = commands.add_parser("rollout", allow_abbrev=False)
    rollout.add_argument("action", choices=["restart"])
    rollout.add_argument("kinds")
    args = parser.parse_args(words)
    if args.command != "create":
        return look(cluster, args, inside)
    made = {"apiVersion": "v1", "kind": args.kind.capitalize(), "metadata": {"name": args.name}}
    if args.kind == "namespace":
        cluster.check("default", [made])
        cluster.state["namespaces"].append(args.name)
    else:
        literals = dict(literal.split("=", 1) for literal in args.from_literal)
        made["metadata"]["namespace"] = args.namespace
        cluster.check(args.namespace, [made | {"type": "Opaque", "stringData": literals}])
        cluster.state["secrets"][f"{args.namespace}/{args.name}"] = literals


def look(cluster, args, inside):
    """Commands that find what releases have made in a namespace."""
    releases = cluster.state["releases"].items()
    last = [revisions[-1] for place, revisions in releases if place.startswith(f"{args.namespace}/")]
    objects = [o for release in last for o in release]
    if args.command == "exec":
        kind, name = args.target.split("/")
        for release in last:
            for what, _, spec in pods(release):
                if what == f"{kind.capitalize()} {name}":
                    cluster.run(args.namespace, release, spec, inside)
        raise SystemExit(f"{args.target} not found in {args.namespace}")
    # What controllers make of the objects.
    known = {o["kind"].lower() for o in objects} | {"pod", "job"}
    if unknown := set(args.kinds.split(",")) - known:
        raise SystemExit(f"there is no {' and no '.join(unknown)} in {args.namespace}")
    names = [(o["kind"].lower(), o["metadata"]["name"]) for o in objects]
    if args.command == "describe" and (args.kinds, args.name) not in names:
        raise SystemExit(f"{args.kinds} {args.name} not found in {args.namespace}")


if __name__ == "__main__":
    there = Cluster(os.environ["STAND_INS"])
    {"helm": helm, "kubectl": kubectl}[sys.argv[1]](there, sys.argv[2:])
    there.save()
