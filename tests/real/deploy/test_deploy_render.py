"""What the chart and the kustomization render, for whom, and what they refuse to render."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.deploy.rendering import (
    CHART,
    HOME,
    OVERLAYS,
    ROOT,
    SERVICE_MONITOR,
    Object,
    Programs,
    Refused,
    container,
    environment,
    normal,
    of_kind,
    only,
)

CLUSTER_WIDE = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Namespace",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
}


@pytest.mark.parametrize(
    ("overlay", "version"), [("cluster", "1.36.3"), ("cluster-1.30", "1.35.9"), ("cluster-1.30", "1.30.0"),
                             ("cluster-1.29", "1.29.14"), ("cluster", "1.37.0-alpha.1")]
)  # fmt: skip
def test_helm_and_kustomize_install_the_same(programs: Programs, overlay: str, version: str) -> None:
    by_helm = normal(programs.template(version=version))
    by_kustomize = normal(programs.kustomize(OVERLAYS / overlay))
    del by_kustomize["v1", "Namespace", "", HOME]  # Helm's own has to be there before the release is
    assert by_helm == by_kustomize


def test_namespaced_helm_and_kustomize_install_the_same(programs: Programs, tmp_path: Path) -> None:
    mine = {"resources": [beside(tmp_path, OVERLAYS / "namespaced")], "namespace": "shop"}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(mine))
    by_helm = normal(programs.template("--set=mode=namespaced", namespace="shop"))
    by_kustomize = normal(programs.kustomize(tmp_path))
    assert by_helm == by_kustomize


def test_the_kustomize_base_is_what_the_chart_renders(programs: Programs) -> None:
    command = [sys.executable, ROOT / "scripts" / "deploy.py", "--check"]
    out, _ = programs.run(Path("/usr/bin/env"), f"KUBEBUILDER_ASSETS={programs.assets.helm.parent}", *map(str, command))
    assert out == ""


def test_a_namespaced_installation_has_nothing_that_belongs_to_the_cluster(programs: Programs) -> None:
    objects = programs.template("--set=mode=namespaced", namespace="shop")
    assert {one["kind"] for one in objects} & CLUSTER_WIDE == set()
    assert {one["metadata"]["namespace"] for one in objects} == {"shop"}
    said = environment(objects)
    assert (said["CANARY_NAMESPACE"], said["CANARY_OWN_NAMESPACE"]) == ("<metadata.namespace>", "<metadata.namespace>")
    assert "CANARY_ALL_NAMESPACES" not in said


def test_another_namespace_is_meant_everywhere(programs: Programs) -> None:
    """Also in the expressions of the admission policies, which know the controller by its account's name."""
    text = programs.helm("template", "canary", CHART, "--namespace", "releases", "--kube-version", "1.36.0")
    assert HOME not in text
    assert "system:serviceaccount:releases:canary" in text


def test_admission_policies_come_with_the_version_that_knows_them(programs: Programs) -> None:
    def kinds(version: str, *options: str) -> set[str]:
        return {one["kind"] for one in programs.template(*options, version=version)} & CLUSTER_WIDE

    assert not any("Admission" in kind for kind in kinds("1.29.9"))
    assert {kind for kind in kinds("1.30.0") if "Admission" in kind} == {
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
    }  # fmt: skip
    assert kinds("1.35.9") == kinds("1.30.0")
    assert kinds("1.36.0") - kinds("1.35.9") == {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}
    assert not any("Admission" in kind for kind in kinds("1.36.0", "--set=admission.enabled=false"))


def test_a_cluster_older_than_the_crd_s_rules_is_refused(programs: Programs) -> None:
    with pytest.raises(Refused, match=r"requires kubeVersion: >=1\.29"):
        programs.template(version="1.28.15")


def test_a_service_monitor_needs_its_kind_in_the_cluster(programs: Programs) -> None:
    assert of_kind(programs.template(), "ServiceMonitor") == []
    assert (
        of_kind(programs.template("--set=serviceMonitor.enabled=false", f"-a={SERVICE_MONITOR}"), "ServiceMonitor")
        == []
    )
    objects = programs.template(f"-a={SERVICE_MONITOR}", "--set=serviceMonitor.labels.release=prometheus")
    monitor, service = only(objects, "ServiceMonitor"), only(objects, "Service")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    assert [one["port"] for one in monitor["spec"]["endpoints"]] == [one["name"] for one in service["spec"]["ports"]]


