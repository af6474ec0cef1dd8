"""Finds the programs of a real Kubernetes: those that KUBEBUILDER_ASSETS names, else those that `make envtest` built.

KUBEBUILDER_ASSETS is the convention of Kubernetes' own test tools: a folder with `etcd`, `kube-apiserver`, `kubectl`.
Nothing is built, fetched or started here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from canary.errors import SandboxError

VARIABLE = "KUBEBUILDER_ASSETS"
ETCD, APISERVER, CONTROLLERS, KUBECTL, HELM = "etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "helm"
ISTIO_CRDS, GATEWAY_CRDS = "istio-crds.yaml", "gateway-crds.yaml"
HOW = f"run `make envtest`, or set {VARIABLE} to a folder with etcd, kube-apiserver and kubectl"
MODULES = Path(__file__).resolve().parents[3] / "tests" / "envtest"
"""In a checkout: the Go modules that `make envtest` builds from."""


@dataclass(frozen=True, slots=True)
class Assets:
    """The programs and the custom resource definitions that are there; each is looked up when it is asked for.

    A property raises SandboxError, naming what is missing and how to get it.
    """

    folders: tuple[Path, ...]
    """Where to look, first one first; PATH comes after them for what is not the API server itself."""

    @property
    def kube_apiserver(self) -> Path:
        return self._program(APISERVER, on_path=False)

    @property
    def etcd(self) -> Path:
        return self._program(ETCD)

    @property
    def controller_manager(self) -> Path:
        return self._program(CONTROLLERS, on_path=False)

    @property
    def kubectl(self) -> Path:
        return self._program(KUBECTL)

    @property
    def helm(self) -> Path:
        return self._program(HELM)

    @property
    def istio_crds(self) -> Path:
        """Every CustomResourceDefinition of Istio, as one YAML stream."""
        return self._file(ISTIO_CRDS)

    @property
    def gateway_crds(self) -> Path:
        """The CustomResourceDefinitions of Gateway API's standard channel, as one YAML stream."""
        return self._file(GATEWAY_CRDS)

    def _program(self, name: str, *, on_path: bool = True) -> Path:
        for folder in self.folders:
            if os.access(folder / name, os.X_OK) and (folder / name).is_file():
                return folder / name
        found = shutil.which(name) if on_path else None
        if found:
            return Path(found)
        raise SandboxError(f"no {name} in {self._where()}: {HOW}")

    def _file(self, name: str) -> Path:
        for folder in self.folders:
            if (folder / name).is_file():
                return folder / name
        raise SandboxError(f"no {name} in {self._where()}: run `make envtest`, which puts it there")

    def _where(self) -> str:
        return " or ".join(str(folder) for folder in self.folders)


def find_assets() -> Assets:
    """What there is of a real Kubernetes: at least etcd, kube-apiserver and kubectl.

    Raises SandboxError saying how to get them.
    """
    named = os.environ.get(VARIABLE)
    folders = [Path(named).absolute()] if named else []
    built = cache_folder()
    if built is not None:
        folders.append(built)
    if named and not (folders[0] / APISERVER).is_file():
        raise SandboxError(f"{VARIABLE} names {folders[0]}, but there is no {APISERVER} in it")
    if not folders:
        raise SandboxError(f"no real Kubernetes on this machine: {HOW}")
    assets = Assets(tuple(folders))
    try:
        _ = assets.kube_apiserver, assets.etcd, assets.kubectl
    except SandboxError as error:
        raise SandboxError(f"no real Kubernetes on this machine: {error}") from error
    return assets


def cache_folder(modules: Path = MODULES) -> Path | None:
    """Where `make envtest` puts what it builds from `modules`; None where those are not (an installed canary).

    The name ends with a hash of what is built, so that a newer checkout builds anew and an older one finds its own.
    """
    files = sorted(modules.glob("*/go.*"))
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(modules)}\n".encode() + file.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "canary" / "envtest" / digest.hexdigest()[:12]
