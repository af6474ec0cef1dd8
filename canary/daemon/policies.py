"""Policies: read from a folder, and frozen for a rollout as an immutable ConfigMap of ours.

A broken file is reported and never replaces a good one. What a rollout runs by is the frozen copy in the controller's
own namespace, never the one shown in a status that a tenant may have written.
"""

from __future__ import annotations

import threading
from pathlib import Path

import structlog
from pydantic import ValidationError

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CONFIGMAP
from canary.errors import Conflict, NotFound, PolicyError
from canary.model.policy import Policy
from canary.model.policy_yaml import check_policy

log = structlog.get_logger(__name__)

_Signature = dict[Path, tuple[int, int, int]]


class PolicyFolder:
    """The policies of a folder, by name; `*.yaml` and `*.yml`, hidden ones left out. Safe for several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._by_file: dict[Path, Policy] = {}
        self._signature: _Signature | None = None
        self.errors: tuple[PolicyError, ...] = ()
        """What is wrong with the folder's files now."""

    def reload(self) -> bool:
        """Read what changed; true when anything did. Raises PolicyError when the folder itself cannot be read."""
        signature = self._look()
        if signature == self._signature:
            return False
        good: dict[Path, Policy] = {}
        errors: list[PolicyError] = []
        for path in signature:
            result = self._read(path)
            if isinstance(result, Policy):
                good[path] = result
            else:
                errors += result
                if path in self._by_file:
                    good[path] = self._by_file[path]  # the last good version stays in force
        errors += _twins(good)
        for error in errors:
            log.error("policy file is broken", error=str(error))
        with self._lock:
            self._by_file, self._signature, self.errors = good, signature, tuple(errors)
        log.info("policies loaded", names=self.names)
        return True

    def get(self, name: str) -> Policy | None:
        with self._lock:
            return next((policy for policy in self._by_file.values() if policy.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted({policy.name for policy in self._by_file.values()}))

    def _look(self) -> _Signature:
        try:
            paths = sorted(path for path in self._folder.iterdir() if path.suffix in (".yaml", ".yml"))
        except OSError as error:
            raise PolicyError(f"the folder cannot be read: {error.strerror}", source=str(self._folder)) from error
        signature: _Signature = {}
        for path in paths:
            if path.name.startswith("."):
                continue
            try:
                stat = path.stat()
            except OSError:
                continue  # a ConfigMap's links are being exchanged: the next look sees the new ones
            signature[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return signature

    def _read(self, path: Path) -> Policy | list[PolicyError]:
        try:
            return check_policy(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            return [PolicyError(f"cannot be read: {error}", source=str(path))]


def _twins(by_file: dict[Path, Policy]) -> list[PolicyError]:
    first: dict[str, Path] = {}
    errors = []
    for path, policy in by_file.items():
        if policy.name in first:
            where = first[policy.name].name
            errors.append(
                PolicyError(f'"{policy.name}" is also in {where}, which wins', source=str(path), field="name")
            )
        first.setdefault(policy.name, path)
    return errors


class FrozenPolicies:
    """Immutable ConfigMaps `canary-policy-<digest>` in the controller's namespace, read once each."""

    def __init__(self, gateway: Gateway, namespace: str) -> None:
        self._gateway = gateway
        self._namespace = namespace
        self._known: dict[str, Policy] = {}

    def freeze(self, policy: Policy) -> None:
        """Make the copy; one that is there already is the same, its name is its digest."""
        if policy.digest in self._known:
            return
        document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": _name(policy.digest),
                "namespace": self._namespace,
                "labels": {"app.kubernetes.io/managed-by": "canary"},
            },
            "immutable": True,
            "data": {"policy.json": policy.canonical_json},
        }
        try:
            self._gateway.create(CONFIGMAP, self._namespace, document)
        except Conflict:
            if self.get(policy.digest) is None:
                raise
        self._known[policy.digest] = policy

    def forgery(self, policy: Policy) -> str:
        """The ConfigMap that has this policy's name and is something else; "" when there is none."""
        if policy.digest in self._known:
            return ""
        try:
            self._gateway.get(CONFIGMAP, self._namespace, _name(policy.digest))
        except NotFound:
            return ""
        return "" if self.get(policy.digest) else f"{self._namespace}/{_name(policy.digest)}"

    def get(self, digest: str) -> Policy | None:
        """The copy with this digest; None when it is gone or is not what its name says."""
        if digest in self._known:
            return self._known[digest]
        try:
            document = self._gateway.get(CONFIGMAP, self._namespace, _name(digest))
            policy = Policy.model_validate_json((document.get("data") or {})["policy.json"])
        except (NotFound, KeyError):
            return None
        except ValidationError as error:
            log.error("a frozen policy cannot be read", digest=digest, error=str(error))
            return None
        if policy.digest != digest:
            log.error("a frozen policy is not what its name says", digest=digest, found=policy.digest)
            return None
        self._known[digest] = policy
        return policy


def _name(digest: str) -> str:
    return f"canary-policy-{digest}"