def test_the_service_monitor_component_is_the_chart_s(programs: Programs) -> None:
    folder = ROOT / "deploy" / "kustomize" / "components" / "servicemonitor"
    mine = yaml.safe_load((folder / "servicemonitor.yaml").read_text())
    assert normal([mine]) == normal(of_kind(programs.template(f"-a={SERVICE_MONITOR}"), "ServiceMonitor"))


def test_the_policies_are_the_shipped_ones_and_one_s_own(programs: Programs, tmp_path: Path) -> None:
    def policies(*options: str) -> dict[str, str]:
        found = programs.template(*options)
        data: dict[str, str] = next(one for one in of_kind(found, "ConfigMap"))["data"]
        return data

    shipped = {path.name: path.read_text() for path in (ROOT / "policies").glob("*.yaml") if path.stem != "demo"}
    assert policies() == shipped
    (tmp_path / "values.yaml").write_text(
        yaml.safe_dump(
            {"policies": {"extra": {"night.yaml": "name: night\n", "strict.yaml": "name: strict\n# ours\n"}}}
        )
    )
    assert policies("-f", str(tmp_path / "values.yaml")) == {
        **shipped, "night.yaml": "name: night\n", "strict.yaml": "name: strict\n# ours\n"
    }  # fmt: skip
    assert not policies("--set=policies.shipped=false")


def test_prometheus_behind_authentication_and_its_own_authority(programs: Programs) -> None:
    objects = programs.template(
        "--set=prometheus.url=https://thanos.example:10902/team,prometheus.headers={X-Scope-OrgID:a,X-B:c}",
        "--set=prometheus.bearerToken.secret=thanos,prometheus.ca.configMap=authority,prometheus.ca.key=root.pem",
    )
    said = environment(objects)
    assert said["CANARY_PROMETHEUS"] == "https://thanos.example:10902/team"
    assert said["CANARY_PROMETHEUS_HEADER"] == "X-Scope-OrgID:a X-B:c"
    pod = only(objects, "Deployment")["spec"]["template"]["spec"]
    mounted = {one["name"]: one["mountPath"] for one in container(objects)["volumeMounts"]}
    volumes = {one["name"]: one for one in pod["volumes"]}
    files = {
        f"{mounted['prometheus']}/{item['path']}": (next(iter(source.values()))["name"], item["key"])
        for source in volumes["prometheus"]["projected"]["sources"]
        for item in next(iter(source.values()))["items"]
    }
    assert files[said["CANARY_PROMETHEUS_BEARER_TOKEN_FILE"]] == ("thanos", "token")
    assert files[said["CANARY_PROMETHEUS_CA_FILE"]] == ("authority", "root.pem")
    egress = only(objects, "NetworkPolicy")["spec"]["egress"]
    assert 10902 in [port["port"] for rule in egress for port in rule["ports"]]


@pytest.mark.parametrize(
    ("url", "port", "expected"),
    [("http://prometheus:9090", 0, 9090), ("https://prometheus", 0, 443), ("http://prometheus/x", 0, 80),
     ("http://prometheus", 9090, 9090), ("http://[fd00::1]:9091", 0, 9091), ("http://[fd00::1]", 0, 80)],
)  # fmt: skip
def test_the_way_to_prometheus_is_open(programs: Programs, url: str, port: int, expected: int) -> None:
    objects = programs.template(f"--set=prometheus.url={url},networkPolicy.prometheus.port={port}")
    assert only(objects, "NetworkPolicy")["spec"]["egress"][2]["ports"] == [{"protocol": "TCP", "port": expected}]


def test_an_image_is_meant_by_its_digest_where_there_is_one(programs: Programs) -> None:
    digest = f"sha256:{'a' * 64}"
    options = "--set=image.repository=registry.example:5000/team/canary,image.tag=1.2"
    assert container(programs.template(options))["image"] == "registry.example:5000/team/canary:1.2"
    with_digest = programs.template(options, f"--set=image.digest={digest}")
    assert container(with_digest)["image"] == f"registry.example:5000/team/canary@{digest}"


