"""The manifests of deploy/kubernetes, rendered and held against the schemas of Kubernetes and against the code."""

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from service.api import health, metrics
from service.api.metering import gauges
from service.cli.main import COMMANDS
from service.server import GRACEFUL_SHUTDOWN_SECONDS
from service.settings import PREFIX, Settings
from tests.patience import PATIENCE_SECONDS
from workers.keeper import STOP_SECONDS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
PARTS = {"base": FOLDER, "stores": FOLDER / "stores", "monitoring": FOLDER / "monitoring"}
EXAMPLES = ("secret.example.yaml", "ingress.example.yaml")
RULE_HEAD = "rule-head.yaml"
OURS = {"api", "worker", "migration"}
RUNNING = (("Deployment", "selfnorm-api"), ("Deployment", "selfnorm-worker"), ("Job", "selfnorm-migration"))
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
CLUSTER_WIDE = ("Namespace",)
WORDS = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
POLICIES = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "stabilizationWindowSeconds": {"type": "integer", "minimum": 0, "maximum": 3600},
        "policies": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "value", "periodSeconds"],
                "additionalProperties": False,
                "properties": {"type": {"enum": ["Pods", "Percent"]}, "value": COUNT, "periodSeconds": COUNT},
            },
        },
    },
}
SCHEMAS: dict[str, dict[str, Any]] = {
    # What is used of KEDA's and of the Prometheus Operator's definitions; unknown fields are mistakes.
    "ScaledObject": {
        "type": "object",
        "required": ["scaleTargetRef", "triggers"],
        "additionalProperties": False,
        "properties": {
            "scaleTargetRef": {"type": "object", "required": ["name"], "properties": {"name": WORDS}},
            "pollingInterval": COUNT,
            "minReplicaCount": COUNT,
            "maxReplicaCount": COUNT,
            "fallback": {
                "type": "object",
                "required": ["failureThreshold", "replicas"],
                "additionalProperties": False,
                "properties": {"failureThreshold": COUNT, "replicas": COUNT},
            },
            "advanced": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "horizontalPodAutoscalerConfig": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "behavior": {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": {"scaleUp": POLICIES, "scaleDown": POLICIES},
                            }
                        },
                    }
                },
            },
            "triggers": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["type", "metadata"],
                    "additionalProperties": False,
                    "properties": {
                        "type": {"const": "prometheus"},
                        # KEDA takes text only, numbers too.
                        "metadata": {
                            "type": "object",
                            "required": ["serverAddress", "query", "threshold"],
                            "additionalProperties": WORDS,
                        },
                    },
                },
            },
        },
    },
    "ServiceMonitor": {
        "type": "object",
        "required": ["selector", "endpoints"],
        "additionalProperties": False,
        "properties": {
            "jobLabel": WORDS,
            "selector": {"type": "object", "required": ["matchLabels"]},
            "endpoints": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "port": WORDS,
                        "path": WORDS,
                        "interval": {"type": "string", "pattern": "^[0-9]+s$"},
                        "authorization": {
                            "type": "object",
                            "properties": {
                                "type": {"const": "Bearer"},
                                "credentials": {"type": "object", "required": ["name", "key"]},
                            },
                        },
                    },
                },
            },
        },
    },
    "PrometheusRule": {
        "type": "object",
        "required": ["groups"],
        "additionalProperties": False,
        "properties": {
            "groups": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["name", "rules"],
                    "additionalProperties": False,
                    "properties": {
                        "name": WORDS,
                        "interval": WORDS,
                        "rules": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["alert", "expr"],
                                "additionalProperties": False,
                                "properties": {
                                    "alert": WORDS,
                                    "expr": WORDS,
                                    "for": WORDS,
                                    "labels": {"type": "object", "additionalProperties": WORDS},
                                    "annotations": {"type": "object", "additionalProperties": WORDS},
                                },
                            },
                        },
                    },
                },
            }
        },
    },
}

Manifest = dict[str, Any]


def documents(path: Path) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def rendered(folder: Path) -> list[Manifest]:
    """Make of a kustomization what ``kubectl kustomize`` does; these use no more than files, a namespace and images."""
    told = documents(folder / "kustomization.yaml")[0]
    assert told.keys() <= {"apiVersion", "kind", "namespace", "resources", "images"}, "render it by kubectl instead"
    images = {image["name"]: f"{image['newName']}:{image['newTag']}" for image in told.get("images", [])}
    made = []
    for name in told["resources"]:
        for document in documents(folder / name):
            manifest = copy.deepcopy(document)
            if manifest["kind"] not in CLUSTER_WIDE:
                manifest["metadata"]["namespace"] = told["namespace"]
            for container in containers(manifest):
                container["image"] = images.get(container["image"], container["image"])
            made.append(manifest)
    return made


