"""What must hold of every pod: its rights, its secrets, how it ends, and that things find each other."""

import re

from conftest import of, pods, render, rendered

ALLOWED_VOLUMES = {"configMap", "secret", "emptyDir", "projected", "downwardAPI", "persistentVolumeClaim", "csi", "ephemeral"}
HIDDEN = re.compile(r"PASSWORD|SECRET|TOKEN|QUEUE__URL|WEBHOOK__URL|ACCESS_KEY")


def test_restricted_pod_security(objects):
    """The Pod Security Standards' profile `restricted`, rule by rule."""
    for name, _, spec in pods(objects):
        for share in ("hostNetwork", "hostPID", "hostIPC"):
            assert not spec.get(share), name
        of_pod = spec["securityContext"]
        assert of_pod["runAsNonRoot"] is True and of_pod["runAsUser"] > 0, name
        assert of_pod["seccompProfile"]["type"] in ("RuntimeDefault", "Localhost"), name
        assert not of_pod.get("sysctls"), name
        for volume in spec["volumes"]:
            assert set(volume) - {"name"} <= ALLOWED_VOLUMES, name
        containers = spec["containers"] + spec.get("initContainers", [])
        for container in containers:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False and not security.get("privileged"), name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert all("hostPort" not in port for port in container.get("ports", [])), name
            # Beyond the profile.
            assert security["readOnlyRootFilesystem"] is True, name
            assert "memory" in container["resources"]["limits"], name
            assert {"mountPath": "/tmp", "name": "scratch"} in container["volumeMounts"], name
        assert spec["automountServiceAccountToken"] is False, name


def test_restricted_pod_security_of_the_broker(objects):
    """The operator makes its pods; what the chart adds must be what the profile asks for besides."""
    for broker in of(objects, "RabbitmqCluster"):
        spec = broker["spec"]["override"]["statefulSet"]["spec"]["template"]["spec"]
        of_pod = spec["securityContext"]
        assert of_pod["runAsNonRoot"] is True and of_pod["seccompProfile"]["type"] == "RuntimeDefault"
        named = {c["name"]: c["securityContext"] for c in spec["containers"] + spec["initContainers"]}
        assert set(named) == {"rabbitmq", "setup-container"}
        for security in named.values():
            assert security == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_traces_may_leave(objects):
    """A collector that pods are told of is one that the policy lets them reach."""
    policies = [o for o in of(objects, "NetworkPolicy") if "Egress" in o["spec"]["policyTypes"]]
    open_ports = {p["port"] for o in policies for rule in o["spec"]["egress"] for p in rule["ports"]}
    for name, _, spec in pods(objects):
        for variable in spec["containers"][0]["env"]:
            if policies and variable["name"].startswith("OTEL_EXPORTER"):
                assert int(variable["value"].rsplit(":", 1)[1]) in open_ports, name


def test_the_store_may_be_asked():
    """At the port that the settings name, which nobody should have to say twice."""
    for endpoint, port in (
        ("http://minio.storage.svc:9000", 9000),
        ("https://s3.example.org:8443/", 8443),
        ("http://[fd00::9]:9000/base/of:80", 9000),
    ):
        for policy in ({}, {"egressPorts": [5672]}):
            objects = render({"config": {"store": {"endpoint": endpoint}}, "networkPolicy": policy})
            [policy] = [o for o in of(objects, "NetworkPolicy") if "Egress" in o["spec"]["policyTypes"]]
            ports = [p["port"] for p in policy["spec"]["egress"][0]["ports"] if p["protocol"] == "TCP"]
            assert ports.count(port) == 1 and {53, 5672} <= set(ports), ports
    for objects in (rendered("default"), render({"config": {"store": {"endpoint": "http://[fd00::9]"}}})):
        [policy] = [o for o in of(objects, "NetworkPolicy") if "Egress" in o["spec"]["policyTypes"]]
        ports = [p["port"] for p in policy["spec"]["egress"][0]["ports"] if p["protocol"] == "TCP"]
        assert ports == [53, 5353, 5671, 5672, 443, 80]


