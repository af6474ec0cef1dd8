"""What two runs of one rollout are compared by. Times, versions and figures of requests are no part of it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import groupby, pairwise
from typing import Any

from canary.analysis.record import Record
from canary.cluster.evidence import KEY, evidence_name, packed_in
from canary.model.annotations import PREFIX
from canary.model.rollout import Phase, RolloutStatus
from tests.faults.crash.witness import Effect

Object = dict[str, Any]

_TIMED = frozenset({Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING})


@dataclass(frozen=True)
class Told:
    """One run, in words. Equal for two runs in which users got the same and nothing else was left behind."""

    route: tuple[str, ...]
    """What the route said, one after the other: percent by subset, and where the header route led."""
    steps: Mapping[str, tuple[str, ...]]
    """By rollout: phase, step and weight, as its statuses said one after the other."""
    history: Mapping[str, tuple[str, ...]]
    changes: Mapping[str, tuple[str, ...]]
    """By rollout: the weights that were asked for and reached, as its last status lists them."""
    left: Mapping[str, Any]
    """The objects as they are at the end."""
    wrong: tuple[str, ...] = field(default=())
    """What must not be in any run."""


def differences(expected: Told, found: Told) -> list[str]:
    """One sentence for each thing that is not as in the uninterrupted run."""
    said = [f"{sentence}" for sentence in found.wrong]
    for entry in fields(Told):
        if entry.name != "wrong":
            said += _compared(entry.name, getattr(expected, entry.name), getattr(found, entry.name))
    return said


def _compared(where: str, expected: Any, found: Any) -> list[str]:
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        keys = sorted({*expected, *found})
        return [
            line for key in keys for line in _compared(f"{where}/{key}", expected.get(key), found.get(key, "(nothing)"))
        ]
    return [] if expected == found else [f"{where}: {_shown(found)} instead of {_shown(expected)}"]


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " → ".join(str(item) for item in value) or "(nothing)"
    return str(value)


def told(effects: Sequence[Effect], left: Sequence[Object], wrong: Iterable[str] = ()) -> Told:
    """What the writes that took effect and the objects at the end tell."""
    by_rollout: dict[str, list[Object]] = {}
    for effect in effects:
        if effect.asked.resource == "canaryrollouts" and "status" in effect.document:
            by_rollout.setdefault(effect.asked.name, []).append(effect.document["status"])
    last = {name: statuses[-1] for name, statuses in by_rollout.items()}
    return Told(
        route=collapsed(route_of(one.document) for one in effects if one.asked.resource == "virtualservices"),
        steps={name: collapsed(map(_step, statuses)) for name, statuses in by_rollout.items()},
        history={name: tuple(map(_entry, status.get("history", ()))) for name, status in last.items()},
        changes={name: tuple(map(_change, status.get("weightChanges", ()))) for name, status in last.items()},
        left={f"{one['kind']} {one['metadata']['name']}": normalised(one) for one in left if not _is_evidence(one)}
        | {f"evidence of {name}": _passed_steps(name, status, left) for name, status in last.items()},
        wrong=(*wrong, *unreachable(effects), *(line for each in by_rollout.values() for line in lost_time(each))),
    )


def collapsed(said: Iterable[str]) -> tuple[str, ...]:
    """Without repetitions of what was said last: a status is also written for other things."""
    return tuple(key for key, _ in groupby(said))


def weights_of(virtual_service: Object) -> dict[str, int]:
    """Percent by subset on the primary route, zeros included."""
    entries = virtual_service["spec"]["http"][-1]["route"]
    return {one["destination"]["subset"]: one.get("weight", 100 if len(entries) == 1 else 0) for one in entries}


def header_of(virtual_service: Object) -> str:
    """The subset that a header route before the primary one leads to, "" without one."""
    *before, _ = virtual_service["spec"]["http"]
    return str(before[0]["route"][0]["destination"]["subset"]) if before else ""


def route_of(virtual_service: Object) -> str:
    shares = " ".join(f"{subset}={weight}" for subset, weight in sorted(weights_of(virtual_service).items()) if weight)
    header = header_of(virtual_service)
    return shares + (f" header→{header}" if header else "")


def unreachable(effects: Sequence[Effect], subsets: Collection[str] = ("v1",)) -> list[str]:
    """Routes that lead nowhere, or not all of the traffic somewhere, at any moment; `subsets` were there at first."""
    subsets = {*subsets}
    said = []
    for effect in effects:
        if effect.asked.resource == "destinationrules":
            subsets = {one["name"] for one in effect.document["spec"].get("subsets", ())}
            continue
        if effect.asked.resource != "virtualservices":
            continue
        weights = weights_of(effect.document)
        if sum(weights.values()) != 100:
            said.append(f"{effect.asked} left weights of {sum(weights.values())} %")
        used = {subset for subset, weight in weights.items() if weight} | {header_of(effect.document)} - {""}
        said += [f"{effect.asked} leads to subset {one}, which is not there" for one in sorted(used - subsets)]
    return said


def lost_time(statuses: Sequence[Object]) -> list[str]:
    """Moments at which a step's clock forgot time that had passed. It may stand still: who is blind does not count."""
    said = []
    for before, after in pairwise(map(RolloutStatus.model_validate, statuses)):
        if before.step != after.step or before.phase not in _TIMED or after.phase not in _TIMED:
            continue
        ran = before.resumed_at is not None and after.resumed_at != before.resumed_at
        if after.step_elapsed < before.step_elapsed or (ran and after.step_elapsed == before.step_elapsed):
            said.append(f"the clock of step {after.step and after.step.index} lost time at {after.phase}")
    return said


