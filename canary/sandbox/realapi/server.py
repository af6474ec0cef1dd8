"""One real kube-apiserver on loopback, with its etcd, and the controllers of kube-controller-manager when asked for.

RBAC decides, service accounts have keys and an issuer, admission is Kubernetes' own. There is no kubelet and no
scheduler: a Pod becomes what its status is patched to. Nothing is flushed to disk: the cluster lives as long as its
folder, through any stop, but not through a loss of power.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from canary.errors import SandboxError
from canary.sandbox import credentials
from canary.sandbox.process import Child, free_port
from canary.sandbox.realapi import controllers
from canary.sandbox.realapi.assets import Assets, find_assets

ISSUER = "https://kubernetes.default.svc.cluster.local"
_ADMIN = "canary-admin"
_START_SECONDS = 60.0
_KUBECTL_SECONDS = 60.0
_ALLOWED_SECONDS = 30.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Options:
    """What the cluster shall be, beyond kube-apiserver's own defaults."""

    audit_policy: Path | None = None
    """An audit.k8s.io/v1 Policy; each event is then in `audit_log` before its request is answered."""
    controllers: bool | tuple[str, ...] = False
    """Run kube-controller-manager: with `controllers.NAMES`, or with these."""
    extra: tuple[str, ...] = ()
    """More of kube-apiserver's flags."""
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    disable_admission: tuple[str, ...] = ()
    """Admission plugins that are off. ServiceAccount is off by itself where no controller makes the accounts."""

    @property
    def running_controllers(self) -> tuple[str, ...]:
        """The names of the controllers that shall run."""
        if isinstance(self.controllers, tuple):
            return self.controllers
        return controllers.NAMES if self.controllers else ()


