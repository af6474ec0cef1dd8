"""Finds the programs of a real Kubernetes: those that KUBEBUILDER_ASSETS names, else those that `make envtest` built.

KUBEBUILDER_ASSETS is the convention of Kubernetes' own test tools: a folder with `etcd`, `kube-apiserver`, `kubectl`.
Nothing is built, fetched or started here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sysconfig
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

    kubernetes: Path
    """The folder of kube-apiserver. What must be of its version is never taken from elsewhere."""
    more: tuple[Path, ...] = ()
    """Where to look for anything else that is not there, before PATH."""

    @property
    def kube_apiserver(self) -> Path:
        return self._program(APISERVER, (self.kubernetes,))

    @property
    def controller_manager(self) -> Path:
        return self._program(CONTROLLERS, (self.kubernetes,))

    @property
    def kubectl(self) -> Path:
        return self._program(KUBECTL, (self.kubernetes,))

    @property
    def etcd(self) -> Path:
        return self._program(ETCD, self._folders, on_path=True)

    @property
    def helm(self) -> Path:
        return self._program(HELM, self._folders, on_path=True)

    @property
    def istio_crds(self) -> Path:
        """Every CustomResourceDefinition of Istio, as one YAML stream."""
        return self._file(ISTIO_CRDS)

    @property
    def gateway_crds(self) -> Path:
        """The CustomResourceDefinitions of Gateway API's standard channel, as one YAML stream."""
        return self._file(GATEWAY_CRDS)

    @property
    def _folders(self) -> tuple[Path, ...]:
        return (self.kubernetes, *self.more)

    def _program(self, name: str, folders: tuple[Path, ...], *, on_path: bool = False) -> Path:
        for folder in folders:
            if (folder / name).is_file() and os.access(folder / name, os.X_OK):
                return folder / name
        found = shutil.which(name) if on_path else None
        if found:
            return Path(found)
        raise SandboxError(f"no {name} in {_either(folders)}: run `make envtest`, or put one there")

    def _file(self, name: str) -> Path:
        for folder in self._folders:
            if (folder / name).is_file():
                return folder / name
        raise SandboxError(f"no {name} in {_either(self._folders)}: run `make envtest`, which makes it")


def _either(folders: tuple[Path, ...]) -> str:
    return " or ".join(str(folder) for folder in folders)


def find_assets() -> Assets:
    """The real Kubernetes of this machine: at least its kube-apiserver, etcd and kubectl.

    Raises SandboxError saying what is missing and how to get it.
    """
    named, built = os.environ.get(VARIABLE), cache_folder()
    if named:
        folder = Path(named).absolute()
        if not (folder / APISERVER).is_file():
            raise SandboxError(f"{VARIABLE} names {folder}, but there is no {APISERVER} in it")
        assets = Assets(folder, (built,) if built else ())
    elif built is not None and (built / APISERVER).is_file():
        assets = Assets(built)
    else:
        raise SandboxError(f"no real Kubernetes on this machine: {HOW}")
    _ = assets.kube_apiserver, assets.etcd, assets.kubectl
    return assets


def cache_folder(modules: Path = MODULES) -> Path | None:
    """Where `make envtest` puts what it builds from `modules`; None where those are not (an installed canary).

    Its name is a hash of what is built and for which system, so that each checkout finds its own.
    """
    files = sorted(modules.glob("*/go.*"))
    if not files:
        return None
    digest = hashlib.sha256(sysconfig.get_platform().encode())
    for file in files:
        digest.update(f"{file.relative_to(modules)}\n".encode() + file.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "canary" / "envtest" / digest.hexdigest()[:12]