def containers(manifest: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]] if (pod := pod_of(manifest)) else []


def pod_of(manifest: Manifest) -> Manifest | None:
    found: Manifest | None = manifest.get("spec", {}).get("template", {}).get("spec")
    return found


ALL = [manifest for folder in PARTS.values() for manifest in rendered(folder)]
BY_NAME = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in ALL}
PODS = [manifest for manifest in ALL if pod_of(manifest)]
CONTAINERS = [(manifest, container) for manifest in PODS for container in containers(manifest)]


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def ours(kind: str, name: str) -> Manifest:
    """The only container of one of ours."""
    [container] = containers(BY_NAME[kind, name])
    return container


@pytest.mark.parametrize("folder", PARTS.values(), ids=PARTS)
def test_every_manifest_is_a_resource_of_its_folder(folder: Path) -> None:
    told = documents(folder / "kustomization.yaml")[0]["resources"]
    there = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml", RULE_HEAD, *EXAMPLES}
    assert sorted(told) == sorted(there)


# No package index has kubectl; everywhere else the manifests are rendered and checked in pure Python, above.
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, which renders them itself")
@pytest.mark.parametrize("folder", PARTS.values(), ids=PARTS)
def test_kubectl_renders_the_same(folder: Path) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    )
    assert sorted(map(json.dumps, map(ordered, yaml.safe_load_all(done.stdout)))) == sorted(
        map(json.dumps, map(ordered, rendered(folder)))
    )


def ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value)}
    return [ordered(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("manifest", [*ALL, *(documents(FOLDER / name)[0] for name in EXAMPLES)], ids=named)
def test_manifest_has_the_schema_of_its_kind(manifest: Manifest) -> None:
    if manifest["kind"] in SCHEMAS:
        assert faults(manifest) == []
    else:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def faults(manifest: Manifest) -> list[str]:
    """What is wrong with a kind that Kubernetes itself does not know."""
    found = Draft202012Validator(SCHEMAS[manifest["kind"]]).iter_errors(manifest["spec"])
    return [f"{error.json_path}: {error.message}" for error in found]


def test_mistake_in_such_a_kind_is_found() -> None:
    scaled = copy.deepcopy(BY_NAME["ScaledObject", "selfnorm-worker"])
    scaled["spec"]["triggers"][0]["metadata"]["threshold"] = 1
    scaled["spec"]["minReplicas"] = 1
    assert len(faults(scaled)) == 2


def test_alerts_become_a_rule_by_the_command_of_the_manual() -> None:
    manual = (ROOT / "docs/operations.md").read_text()
    found = re.search(r"<!-- rule:begin.*?```sh\n(.*?)```", manual, re.DOTALL)
    assert found is not None
    command, _, applied = found.group(1).strip().rpartition(" | ")
    assert applied == "kubectl apply -f -"
    done = subprocess.run(["bash", "-euc", command], capture_output=True, text=True, check=True, cwd=ROOT)
    rule = yaml.safe_load(done.stdout)
    assert rule["kind"] == "PrometheusRule"
    assert faults(rule) == []
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())


@pytest.mark.parametrize(("manifest", "container"), CONTAINERS, ids=lambda part: part.get("kind", ""))
def test_container_may_do_nothing_and_take_only_so_much(manifest: Manifest, container: Manifest) -> None:
    """What Pod Security calls restricted, and more: the namespace refuses what is not."""
    pod = pod_of(manifest) or {}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert {"hostNetwork", "hostPID", "hostIPC"} & pod.keys() == set()
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for kind in ("requests", "limits"):
        assert container["resources"][kind].keys() == {"cpu", "memory", "ephemeral-storage"}
    assert not container["image"].endswith(":latest")
    for volume in pod.get("volumes", []):
        assert "sizeLimit" in volume["emptyDir"], "nothing else lies on a node, and not without an end"


def test_namespace_refuses_what_is_not_restricted() -> None:
    assert BY_NAME["Namespace", "selfnorm"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_nothing_gets_a_token_for_kubernetes() -> None:
    accounts = {name: made for (kind, name), made in BY_NAME.items() if kind == "ServiceAccount"}
    used = {pod["serviceAccountName"] for manifest in PODS if "serviceAccountName" in (pod := pod_of(manifest) or {})}
    assert used == accounts.keys()
    assert all(account["automountServiceAccountToken"] is False for account in accounts.values())


def test_variables_are_settings_with_values_that_they_take() -> None:
    values: dict[str, str] = dict(BY_NAME["ConfigMap", "selfnorm"]["data"])
    for kind, name in RUNNING:
        values |= {entry["name"]: entry["value"] for entry in ours(kind, name)["env"] if "value" in entry}
    for other in ("TMPDIR", "FORWARDED_ALLOW_IPS"):
        values.pop(other)
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    assert values.keys() <= known
    Settings.model_validate({name.removeprefix(PREFIX).lower(): value for name, value in values.items()})


def test_proxies_are_believed_only_where_nobody_else_gets_in() -> None:
    """Else whoever reaches a pod could say that they come from anywhere, by https."""
    assert BY_NAME["ConfigMap", "selfnorm"]["data"]["FORWARDED_ALLOW_IPS"] == "*"
    policy = BY_NAME["NetworkPolicy", "api"]["spec"]
    [let_in] = policy["ingress"]
    named = [place["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for place in let_in["from"]]
    assert named == ["ingress-nginx", "monitoring"]
    assert BY_NAME["NetworkPolicy", "deny-all"]["spec"]["podSelector"] == {}


def test_secrets_are_named_and_never_said() -> None:
    example = documents(FOLDER / "secret.example.yaml")[0]
    used = {ref["key"] for ref in references(ALL) if ref["name"] == example["metadata"]["name"]}
    used |= {"metrics-key"}
    assert used == example["stringData"].keys()
    for value in example["stringData"].values():
        assert value == "FILL-IN" or re.fullmatch(r"[a-z+]+://[a-z]*:FILL-IN@selfnorm-[a-z]+:\d+/\w+", value)
    texts = [path.read_text() for path in FOLDER.rglob("*.yaml") if path.name not in EXAMPLES]
    assert not any(re.search(r"://[^\s:/]*:[^\s@]+@", text) for text in texts)


def references(value: Any) -> Iterator[Manifest]:
    if isinstance(value, dict):
        if "secretKeyRef" in value:
            yield value["secretKeyRef"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_commands_are_those_of_the_service() -> None:
    commands = {command.__name__ for group in COMMANDS.values() for command in group}
    for kind, name in RUNNING:
        program, command, *_ = ours(kind, name)["command"]
        assert program == "selfnorm"
        assert command in commands
    assert ours("Deployment", "selfnorm-api")["command"][-1] == "8000"
    assert ours("Deployment", "selfnorm-api")["ports"] == [{"name": "http", "containerPort": 8000}]


def test_probes_ask_what_the_api_answers_without_a_key() -> None:
    container = ours("Deployment", "selfnorm-api")
    paths = {str(getattr(route, "path", "")) for route in health.router.routes}
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {probe["path"] for probe in probes.values()} <= paths
    assert {probe["port"] for probe in probes.values()} == {"http"}
    assert probes["startup"]["path"] == "/readyz", "no request comes before the schema is right"
    assert probes["readiness"]["path"] == "/healthz", "a database that is down must not take away loaded models"


def test_probes_of_a_worker_look_at_the_file_that_it_touches() -> None:
    container = ours("Deployment", "selfnorm-worker")
    [file] = [entry["value"] for entry in container["env"] if entry["name"] == "SELFNORM_HEALTH_FILE"]
    for name in ("startup", "liveness"):
        assert file in container[f"{name}Probe"]["exec"]["command"][-1]
    assert file.startswith("/tmp/")


def test_pods_get_the_time_that_they_need_to_end() -> None:
    api, worker = (pod_of(BY_NAME["Deployment", f"selfnorm-{name}"]) or {} for name in ("api", "worker"))
    before = ours("Deployment", "selfnorm-api")["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert api["terminationGracePeriodSeconds"] >= before + GRACEFUL_SHUTDOWN_SECONDS + 10
    assert worker["terminationGracePeriodSeconds"] >= STOP_SECONDS + 10


def test_rolling_update_takes_no_pod_away_before_another_one_is_ready() -> None:
    spec = BY_NAME["Deployment", "selfnorm-api"]["spec"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "replicas" not in spec, "applying it again would undo what was scaled"


def test_uploads_that_are_read_at_once_fit_into_the_memory_of_a_pod() -> None:
    most = int(BY_NAME["ConfigMap", "selfnorm"]["data"]["SELFNORM_IMPORT_MEMORY_BYTES"])
    assert 2 * most + 2**30 <= bytes_of(ours("Deployment", "selfnorm-api")["resources"]["limits"]["memory"])


def bytes_of(quantity: str) -> int:
    number, unit = int(quantity[:-2]), quantity[-2:]
    return number * {"Mi": 2**20, "Gi": 2**30}[unit]


@pytest.mark.parametrize("name", ["selfnorm-api", "selfnorm-worker"])
def test_what_is_scaled_and_spared_is_there(name: str) -> None:
    labels = BY_NAME["Deployment", name]["spec"]["template"]["metadata"]["labels"]
    selectors = [BY_NAME["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"]]
    if name == "selfnorm-api":
        assert BY_NAME["HorizontalPodAutoscaler", name]["spec"]["scaleTargetRef"]["name"] == name
        assert BY_NAME["HorizontalPodAutoscaler", name]["spec"]["minReplicas"] >= 2
        selectors.append(BY_NAME["Service", name]["spec"]["selector"])
    else:
        assert BY_NAME["ScaledObject", name]["spec"]["scaleTargetRef"]["name"] == name
    assert all(selector.items() <= labels.items() for selector in selectors)


def test_workers_are_scaled_by_metrics_that_there_are() -> None:
    [trigger] = BY_NAME["ScaledObject", "selfnorm-worker"]["spec"]["triggers"]
    asked = set(re.findall(r"selfnorm_\w+", trigger["metadata"]["query"]))
    assert "selfnorm_queue_age_seconds" in asked
    assert asked <= {gauge.name for gauge in gauges.GAUGES}


def test_prometheus_asks_the_api_with_a_key() -> None:
    spec = BY_NAME["ServiceMonitor", "selfnorm"]["spec"]
    service = BY_NAME["Service", "selfnorm-api"]
    [endpoint] = spec["endpoints"]
    assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"][spec["jobLabel"]] == "selfnorm", "the job that the alerts name"
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] in {str(getattr(route, "path", "")) for route in metrics.router.routes}


# Who reaches whom.


def policies(component: str, direction: str) -> list[Manifest]:
    """What is allowed to the pods of a component, in one direction."""
    [labels] = [
        manifest["spec"]["template"]["metadata"]["labels"]
        for manifest in PODS
        if manifest["spec"]["template"]["metadata"]["labels"][COMPONENT] == component
    ]
    return [
        rule
        for (kind, _), policy in BY_NAME.items()
        if kind == "NetworkPolicy" and selects(policy["spec"]["podSelector"], labels)
        for rule in policy["spec"].get(direction, [])
    ]


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    assert all(wish["operator"] == "In" for wish in selector.get("matchExpressions", []))
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(wish["key"]) in wish["values"] for wish in selector.get("matchExpressions", [])
    )


def test_nothing_is_allowed_that_is_not_said() -> None:
    spec = BY_NAME["NetworkPolicy", "deny-all"]["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_worker_reaches_the_database_the_broker_and_names_and_nothing_else() -> None:
    reached = [
        (peer, [(port["protocol"], port["port"]) for port in rule["ports"]])
        for rule in policies("worker", "egress")
        for peer in rule["to"]
    ]
    names = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    assert reached == [
        (names, [("UDP", 53), ("TCP", 53)]),
        ({"podSelector": {"matchLabels": {NAME: "postgresql"}}}, [("TCP", 5432)]),
        ({"podSelector": {"matchLabels": {NAME: "redis"}}}, [("TCP", 6379)]),
    ]
    assert policies("worker", "ingress") == []


def test_stores_let_in_who_needs_them_and_reach_nobody() -> None:
    for component, port, callers in (("database", 5432, OURS), ("broker", 6379, {"api", "worker"})):
        [rule] = policies(component, "ingress")
        [peer] = rule["from"]
        assert rule["ports"] == [{"protocol": "TCP", "port": port}]
        assert {name for name in OURS if selects(peer["podSelector"], {NAME: "selfnorm", COMPONENT: name})} == callers
        assert policies(component, "egress") == []


def test_api_sends_webhooks_to_the_internet_and_to_no_private_address() -> None:
    [outside] = [peer["ipBlock"] for rule in policies("api", "egress") for peer in rule["to"] if "ipBlock" in peer]
    assert outside["cidr"] == "0.0.0.0/0"
    private = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "100.64.0.0/10"}
    assert private <= set(outside["except"])