def test_pods_listen_where_they_are_asked_to():
    for address in ("0.0.0.0", "[::]"):
        for name, _, spec in pods(render({"web": {"address": address}})):
            listens = [v["value"] for v in spec["containers"][0]["env"] if v["name"] == "HARDY_HTTP__LISTEN"]
            assert listens == ([f"{address}:9090"] if "ports" in spec["containers"][0] else []), name


def strings(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from strings(key)
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def test_secrets_stay_in_secrets(objects):
    assert not of(objects, "Secret"), "the chart takes Secrets, it makes none"
    for o in objects:
        for text in strings(o):
            password = re.search(r"://[^/\s:@]*:([^@/\s]+)@", text)
            assert not password or re.fullmatch(r"\$\([A-Z_]+\)", password[1]), f"{o['kind']}: {text}"
    for name, _, spec in pods(objects):
        for variable in spec["containers"][0]["env"]:
            if HIDDEN.search(variable["name"]) and "value" in variable:
                assert "$(RABBITMQ_PASSWORD)" in variable["value"], f"{name}: {variable['name']}"


def test_every_secret_goes_to_those_who_need_it():
    """And to nobody else: who reads a Secret can lose it."""
    values = {
        "nightly": {"enabled": True, "data": "s3://b/p"},
        "s3": {"existingSecret": "s3"},
        "web": {"existingSecret": "web", "tokenKey": "t"},
        "webhook": {"existingSecret": "slack", "urlKey": "address"},
    }
    read = {}
    for _, meta, spec in pods(render(values)):
        for variable in spec["containers"][0]["env"]:
            key = variable.get("valueFrom", {}).get("secretKeyRef")
            if key:
                secret = (variable["name"], key["name"], key["key"])
                read.setdefault(secret, set()).add(meta["labels"]["app.kubernetes.io/component"])
    everybody = {"coordinator", "worker", "nightly", "gc", "doctor"}
    assert read == {
        ("HARDY_QUEUE__URL", "hardy-rabbitmq", "url"): everybody,
        ("AWS_ACCESS_KEY_ID", "s3", "AWS_ACCESS_KEY_ID"): everybody,
        ("AWS_SECRET_ACCESS_KEY", "s3", "AWS_SECRET_ACCESS_KEY"): everybody,
        ("HARDY_HTTP__TOKEN", "web", "t"): {"coordinator"},
        ("HARDY_WEBHOOK__URL", "slack", "address"): {"coordinator"},
    }


def test_settings_hold_no_password(objects):
    for o in of(objects, "ConfigMap"):
        assert not re.search(r"(?im)^\s*(\S*password|token|\S*secret)\s*=", "\n".join(o["data"].values()))


def test_a_worker_is_not_killed_before_it_hands_back(objects, case):
    for name, _, spec in pods(objects):
        if spec["containers"][0]["args"][0] != "worker":
            continue
        settings = of(objects, "ConfigMap")[0]["data"]["hardy.toml"]
        grace = int(re.search(r"^grace = (\d+)$", settings, re.M)[1])
        assert spec["terminationGracePeriodSeconds"] >= grace + 30, name


def test_a_broker_of_our_own_waits_as_long_as_the_workers(objects):
    """RabbitMQ takes a task away after 30 minutes unless it is told otherwise."""
    settings = of(objects, "ConfigMap")[0]["data"]["hardy.toml"]
    grace = int(re.search(r"^grace = (\d+)$", settings, re.M)[1])
    for broker in of(objects, "RabbitmqCluster"):
        told = broker["spec"].get("rabbitmq", {}).get("additionalConfig", "")
        timeout = re.search(r"^consumer_timeout = (\d+)$", told, re.M)
        assert grace < (int(timeout[1]) / 1000 if timeout else 1800)


def test_only_one_decides_how_many_workers_there_are(objects, case):
    workers = of(objects, "Deployment", "-worker")
    scalers = [o for o in objects if o["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")]
    if case == "scaledjob":
        assert not workers and not scalers and len(of(objects, "ScaledJob")) == 1
    elif scalers:
        assert len(scalers) == 1 and "replicas" not in workers[0]["spec"]
        assert scalers[0]["spec"]["scaleTargetRef"]["name"] == workers[0]["metadata"]["name"]
    else:
        assert workers[0]["spec"]["replicas"] >= 1


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def test_selectors_find_what_they_are_for(objects):
    all_pods = pods(objects)
    by_component = {meta["labels"]["app.kubernetes.io/component"]: meta["labels"] for _, meta, _ in all_pods}
    for deployment in of(objects, "Deployment"):
        template = deployment["spec"]["template"]["metadata"]["labels"]
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert matches(selector, template)
        assert not {key for key in selector if "version" in key or "chart" in key}, "a selector cannot change"
        assert template.keys() <= selector.keys() | {"hardy/metrics"}, "labels that change restart workers for nothing"
        others = [d for d in of(objects, "Deployment") if d is not deployment]
        assert not any(matches(selector, d["spec"]["template"]["metadata"]["labels"]) for d in others)
    found = {
        service["metadata"]["name"].removeprefix("night-hardy"): {
            component for component, labels in by_component.items() if matches(service["spec"]["selector"], labels)
        }
        for service in of(objects, "Service")
    }
    assert found == {"": {"coordinator"}, "-metrics": {"coordinator", "worker"}}
    for monitor in of(objects, "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        chosen = [s for s in of(objects, "Service") if matches(selector, s["metadata"]["labels"])]
        assert [s["metadata"]["name"] for s in chosen] == ["night-hardy-metrics"]
        assert monitor["spec"]["endpoints"][0]["port"] == chosen[0]["spec"]["ports"][0]["name"]
    for budget in of(objects, "PodDisruptionBudget"):
        selector = budget["spec"]["selector"]["matchLabels"]
        component = budget["metadata"]["name"].rsplit("-", 1)[1]
        assert {c for c, labels in by_component.items() if matches(selector, labels)} == {component}
    for policy in of(objects, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]["matchLabels"]
        chosen = {component for component, labels in by_component.items() if matches(selector, labels)}
        of_the_page = policy["metadata"]["name"].endswith("-web")
        assert chosen == ({"coordinator"} if of_the_page else set(by_component))


def test_no_budget_keeps_a_node_from_being_drained(objects):
    """Evictions of pods that no Deployment owns are refused where a budget selects them, whatever it allows."""
    budgets = of(objects, "PodDisruptionBudget")
    for name, meta, _ in pods(objects):
        chosen = [b for b in budgets if matches(b["spec"]["selector"]["matchLabels"], meta["labels"])]
        assert len(chosen) <= (1 if name.startswith("Deployment ") else 0), name
    for budget in budgets:
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert budget["spec"].get("maxUnavailable", 1) and budget["spec"].get("minAvailable", 0) in (0, 1)


def test_what_is_named_is_there(objects, case):
    accounts = {o["metadata"]["name"] for o in of(objects, "ServiceAccount")} or {"default"}
    maps = {o["metadata"]["name"]: o["data"] for o in of(objects, "ConfigMap")}
    for name, _, spec in pods(objects):
        assert spec["serviceAccountName"] in accounts, name
        container = spec["containers"][0]
        volumes = {v["name"]: v for v in spec["volumes"]}
        assert {m["name"] for m in container["volumeMounts"]} == set(volumes), name
        files = maps[volumes["config"]["configMap"]["name"]]
        args = container["args"]
        assert args[args.index("--config") + 1].removeprefix("/etc/hardy/") in files, name
        for probe in ("livenessProbe", "readinessProbe"):
            if probe in container:
                assert container[probe]["httpGet"]["port"] in [p["name"] for p in container["ports"]], name
    for o in [*of(objects, "ScaledObject"), *of(objects, "ScaledJob")]:
        reference = o["spec"]["triggers"][0]["authenticationRef"]["name"]
        assert [a["metadata"]["name"] for a in of(objects, "TriggerAuthentication")] == [reference]


def test_workers_are_replaced_in_the_room_there_is():
    for case in ("default", "aws-gpu", "fixed-no-keda"):
        strategy = of(rendered(case), "Deployment", "-worker")[0]["spec"]["strategy"]
        assert strategy == {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}, case


def test_gpus():
    _, _, spec = next(p for p in pods(rendered("aws-gpu")) if p[0].endswith("-worker"))
    container = spec["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["image"].endswith("/hardy-worker-cuda:0.1.0")
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    others = [p for p in pods(rendered("aws-gpu")) if not p[0].endswith("-worker")]
    assert others and all("nvidia" not in str(spec) for _, _, spec in others), "only workers need one"


def test_a_night_is_named_by_its_schedule():
    cron = of(rendered("aws-gpu"), "CronJob", "-nightly")[0]["spec"]
    assert (cron["concurrencyPolicy"], cron["timeZone"]) == ("Forbid", "Europe/Berlin")
    container = cron["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][-2:] == ["--name", "nightly-{date}"]
    environment = {v["name"]: v for v in container["env"]}
    assert environment["TZ"]["value"] == cron["timeZone"]
    # The controller names a run CRONJOB-MINUTES, at most 52 + 11 characters.
    assert environment["HARDY_SCHEDULED"]["valueFrom"]["fieldRef"]["fieldPath"].endswith("/job-name']")
    assert len(of(render({"fullnameOverride": "x" * 60, "nightly": {"enabled": True, "data": "s3://b/p"}}), "CronJob")[0]["metadata"]["name"]) <= 52


def test_short_commands_run_where_and_as_coordinators_do():
    of_coordinator = {
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "services", "operator": "Exists"}],
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}, {"name": "TZ", "value": "Asia/Tokyo"}],
    }
    values = {"coordinator": of_coordinator, "nightly": {"enabled": True, "data": "s3://b/p"}, "logFormat": "json"}
    for name, _, spec in pods(render(values)):
        environment = {v["name"]: v.get("value") for v in spec["containers"][0]["env"]}  # of two the last counts
        assert environment["HARDY_LOG_FORMAT"] == "json", name
        if not name.endswith("-worker"):
            assert spec["nodeSelector"] == of_coordinator["nodeSelector"], name
            assert spec["tolerations"] == of_coordinator["tolerations"], name
            assert environment["HTTPS_PROXY"] == "http://proxy:3128", name
    night = of(render(values), "CronJob", "-nightly")[0]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert night["containers"][0]["env"][-1] == {"name": "TZ", "value": "Etc/UTC"}, "its date is that of its schedule"


