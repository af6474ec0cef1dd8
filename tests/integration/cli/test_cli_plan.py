"""`canary plan` and `canary backtest` on a real Prometheus with a known past, and objects in a real API server.

The past is written with promtool: three hours of payment-v1, in the second of which the whole service fails 5 % of its
requests, and ten minutes of payment-v2 at 20 % of the requests, 5 % of which fail.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from canary.analysis.draws import binomial, poisson
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import DEPLOYMENT, DESTINATIONRULE, NAMESPACE, SERVICE, VIRTUALSERVICE
from canary.model.units import format_time
from canary.sandbox import example
from canary.sandbox.prometheus import PrometheusServer, find_prometheus

if TYPE_CHECKING:
    from conftest import Shop

pytestmark = pytest.mark.slow

SHOP = "shop-with-a-past"
TILE_S, RATE = 15, 40.0
SICK_SHARE = 0.05
BOUNDS = {"50": 0.5, "100": 0.1, "250": 0.01, "500": 0.001, "1000": 0.0, "+Inf": 0.0}
TELLING = """\
name: telling
strategy: {weights: [20, 50, 100], hold: 1m}
analysis: {warmup: 0s, maxWait: 5m, errorRate: {max: 1%}, p99: {max: 500ms}}
"""


class Past:
    """Whole hours, so that each can be judged: the newest ended within the last minutes."""

    def __init__(self) -> None:
        self.until = math.floor(time.time() / TILE_S) * TILE_S
        self.hours = [math.floor(self.until / 3600) * 3600 - 3600 * before for before in (3, 2, 1)]
        """The starts of three whole hours, oldest first; the second is the sick one."""
        self.begin = self.hours[0] - 900
        self.canary_from = self.hours[2] + 1800
        self.canary_until = self.canary_from + 600

    def lines(self) -> Iterator[str]:
        rng, counters = Random(4), {}
        yield "# TYPE istio_requests counter\n"
        samples: dict[str, list[str]] = {}
        for now in range(self.begin, self.until + 1, TILE_S):
            sick = SICK_SHARE if self.hours[1] < now <= self.hours[2] else 0.001
            total = poisson(rng, RATE * TILE_S)
            is_shared = self.canary_from < now <= self.canary_until
            to_canary = binomial(rng, total, 0.2) if is_shared else 0
            self._count(rng, counters, "payment-v1", total - to_canary, sick)
            if is_shared or "payment-v2" in str(counters):
                self._count(rng, counters, "payment-v2", to_canary, SICK_SHARE)
            for series, count in counters.items():
                samples.setdefault(series, []).append(f"{series} {count} {now}\n")
            samples.setdefault("up", []).append(f'up{{job="mesh",instance="gateway"}} 1 {now}\n')
        for family, kind in (
            ("istio_requests_total", ""),
            ("istio_request_duration_milliseconds_bucket", "# TYPE istio_request_duration_milliseconds unknown\n"),
            ("up", "# TYPE up gauge\n"),
        ):
            yield kind
            for series, written in samples.items():
                if series.startswith(family):
                    yield from written
        yield "# EOF\n"

    def _count(self, rng: Random, counters: dict[str, int], workload: str, requests: int, failing: float) -> None:
        labels = (
            f'job="mesh",instance="gateway",reporter="source",destination_workload_namespace="{SHOP}",'
            f'destination_workload="{workload}",destination_service_namespace="{SHOP}",'
            'destination_service_name="payment"'
        )
        errors = binomial(rng, requests, failing)
        for code, count in (("200", requests - errors), ("503", errors)):
            series = f'istio_requests_total{{{labels},response_code="{code}"}}'
            counters[series] = counters.get(series, 0) + count
        slower, share_left = requests - errors, 1.0
        at_most = {}
        for bound, share in BOUNDS.items():
            slower = binomial(rng, slower, share / share_left) if share_left else 0
            at_most[bound], share_left = requests - errors - slower, share
        for bound, count in at_most.items():
            series = f'istio_request_duration_milliseconds_bucket{{{labels},response_code="200",le="{bound}"}}'
            counters[series] = counters.get(series, 0) + count


@pytest.fixture(scope="module")
def past() -> Past:
    return Past()


@pytest.fixture(scope="module")
def prometheus(past: Past, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that scrapes nothing and remembers the past."""
    folder = tmp_path_factory.mktemp("past")
    written = folder / "past.om"
    written.write_text("".join(past.lines()).replace("# TYPE istio_requests counter\n", "", 1), encoding="utf-8")
    promtool = find_prometheus().with_name("promtool")
    data = folder / "data"
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", str(written), str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    with PrometheusServer(folder, [], retention="30d") as server:
        yield server.url


