"""The ConfigMap that keeps what a rollout was judged by: its name, whose it is, and the packed record in it.

Shapes only: nothing is read or written here, and the record is bytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from canary.cluster.kinds import CANARYROLLOUT, CONFIGMAP
from canary.errors import FindingError, InputError

KEY = "record.gz"
LABELS = {"app.kubernetes.io/managed-by": "canary", "canary.delivery/evidence": "record"}
LONGEST_NAME = 253
"""Characters of a ConfigMap's name."""

LARGEST_BASE64 = 1024 * 1024
"""Characters that are decoded; the API server stores no ConfigMap above a megabyte."""


def evidence_name(rollout: str) -> str:
    """The ConfigMap of a rollout. Raises FindingError (`NameTooLong`) where the API server would refuse it."""
    name = f"canary-evidence-{rollout}"
    if len(name) > LONGEST_NAME:
        raise FindingError(
            "NameTooLong",
            f"no evidence is kept for rollout {rollout}: its ConfigMap's name would have {len(name)} characters, of "
            f"{LONGEST_NAME} allowed; start releases with a shorter name",
        )
    return name


def evidence_document(namespace: str, rollout: str, uid: str, packed: bytes) -> dict[str, Any]:
    """The whole object, gone with its rollout."""
    owner = {
        "apiVersion": CANARYROLLOUT.api_version,
        "kind": CANARYROLLOUT.kind,
        "name": rollout,
        "uid": uid,
        "controller": True,
    }
    return {
        "apiVersion": CONFIGMAP.api_version,
        "kind": CONFIGMAP.kind,
        "metadata": {
            "name": evidence_name(rollout),
            "namespace": namespace,
            "labels": LABELS,
            "ownerReferences": [owner],
        },
        **evidence_data(packed),
    }


def evidence_data(packed: bytes) -> dict[str, Any]:
    """The part that changes."""
    return {"binaryData": {KEY: base64.b64encode(packed).decode()}}


def packed_in(document: Mapping[str, Any], uid: str) -> bytes:
    """The packed record in a ConfigMap of the rollout with this uid.

    Raises FindingError (`ForeignEvidence`) for somebody else's object, InputError where there is no record in it.
    """
    metadata = document.get("metadata") or {}
    name = f"{metadata.get('namespace')}/{metadata.get('name')}"
    owners = metadata.get("ownerReferences") or ()
    if not any(owner.get("kind") == CANARYROLLOUT.kind and owner.get("uid") == uid for owner in owners):
        raise FindingError(
            "ForeignEvidence",
            f"ConfigMap {name} has the name of a rollout's evidence and does not belong to it: it is left alone; "
            "delete it, and the evidence is kept there",
        )
    text = (document.get("binaryData") or {}).get(KEY)
    if not isinstance(text, str) or len(text) > LARGEST_BASE64:
        raise InputError(f"ConfigMap {name} holds no evidence record ({KEY})")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"ConfigMap {name}: its evidence record is not base64 ({error})") from error