def test_a_gated_night_is_named_by_its_schedule_too():
    cron = of(rendered("on-prem-minio"), "CronJob", "-nightly")[0]["spec"]
    container = cron["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][-2:] == ["--night", "{date}"] and "--name" not in container["args"]
    assert {"HARDY_SCHEDULED", "TZ"} <= {v["name"] for v in container["env"]}


def test_the_network_policy_lets_through_what_is_needed():
    def policies(**more):
        return of(render({"networkPolicy": more, "web": {"ingress": {"enabled": True}}}), "NetworkPolicy")

    prometheus, proxy = {"podSelector": {"matchLabels": {"app": "prometheus"}}}, {"ports": [{"port": 3128}]}
    every, page = policies(ingressFrom=[prometheus], extraEgress=[proxy])
    assert every["spec"]["ingress"][0]["from"] == [prometheus]
    assert "from" not in page["spec"]["ingress"][0], "the Ingress controller is not cut off"
    assert page["spec"]["policyTypes"] == ["Ingress"], "and what goes out stays as it is"
    named, own = every["spec"]["egress"]
    ports = {(port["protocol"], port["port"]) for port in named["ports"]}
    dns = {(protocol, port) for protocol in ("TCP", "UDP") for port in (53, 5353)}
    assert ports == dns | {("TCP", port) for port in (5671, 5672, 443, 80)} and own == proxy
    controller = {"namespaceSelector": {"matchLabels": {"app": "traefik"}}}
    assert policies(webFrom=[controller])[1]["spec"]["ingress"][0]["from"] == [controller]
    assert len(of(render({"networkPolicy": {"ingressFrom": [prometheus]}}), "NetworkPolicy")) == 1


def test_new_settings_restart_what_reads_them():
    def sums(values):
        return {name: meta.get("annotations") for name, meta, _ in pods(render(values)) if "Deployment" in name}

    before, after = sums({}), sums({"config": {"worker": {"grace": 700}}})
    assert before.keys() == after.keys() and all(before[name] != after[name] for name in before)
    assert before == sums({"nightly": {"enabled": True, "data": "s3://b/p", "config": {"train": {"rounds": 3}}}})