@pytest.fixture(scope="module")
def objects(apiserver: Any) -> str:
    """Service, route and two Deployments, of which v1 has all the traffic. Returns their namespace."""
    gateway = Gateway.connect(str(apiserver.kubeconfig), write_timeout_seconds=10)
    gateway.create(NAMESPACE, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SHOP}})
    kinds = {kind.kind: kind for kind in (SERVICE, DESTINATIONRULE, VIRTUALSERVICE, DEPLOYMENT)}
    for thing in (*example.mesh(), example.deployment("v1"), example.deployment("v2")):
        gateway.create(kinds[thing["kind"]], SHOP, {**thing, "metadata": {**thing["metadata"], "namespace": SHOP}})
    gateway.close()
    return SHOP


@pytest.fixture
def shop_with_a_past(shop: Shop, objects: str) -> Shop:
    return replace(shop, namespace=objects)


@pytest.fixture
def asked(shop_with_a_past: Shop, prometheus: str, tmp_path: Path) -> Any:
    """Run a command on both, with the policy `telling` in a folder of its own."""
    (tmp_path / "telling.yaml").write_text(TELLING)
    environment = {"CANARY_PROMETHEUS": prometheus, "CANARY_POLICIES": str(tmp_path)}
    return lambda *arguments, **more: shop_with_a_past.canary(*arguments, **(environment | more))


def test_a_plan_shows_writes_times_and_what_a_bad_version_would_cost(asked: Any, shop_with_a_past: Shop) -> None:
    before = shop_with_a_past.gateway.get(VIRTUALSERVICE, SHOP, "payment")

    done = asked("plan", "payment-v2", "--policy", "telling")

    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert out.startswith("payment-v2 in place of payment-v1: Service payment, VirtualService payment, policy telling.")
    assert re.search(r"Measured in the last hour: (39|40)", out)
    assert "Counted in tiles of 15 s." in out
    assert re.search(r"1/3 +20%", out)
    assert "spec.http[0].route[0].weight (subset v1): 100 -> 80" in out
    assert "spec.http[0].route[1].weight (subset v2): 20 -> 50" in out
    assert "add to spec.subsets" in out
    assert "requests/s is little" in out
    assert "tiles are 15 s long" in out.lower()
    assert shop_with_a_past.gateway.get(VIRTUALSERVICE, SHOP, "payment") == before


