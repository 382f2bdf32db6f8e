"""The manifests: valid, restricted, and their names fit together; without a cluster."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import yaml
from deploys import CONFIG, DEPLOY, KUBERNETES, look, manifests, pod, read, seconds, tool

from streamclust import config
from streamclust.core.errors import ConfigError
from streamclust.core.specs import Config, HttpSpec
from streamclust.serve.http import PATHS

VARIANTS = ["base", "keda"]


def found(name: str, kind: str) -> dict:
    (one,) = [manifest for manifest in manifests(name) if manifest["kind"] == kind]
    return one


def memory(container: dict) -> int:
    """Bytes that a container may use."""
    number, unit = container["resources"]["limits"]["memory"][:-2], container["resources"]["limits"]["memory"][-2:]
    return int(number) * {"Mi": 2**20, "Gi": 2**30}[unit]


def settings(manifest: dict, file: Path | None = None, **secret: str) -> config.Loaded:
    """Return the settings that a pod of the manifest sees; its own variables win over those of a Secret."""
    (container,) = pod(manifest)["containers"]
    values = {e["name"]: e.get("value", f"{manifest['metadata']['name']}-0") for e in container.get("env", [])}
    return config.load(file or KUBERNETES / "base" / "config.yaml", {**secret, **values})


@pytest.mark.parametrize("name", VARIANTS)
def test_every_manifest_follows_the_schema_of_kubernetes(name):
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate").validate
    seen = set()
    for manifest in manifests(name):
        if manifest["apiVersion"].startswith("keda.sh/"):
            continue  # KEDA's own kind; there is no schema of it at hand
        validate(manifest, "1.33", strict=True)
        seen.add(manifest["kind"])

    assert seen >= {"StatefulSet", "CronJob", "PodDisruptionBudget", "NetworkPolicy", "Service", "ConfigMap"}


def test_a_misspelt_key_would_be_found():
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    workers = found("base", "StatefulSet")
    pod(workers)["containers"][0]["livenesProbe"] = {}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(workers, "1.33", strict=True)


@pytest.mark.parametrize("name", VARIANTS)
def test_kustomize_makes_what_our_own_builder_makes(name):
    done = look(tool("kubectl", "kubectl, for kustomize"), "kustomize", KUBERNETES / name)
    assert done.returncode == 0, done.stderr

    built = {m["kind"]: m for m in yaml.safe_load_all(done.stdout)}
    own = {m["kind"]: m for m in manifests(name)}

    assert built.keys() == own.keys()
    for kind, manifest in own.items():
        text = json.dumps(built[kind]["spec"] if "spec" in manifest else built[kind].get("data"), sort_keys=True)
        map_name = built["ConfigMap"]["metadata"]["name"]
        text = text.replace(f'"{map_name}"', '"streamclust"').replace('"streamclust:latest"', '"streamclust"')
        assert json.loads(text) == manifest.get("spec", manifest.get("data")), kind


def test_settings_are_right_and_every_worker_has_its_own_lasting_name():
    workers = settings(found("base", "StatefulSet")).config
    trainer = settings(found("base", "CronJob")).config

    assert workers.source.member == "streamclust-0"
    assert workers.model.share == trainer.model.share == "kafka"
    assert workers.retrain.every > 1e8
    assert trainer.retrain.every == Config.model_fields["retrain"].default_factory().every
    (container,) = pod(found("base", "StatefulSet"))["containers"]
    (member,) = [e for e in container["env"] if e["name"] == "STREAMCLUST_SOURCE__MEMBER"]
    assert member["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_no_service_of_the_cluster_becomes_a_setting():
    for kind in ("StatefulSet", "CronJob"):
        assert pod(found("base", kind))["enableServiceLinks"] is False


def test_selectors_find_the_workers():
    workers = found("base", "StatefulSet")
    labels = workers["spec"]["template"]["metadata"]["labels"]

    for selector in (
        workers["spec"]["selector"]["matchLabels"],
        found("base", "Service")["spec"]["selector"],
        found("base", "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert workers["spec"]["serviceName"] == found("base", "Service")["metadata"]["name"]


def test_the_network_policy_means_workers_and_trainer_and_lets_their_port_in():
    policy = found("base", "NetworkPolicy")["spec"]
    (rule,) = policy["podSelector"]["matchExpressions"]
    trainer = found("base", "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]

    assert trainer[rule["key"]] in rule["values"]
    assert [port["port"] for entry in policy["ingress"] for port in entry["ports"]] == [HttpSpec().port]
    brokers = [
        address.rpartition(":")[2] for address in read(KUBERNETES / "base" / "config.yaml")["kafka"]["bootstrap"]
    ]
    assert {int(port) for port in brokers} <= {port["port"] for entry in policy["egress"] for port in entry["ports"]}


def test_probes_ask_what_the_daemon_answers_and_a_stop_has_time():
    spec = pod(found("base", "StatefulSet"))
    (container,) = spec["containers"]
    (port,) = container["ports"]

    assert port["containerPort"] == HttpSpec().port
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
        assert path in PATHS
    assert spec["terminationGracePeriodSeconds"] > Config.model_fields["shutdown_timeout"].default


@pytest.mark.parametrize("kind", ["StatefulSet", "CronJob"])
def test_pods_keep_to_the_restricted_standard_of_their_namespace(kind):
    spec = pod(found("base", kind))
    (container,) = spec["containers"]

    assert found("base", "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"/tmp", "/var/lib/streamclust", CONFIG.rpartition("/")[0]}  # noqa: S108 — of the container


def test_a_training_that_is_refused_is_not_tried_again_at_once_and_never_runs_twice():
    job = found("base", "CronJob")["spec"]
    config_ = settings(found("base", "CronJob")).config

    assert job["concurrencyPolicy"] == "Forbid"
    assert job["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert job["jobTemplate"]["spec"]["activeDeadlineSeconds"] > config_.retrain.time_budget


def test_keda_scales_the_workers_on_the_lag_of_their_own_group():
    scaled = found("keda", "ScaledObject")["spec"]
    workers = found("keda", "StatefulSet")
    source = settings(workers).config.source
    (trigger,) = scaled["triggers"]

    assert scaled["scaleTargetRef"]["name"] == workers["metadata"]["name"]
    assert "replicas" not in workers["spec"]
    assert scaled["minReplicaCount"] >= 1
    assert trigger["metadata"]["consumerGroup"] == source.group
    assert trigger["metadata"]["topic"] in source.topics


def with_component(name: str, component: str, folder: Path) -> tuple[list[dict], list[dict]]:
    """Return what kustomize makes of a variant, and of an overlay of it with a component."""
    where = [os.path.relpath(KUBERNETES / part, folder) for part in (name, component)]
    overlay = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump({**overlay, "resources": where[:1], "components": where[1:]})
    )
    kubectl = tool("kubectl", "kubectl, for kustomize")
    built = [look(kubectl, "kustomize", each) for each in (KUBERNETES / name, folder)]
    assert built[1].returncode == 0, built[1].stderr
    before, after = (list(yaml.safe_load_all(done.stdout)) for done in built)
    return before, after


@pytest.mark.parametrize("name", VARIANTS)
def test_the_monitor_can_be_added_to_each_variant_and_changes_nothing_else(name, tmp_path):
    before, after = with_component(name, "monitoring", tmp_path)

    assert [m for m in after if m["kind"] != "PodMonitor"] == before
    assert [m for m in after if m["kind"] == "PodMonitor"] == [read(KUBERNETES / "monitoring" / "podmonitor.yaml")]


@pytest.mark.parametrize("name", VARIANTS)
def test_the_page_can_be_added_to_each_variant_and_changes_only_the_workers(name, tmp_path):
    before, after = with_component(name, "web", tmp_path)
    added = [m for m in after if m["metadata"]["name"].startswith("streamclust-page")]

    assert sorted(m["kind"] for m in added) == ["NetworkPolicy", "Service", "Service"]
    rest = [[m for m in built if m not in added and m["kind"] != "StatefulSet"] for built in (before, after)]
    assert rest[0] == rest[1]
    was, now = (pod(m)["containers"][0] for built in (before, after) for m in built if m["kind"] == "StatefulSet")
    for key in ("env", "ports"):
        assert all(each in now[key] for each in was[key]), key
    assert {k: v for k, v in was.items() if k not in {"env", "ports", "resources"}} == {
        k: v for k, v in now.items() if k not in {"env", "ports", "resources"}
    }
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate").validate
    for manifest in (m for m in after if not m["apiVersion"].startswith("keda.sh/")):
        validate(manifest, "1.33", strict=True)


def test_each_worker_has_a_service_for_its_page_also_while_it_is_not_ready(tmp_path):
    _, after = with_component("base", "web", tmp_path)
    (workers,) = [m for m in after if m["kind"] == "StatefulSet"]
    services = [m["spec"] for m in after if m["kind"] == "Service" and "-page-" in m["metadata"]["name"]]
    (policy,) = [m["spec"] for m in after if m["metadata"]["name"] == "streamclust-page"]
    ports = {each["name"]: each["containerPort"] for each in pod(workers)["containers"][0]["ports"]}
    labels = workers["spec"]["template"]["metadata"]["labels"]

    pods = {spec["selector"].pop("statefulset.kubernetes.io/pod-name") for spec in services}
    assert pods == {f"{workers['metadata']['name']}-{at}" for at in range(workers["spec"]["replicas"])}
    for spec in services:
        assert spec["selector"].items() <= labels.items()
        assert [each["targetPort"] for each in spec["ports"]] == ["page"]
        assert spec["publishNotReadyAddresses"]
    assert [each["port"] for entry in policy["ingress"] for each in entry["ports"]] == [ports["page"]]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()


def test_a_worker_with_a_page_starts_with_what_the_documentation_adds_and_never_without_tokens(tmp_path):
    before, after = with_component("base", "web", tmp_path)
    (plain,), (workers,) = ([m for m in built if m["kind"] == "StatefulSet"] for built in (before, after))
    text = (DEPLOY.parent / "docs" / "deploy.md").read_text().partition("- **Page**")[2]
    shown = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    token = {
        "sha256": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        "name": "x",
        "scopes": ["read"],
    }
    file = tmp_path / "config.yaml"

    file.write_text(yaml.safe_dump(read(KUBERNETES / "base" / "config.yaml") | shown))
    with pytest.raises(ConfigError, match=r"web\.tokens"):
        settings(workers, file)
    shown["web"]["tokens"] = [token]
    file.write_text(yaml.safe_dump(read(KUBERNETES / "base" / "config.yaml") | shown))
    seen = settings(workers, file).config

    assert (seen.web.host, seen.web.enabled) == ("0.0.0.0", True)  # noqa: S104 — in a pod
    assert seen.web.port == {p["name"]: p["containerPort"] for p in pod(workers)["containers"][0]["ports"]}["page"]
    assert list(seen.web.hosts) == shown["web"]["hosts"], "what people write must hold"
    assert {sink.type for sink in seen.sinks} == {"kafka", "sqlite"}
    more = memory(pod(workers)["containers"][0]) - memory(pod(plain)["containers"][0])
    assert 2 * seen.web.uploads.memory_mb * 2**20 + seen.retrain.memory_bytes <= more


def test_the_monitor_scrapes_the_workers_where_they_show_their_metrics_as_the_alert_rules_expect():
    monitor = read(KUBERNETES / "monitoring" / "podmonitor.yaml")
    workers = found("base", "StatefulSet")
    (container,), (endpoint,) = pod(workers)["containers"], monitor["spec"]["podMetricsEndpoints"]

    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    assert monitor["metadata"]["namespace"] == workers["metadata"]["namespace"]
    assert (
        monitor["spec"]["selector"]["matchLabels"].items() <= workers["spec"]["template"]["metadata"]["labels"].items()
    )
    assert endpoint["port"] in {port["name"] for port in container["ports"]}
    assert endpoint["path"] in PATHS
    assert seconds(endpoint["scrapeTimeout"]) < seconds(endpoint["interval"]) <= 30, "rules count increases of a minute"
    job = "{namespace}/{name}".format(**monitor["metadata"])
    down = re.search(r'up\{job=~"([^"]*)"\}', (DEPLOY / "prometheus" / "rules.yml").read_text())
    assert re.fullmatch(down[1], job)