class RealApiServer:
    """A cluster in `directory`. As a context manager it starts on entry; on exit none of its processes run.

    `stop` and `start` again is an outage: the address, the tokens and the objects are the same afterwards. Its
    processes die with this one.
    """

    name = "kube-apiserver"

    def __init__(
        self,
        directory: Path,
        options: Options | None = None,
        assets: Assets | None = None,
        *,
        kubeconfig: Path | None = None,
        logs: Path | None = None,
    ) -> None:
        """Starts nothing yet. `kubeconfig` is written now; it and the `logs` are in `directory` unless told otherwise.

        Raises SandboxError when a program it needs is not there.
        """
        self.assets = assets or find_assets()
        self.options = options or Options()
        self.directory = directory.resolve()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.kubeconfig = kubeconfig or self.directory / "kubeconfig"
        self.ca_file = self.directory / "ca.crt"
        self.audit_log = self.directory / "audit.log"
        self._identity = credentials.create()
        self._write_identity()

        self._port = free_port()
        self.url = f"https://{credentials.HOST}:{self._port}"
        store = [f"http://{credentials.HOST}:{free_port()}" for _ in range(2)]
        logs = logs or self.directory
        self._store = Child("etcd", self._store_command(*store), log=logs / "etcd.log")
        self._store_health = f"{store[0]}/health"
        self._server = Child(self.name, self._server_command(store[0]), log=logs / "kube-apiserver.log")
        names = self.options.running_controllers
        self._controllers = controllers.child(self.assets, self, names, logs) if names else None
        credentials.write_kubeconfig(self.kubeconfig, self.url, self._identity.authority_pem, self._identity.token)

    def _write_identity(self) -> None:
        users = f'{self._identity.token},{_ADMIN},{_ADMIN},"system:masters"\n'.encode()
        for file, content in {
            "ca.crt": self._identity.authority_pem,
            "tls.crt": self._identity.certificate_pem,
            "tls.key": self._identity.key_pem,
            "accounts.key": credentials.signing_key(),
            "tokens.csv": users,
        }.items():
            path = self.directory / file
            path.touch(mode=0o600)
            path.write_bytes(content)

    def _store_command(self, client: str, peer: str) -> list[str | Path]:
        return [
            self.assets.etcd,
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _server_command(self, store: str) -> list[str | Path]:
        folder, options = self.directory, self.options
        flags: dict[str, Any] = {
            "etcd-servers": store,
            "bind-address": credentials.HOST,
            "advertise-address": credentials.HOST,  # where a machine has no default route it finds none by itself
            "secure-port": self._port,
            "tls-cert-file": folder / "tls.crt",
            "tls-private-key-file": folder / "tls.key",
            "cert-dir": folder,
            "service-cluster-ip-range": "10.96.0.0/16",
            "authorization-mode": "RBAC",
            "token-auth-file": folder / "tokens.csv",
            "service-account-issuer": ISSUER,
            "service-account-key-file": folder / "accounts.key",
            "service-account-signing-key-file": folder / "accounts.key",
            "endpoint-reconciler-type": "none",  # nobody reaches it but by its address
        }
        disabled = list(options.disable_admission)
        if controllers.ACCOUNTS not in options.running_controllers:
            disabled.append("ServiceAccount")  # it lets in no Pod whose account does not exist
        if disabled:
            flags["disable-admission-plugins"] = ",".join(disabled)
        if options.feature_gates:
            flags["feature-gates"] = ",".join(f"{k}={str(v).lower()}" for k, v in options.feature_gates.items())
        if options.audit_policy is not None:
            flags |= {"audit-policy-file": options.audit_policy.resolve(), "audit-log-path": self.audit_log}
        return [self.assets.kube_apiserver, *(f"--{flag}={value}" for flag, value in flags.items()), *options.extra]

    @property
    def pid(self) -> int:
        """kube-apiserver's process id; 0 before the first start."""
        return self._server.pid

    @property
    def pids(self) -> dict[str, int]:
        """The process id of each program that runs, by its name."""
        return {child.name: child.pid for child in self._children if child.is_running}

    @property
    def is_running(self) -> bool:
        """Whether all of its processes run."""
        return all(child.is_running for child in self._children)

    @property
    def _children(self) -> list[Child]:
        return [child for child in (self._store, self._server, self._controllers) if child is not None]

    def start(self) -> Self:
        """Start, and return once it answers, the namespaces it makes by itself are there, and its controllers work.

        Raises SandboxError with the end of the log of the program that failed, and then nothing runs.
        """
        try:
            if not self._store.is_running:
                self._store.start_until(self._store_health, _START_SECONDS)
            if not self._server.is_running:
                self._server.start_until(self._serves, _START_SECONDS)
            if self._controllers is not None and not self._controllers.is_running:
                self._controllers.start_until(self._has_controllers, _START_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self

    def _serves(self) -> bool:
        """Ready, by its own word, and with the namespace that it makes shortly after."""
        return self._answers("/readyz") and self._answers("/api/v1/namespaces/default")

    def _has_controllers(self) -> bool:
        """The controllers work: the first service account is there, where they make them."""
        wanted = controllers.ACCOUNTS in self.options.running_controllers
        return not wanted or self._answers("/api/v1/namespaces/default/serviceaccounts/default")

    def _answers(self, path: str) -> bool:
        context = ssl.create_default_context(cafile=self.ca_file)
        connection = http.client.HTTPSConnection(credentials.HOST, self._port, timeout=5.0, context=context)
        with contextlib.closing(connection):
            try:
                connection.request("GET", path, headers={"Authorization": f"Bearer {self._identity.token}"})
                return connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):  # nobody listens yet, or not in time
                return False

    def stop(self) -> None:
        """End its processes, whoever depends on others first. Safe at any time, also twice. The objects are kept."""
        with contextlib.ExitStack() as stack:  # all of them, even if one cannot be ended
            for child in self._children:
                stack.callback(child.stop)

    def kill(self) -> None:
        """End kube-apiserver as a crash would (SIGKILL); the rest stays. `start` starts it again."""
        self._server.kill()

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the log of a program of it that ended, else of kube-apiserver's."""
        ended = (child for child in self._children if child.pid and not child.is_running)
        return next(ended, self._server).log_tail(lines)

    def kubeconfig_for(self, token: str, path: Path) -> Path:
        """Write a kubeconfig, 0600, of whoever `token` says; `path` again."""
        credentials.write_kubeconfig(path, self.url, self._identity.authority_pem, token)
        return path

    def token(
        self, namespace: str, service_account: str, *, pod: tuple[str, str] | None = None, seconds: int = 3600
    ) -> str:
        """A service account's token from TokenRequest; bound to a pod when its (name, uid) is given.

        With such a token the server tells admission the pod's name, and refuses the token once the pod is gone.
        `seconds` is at least 600. Raises SandboxError with the server's reason.
        """
        bound = (
            ("--bound-object-kind=Pod", f"--bound-object-name={pod[0]}", f"--bound-object-uid={pod[1]}") if pod else ()
        )
        command = ("create", "token", service_account, f"--namespace={namespace}", f"--duration={seconds}s", *bound)
        return self.kubectl(*command).strip()

    def kubectl(self, *arguments: str | Path, input: str | None = None, kubeconfig: Path | None = None) -> str:  # noqa: A002
        """What kubectl prints; `input` is its standard input. Raises SandboxError with what it says on stderr."""
        command = [self.assets.kubectl, f"--kubeconfig={kubeconfig or self.kubeconfig}", *arguments]
        done = subprocess.run(
            [str(part) for part in command],
            input=input or "",
            capture_output=True,
            text=True,
            timeout=_KUBECTL_SECONDS,
            check=False,
            env={**os.environ, "KUBECACHEDIR": str(self.directory / "kubectl")},
        )
        if done.returncode:
            raise SandboxError(f"kubectl {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout

    def wait_allowed(
        self, kubeconfig: Path, verb: str, resource: str, namespace: str = "default", *, allowed: bool = True
    ) -> None:
        """Return once RBAC says yes (or no) to whoever the kubeconfig is of: a changed role takes a moment to count.

        `resource` is `plural.group` or `plural/subresource`. Raises SandboxError when it does not within half a minute.
        """
        answer = "yes" if allowed else "no"
        deadline = time.monotonic() + _ALLOWED_SECONDS
        while self._can_i(kubeconfig, verb, resource, namespace) != answer:
            if time.monotonic() >= deadline:
                raise SandboxError(f"{verb} {resource} in {namespace} is not {answer} after {_ALLOWED_SECONDS:g} s")
            time.sleep(_POLL_SECONDS)

    def _can_i(self, kubeconfig: Path, verb: str, resource: str, namespace: str) -> str:
        try:
            return self.kubectl(
                "auth", "can-i", verb, resource, f"--namespace={namespace}", kubeconfig=kubeconfig
            ).strip()
        except SandboxError:  # "no" is said with exit code 1
            return "no"

    def __enter__(self) -> Self:
        return self if self.is_running else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