def test_a_plan_as_json_has_every_figure_and_the_patches(asked: Any) -> None:
    done = asked("plan", "payment-v2", "--policy", "telling", "-o", "json")

    plan = json.loads(done.stdout)
    assert plan["measured"]["requestsPerSecond"] == pytest.approx(RATE, rel=0.03)
    assert list(plan["measured"]["latencyPhi"]) == ["100", "250", "500"]
    assert plan["measured"]["tileSeconds"] == 15.0
    assert [step["weight"] for step in plan["steps"]] == [20, 50, 100]
    first = plan["steps"][0]
    assert first["requests"]["canary"] / first["requests"]["stable"] == pytest.approx(0.25)
    assert first["canPassSeconds"]["median"] > 385 / 8
    assert 0.9 < plan["badFromTheStart"]["errors_5"]["share"] <= 1
    patch = next(write for write in plan["writes"] if write["step"] == 2)["write"]
    assert {"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 50} in patch["body"]


def test_a_rollout_that_was_not_created_yet_is_planned_from_its_file(asked: Any, tmp_path: Path) -> None:
    file = tmp_path / "rollout.yaml"
    spec = {"target": "payment-v2", "policyName": "telling"}
    file.write_text(yaml.safe_dump({"apiVersion": "canary.delivery/v1alpha1", "kind": "CanaryRollout", "spec": spec}))

    done = asked("plan", "-f", str(file))

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("payment-v2 in place of payment-v1")


def test_the_version_that_has_the_traffic_is_planned_for_as_whatever_comes_next(asked: Any) -> None:
    done = asked("plan", "payment-v1", "--policy", "telling")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The next version in place of payment-v1: Service payment, policy telling.")


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "said"),
    [
        (["plan", "payment-v2", "--policy", "telling"], {"CANARY_PROMETHEUS": ""}, 1, "say where Prometheus is"),
        (["plan", "payment-v2", "--policy", "telling"], {"CANARY_PROMETHEUS": "http://127.0.0.1:1"}, 1, "refused"),
        (["plan", "payment-v2"], {}, 1, "does not name a policy"),
        (["plan", "nobody", "--policy", "telling"], {}, 7, "there is no Deployment or rollout nobody"),
        (["plan"], {}, 2, "NAME, or --file"),
        (["plan", "payment-v2", "--policy", "telling", "-o", "name"], {}, 2, "says nothing"),
        (["backtest", "payment-v2"], {}, 1, "does not name a policy"),
        (["backtest"], {}, 2, "say what"),
        (["backtest", "--canary", "payment-v2", "--policy", "telling"], {}, 2, "say what"),
        (["backtest", "payment-v2", "--since", "yesterday"], {}, 2, "must be a duration ago"),
        (["backtest", "--healthy", "3h", "nobody", "--policy", "telling"], {}, 7, "nobody"),
    ],
)
def test_a_mistake_is_one_clear_sentence(
    asked: Any, arguments: list[str], environment: dict[str, str], code: int, said: str
) -> None:
    done = asked(*arguments, **environment)

    assert done.returncode == code
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""


def test_two_deployments_are_taken_through_a_policy_and_the_bad_one_is_rolled_back(asked: Any, past: Past) -> None:
    since = format_time(datetime.fromtimestamp(past.canary_from - 60, UTC))

    done = asked("backtest", "--policy", "telling", "--canary", "payment-v2", "--stable", "payment-v1",
                 "--since", since)  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "FAIL error rate" in done.stdout
    assert "worse than stable with evidence" in done.stdout
    assert "ROLLED BACK at" in done.stdout
    assert "in step 1/3" in done.stdout
    assert "What really became of it" not in done.stdout


def test_a_rollout_is_taken_through_the_policy_in_the_steps_that_it_really_had(
    asked: Any, past: Past, shop_with_a_past: Shop
) -> None:
    began = datetime.fromtimestamp(past.canary_from, UTC)
    rolled_back = began + timedelta(seconds=300)
    policy = yaml.safe_load(TELLING)
    name = shop_with_a_past.rollout(
        "payment-v2-past-1",
        phase="RolledBack",
        service="payment",
        tile="15s",
        targetRevision="abc",
        stable={"deployment": "payment-v1", "subset": "v1", "label": "version", "value": "v1"},
        canary={"deployment": "payment-v2", "subset": "v2", "label": "version", "value": "v2"},
        route={"virtualService": "payment", "host": "payment"},
        policy={"name": "telling", "digest": "", "resolved": policy},
        weightChanges=[{"step": 1, "weight": 20, "asked": format_time(began), "reached": format_time(began)}],
        cause={"reason": "Verdict", "sentence": "ROLLBACK at 20 %: too many errors."},
        history=[{"at": format_time(rolled_back), "phase": "RollingBack", "sentence": "going back"}],
    )

    done = asked("backtest", name, "-o", "json")
    lenient = asked("backtest", name, "--policy", str(lax(shop_with_a_past)), "-o", "json")

    found, lax_found = json.loads(done.stdout), json.loads(lenient.stdout)
    assert found["decision"] == "rollback"
    assert found["failed"]["reason"] == "error_rate"
    assert began.timestamp() < found["failed"]["at"] < rolled_back.timestamp() + 60
    assert found["really"]["phase"].startswith("RolledBack at ")
    assert found["baseline"]["historySeconds"] == pytest.approx(600, abs=30)
    assert lax_found["decision"] == "none"
    assert lax_found["windows"] > found["windows"]
    assert max(step["end"] for step in lax_found["steps"]) <= rolled_back.timestamp()


