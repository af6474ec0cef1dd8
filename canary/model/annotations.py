"""The annotations a team puts on its Deployment, and the ones the controller puts on mesh objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from canary.errors import FindingError
from canary.model.policy import DNS_LABEL, PRINTABLE
from canary.model.rollout import CORRELATION_ID
from canary.model.text import plain

PREFIX = "canary.delivery/"
POLICY = PREFIX + "policy"
SERVICE = PREFIX + "service"
VIRTUAL_SERVICE = PREFIX + "virtual-service"
ROUTE = PREFIX + "route"
RELEASE_ID = PREFIX + "release-id"
ADDED = PREFIX + "added"
ROLLBACK = PREFIX + "rollback"
FLOOR = PREFIX + "floor"
"""A label, of a Namespace: the policy that its rollouts must not fall below."""

KNOWN = (POLICY, SERVICE, VIRTUAL_SERVICE, ROUTE, RELEASE_ID)

_LABEL = re.compile(DNS_LABEL)
_TEXT = re.compile(PRINTABLE)
_RELEASE_ID = re.compile(CORRELATION_ID)


@dataclass(frozen=True, slots=True)
class OptIn:
    """What a Deployment asks for. Empty strings mean: find it."""

    policy: str
    service: str = ""
    virtual_service: str = ""
    route: str = ""
    release_id: str = ""


def opt_in(annotations: Mapping[str, str] | None) -> OptIn | None:
    """What the annotations ask for, None when they do not opt in.

    Raises FindingError (reason `BadAnnotation`) naming the annotation and what would be right: an unknown
    `canary.delivery/` key, a name that is not a plain DNS label, a value with control characters.
    """
    ours = {key: value for key, value in (annotations or {}).items() if key.startswith(PREFIX)}
    if POLICY not in ours:
        return None
    for key in ours:
        if key not in KNOWN:
            raise FindingError(
                "BadAnnotation", f"annotation {_shown(key)} is not one of {', '.join(KNOWN)}", candidates=KNOWN
            )
    for key in (POLICY, SERVICE, VIRTUAL_SERVICE):
        value = ours.get(key)
        if value is not None and not (len(value) <= 63 and _LABEL.fullmatch(value)):
            raise FindingError(
                "BadAnnotation",
                f"annotation {key} must be a plain name like payment (lower-case letters, digits, dashes; "
                f"never another namespace), not {_shown(value)}",
            )
    if not (len(ours.get(ROUTE, "")) <= 253 and _TEXT.fullmatch(ours.get(ROUTE, ""))):
        raise FindingError("BadAnnotation", f"annotation {ROUTE} must be the name of an http route, printable")
    if not (len(ours.get(RELEASE_ID, "")) <= 128 and _RELEASE_ID.fullmatch(ours.get(RELEASE_ID, ""))):
        raise FindingError(
            "BadAnnotation", f"annotation {RELEASE_ID} may have letters, digits and ._:/@+=- only, at most 128"
        )
    return OptIn(
        policy=ours[POLICY],
        service=ours.get(SERVICE, ""),
        virtual_service=ours.get(VIRTUAL_SERVICE, ""),
        route=ours.get(ROUTE, ""),
        release_id=ours.get(RELEASE_ID, ""),
    )


def _shown(value: str) -> str:
    return f'"{plain(value, 80)}"'