def shown(kind: str) -> Object:
    """The one YAML block of docs/install.md with an object of this kind."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "install.md").read_text(), re.DOTALL | re.MULTILINE)
    (found,) = [one for one in map(yaml.safe_load, blocks) if one["kind"] == kind]
    assert isinstance(found, dict)
    return found


def beside(folder: Path, path: str | Path) -> str:
    """A folder of the repository as a kustomization in `folder` has to name it: relatively."""
    return os.path.relpath(ROOT / path, folder)


def test_the_kustomization_of_the_docs_changes_what_it_says(programs: Programs, tmp_path: Path) -> None:
    mine = shown("Kustomization")
    for field in ("resources", "components"):
        mine[field] = [beside(tmp_path, path.removeprefix("canary/")) for path in mine[field]]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(mine))
    (tmp_path / "night.yaml").write_text("name: night\n")
    objects = programs.kustomize(tmp_path)

    plain = normal(programs.kustomize(OVERLAYS / "cluster"))
    assert set(normal(objects)) - set(plain) == {("monitoring.coreos.com/v1", "ServiceMonitor", HOME, "canary")}
    assert {key for key, one in normal(objects).items() if one != plain.get(key)} == {
        ("monitoring.coreos.com/v1", "ServiceMonitor", HOME, "canary"),
        ("v1", "ConfigMap", HOME, "canary-policies"),
        ("apps/v1", "Deployment", HOME, "canary-controller"),
    }
    assert container(objects)["image"] == "registry.example/team/canary:0.1.0"
    assert environment(objects)["CANARY_PROMETHEUS"] == "http://prometheus.monitoring:9090"
    assert set(only(objects, "ConfigMap")["data"]) > {"night.yaml", "standard.yaml"}


def test_opted_in_namespaces_get_the_binding_of_the_docs(programs: Programs) -> None:
    bindings = [
        one
        for one in of_kind(programs.template("--set=rbac.namespaces={shop,payments}"), "RoleBinding")
        if one["metadata"]["name"] == "canary-writes"
    ]
    assert [one["metadata"]["namespace"] for one in bindings] == ["shop", "payments"]
    assert normal([shown("RoleBinding")]) == normal(bindings[:1])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"replica": 3}, "additional properties 'replica' not allowed"),
        ({"prometheus": {"adress": "x"}}, "at '/prometheus': additional properties 'adress' not allowed"),
        ({"mode": "global"}, "at '/mode': value must be one of 'cluster', 'namespaced'"),
        ({"replicas": "two"}, "at '/replicas': got string, want integer"),
        ({"prometheus": {"url": "prometheus:9090"}}, "at '/prometheus/url': 'prometheus:9090' does not match pattern"),
        ({"evidence": {"tick": "10 s"}}, "at '/evidence/tick': '10 s' does not match pattern"),
        ({"image": {"digest": "abc"}}, "at '/image/digest': 'abc' does not match pattern"),
        ({"rbac": {"namespaces": ["Shop"]}}, "at '/rbac/namespaces/0': 'Shop' does not match pattern"),
        ({"terminationGracePeriodSeconds": 5}, "at '/terminationGracePeriodSeconds': minimum: got 5, want 10"),
        ({"runAsUser": 0}, "at '/runAsUser': minimum: got 0, want 1"),
        (
            {"policies": {"extra": {"night.txt": "name: night"}}},
            "invalid propertyName 'night.txt'",
        ),
        ({"networkPolicy": {"dns": {"to": [{"pod": {}}]}}}, "additional properties 'pod' not allowed"),
        ({"prometheus": {"basic": {"secret": "thanos"}}}, "at '/prometheus/basic/username'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(programs: Programs, tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    (tmp_path / "wrong.yaml").write_text(json.dumps(wrong))
    with pytest.raises(Refused, match=re.escape(said)):
        programs.template("-f", str(tmp_path / "wrong.yaml"))


def test_helm_lint_finds_nothing(programs: Programs) -> None:
    for options in ([], ["--set=mode=namespaced"], ["--set=policies.shipped=false"]):
        said = programs.helm("lint", "--strict", "--kube-version", "1.36.0", CHART, *options)
        assert "1 chart(s) linted, 0 chart(s) failed" in said


def test_a_packaged_chart_renders_the_same(programs: Programs, tmp_path: Path) -> None:
    programs.helm("package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.glob("canary-*.tgz")
    assert programs.template(chart=package) == programs.template()
    listed = subprocess.run(["tar", "--list", "--file", package], capture_output=True, text=True, check=True).stdout
    assert "canary/values.schema.json" in listed.splitlines()