def lax(shop: Shop) -> Path:
    path = shop.kubeconfig.with_name("lax.yaml")
    tolerant = {"errorRate": {"max": "20%", "vsStable": "off"}, "p99": {"vsStable": "off"}, "warmup": "0s"}
    path.write_text(yaml.safe_dump({"name": "lax", "strategy": {"weights": [20, 100]}, "analysis": tolerant}))
    return path


def test_a_limit_that_the_recorded_histogram_lacks_is_refused_by_name(asked: Any, shop_with_a_past: Shop) -> None:
    finer = shop_with_a_past.kubeconfig.with_name("finer.yaml")
    finer.write_text(TELLING.replace("telling", "finer").replace("max: 500ms", "max: 25ms"))

    healthy = asked("backtest", "payment-v1", "--policy", str(finer), "--healthy", "3h")
    pair = asked("backtest", "--policy", str(finer), "--canary", "payment-v2", "--stable", "payment-v1",
                 "--since", "6h")  # fmt: skip
    planned = asked("plan", "payment-v2", "--policy", str(finer))

    assert (healthy.returncode, pair.returncode, planned.returncode) == (1, 1, 0)
    assert "25 ms" in healthy.stderr
    assert "25 ms" in pair.stderr
    assert "P99.max 25ms is no bucket bound of this mesh's latency histogram" in planned.stdout


def test_a_rollout_older_than_the_retention_says_so(asked: Any, past: Past, shop_with_a_past: Shop) -> None:
    began = format_time(datetime.fromtimestamp(past.begin - 90_000, UTC))
    arms = {"subset": "v1", "label": "version", "value": "v1"}
    name = shop_with_a_past.rollout(
        "payment-v2-old-1",
        phase="Succeeded",
        service="payment",
        tile="15s",
        stable={"deployment": "payment-v1", **arms},
        canary={"deployment": "payment-v2", **arms},
        route={"virtualService": "payment", "host": "payment"},
        weightChanges=[{"step": 1, "weight": 20, "asked": began, "reached": began}],
        history=[{"at": format_time(datetime.fromtimestamp(past.begin - 89_000, UTC)), "phase": "Succeeded",
                  "sentence": "done"}],
    )  # fmt: skip

    done = asked("backtest", name, "--policy", "telling", "--reporter", "source")

    assert done.returncode == 1
    assert "Prometheus" in done.stderr
    assert done.stdout == ""


def test_healthy_hours_are_not_rolled_back_and_the_sick_one_is_told_apart(asked: Any, past: Past) -> None:
    done = asked("backtest", "payment-v1", "--policy", "telling", "--healthy", "2d", "--splits", "2", "-o", "json")

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    hours = {hour["start"]: hour for hour in found["hours"]}
    assert set(past.hours) <= set(hours)
    sick = hours.pop(float(past.hours[1]))
    assert "over errorRate.max 1 %" in sick["unwell"]
    assert not any(hour["unwell"] or hour["rolledBack"] for hour in hours.values())
    assert found["askedHours"] == 48
    assert found["healthyHours"] == len(hours)
    assert (found["rolledBack"], found["rollouts"]) == (0, 2 * len(hours))


def test_missing_history_and_the_stated_bound_are_said(asked: Any) -> None:
    done = asked("backtest", "payment-v1", "--policy", "telling", "--healthy", "2d", "--splits", "1")

    assert "of the 48 hours before" in done.stdout
    assert "its retention" in done.stdout
    assert "95 % interval 0 % to" in done.stdout
    assert "The policy states at most 1 %" in done.stdout
    assert "Not healthy" in done.stdout
    assert "hours judged" in done.stderr