def _step(status: Object) -> str:
    step, weight = status.get("step") or {}, status.get("weight") or {}
    place = f" step {step['index']} at {weight.get('desired', 0)} %" if step else ""
    return f"{status.get('phase', 'Pending')}{place}"


def _entry(entry: Object) -> str:
    return f"{entry['phase']} step {entry.get('step')} at {entry.get('weight')} %"


def _change(change: Object) -> str:
    return f"step {change['step']}: {change['weight']} %" + ("" if change.get("reached") else " (not reached)")


def normalised(obj: Object) -> Object:
    """An object without what differs from run to run by itself."""
    meta = obj["metadata"]
    shown: Object = {
        "finalizers": meta.get("finalizers", []),
        "deleting": "deletionTimestamp" in meta,
        "labels": meta.get("labels", {}),
        "annotations": {key: value for key, value in meta.get("annotations", {}).items() if key.startswith(PREFIX)},
        "owners": [f"{owner['kind']} {owner['name']}" for owner in meta.get("ownerReferences", ())],
    }
    match obj["kind"]:
        case "VirtualService" | "DestinationRule":
            # a generation is one change of the spec: nothing was set twice
            shown |= {"spec": obj["spec"], "generation": meta.get("generation")}
        case "CanaryRollout":
            shown |= {"spec": obj["spec"], "status": _status(obj.get("status") or {})}
        case "ConfigMap":
            shown |= {"content": sorted({**obj.get("data", {}), **obj.get("binaryData", {})})}
    return shown


def _is_evidence(obj: Object) -> bool:
    return KEY in obj.get("binaryData", {})


def _passed_steps(rollout: str, status: Object, left: Sequence[Object]) -> str:
    """Of which steps that were passed the record of evidence has windows.

    Not of the last one: the record is written behind everything else, and nobody judges an ended rollout again to write
    it once more.
    """
    record = next((one for one in left if one["metadata"]["name"] == evidence_name(rollout)), None)
    last = min(status["step"]["index"], status["step"]["of"]) if status.get("step") else 0
    lives = Record.unpack(packed_in(record, record["metadata"]["ownerReferences"][0]["uid"])).lives if record else ()
    return f"steps {sorted({seen.window.step for life in lives for seen in life.windows if seen.window.step < last})}"


def _status(status: Object) -> Object:
    same = ("phase", "step", "service", "targetRevision", "stable", "canary", "route", "pausedFor")
    conditions = {one["type"]: f"{one['status']} {one['reason']}" for one in status.get("conditions", ())}
    return {key: status.get(key) for key in same} | {
        "desired": (status.get("weight") or {}).get("desired"),
        "configured": (status.get("weight") or {}).get("configured"),
        "policy": (status.get("policy") or {}).get("digest"),
        "cause": (status.get("cause") or {}).get("reason"),
        # a rollback's verdict is on the route, with its cause, before it is in a status: the cause is what stays
        "verdict": None if status.get("cause") else (status.get("verdict") or {}).get("outcome"),
        "conditions": conditions,
        "retry": bool(status.get("retry")),
    }
