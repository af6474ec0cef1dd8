"""Where the API server is and who we are to it: kubeconfig, exec and OIDC plugins, or the pod's own account.

All of it is the official client's work; a credential is never parsed here. This module never sends a request.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from canary.errors import InputError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, Configuration

POOL_SIZE = 32
"""Connections kept per client: reflectors hold one each, workers one each."""

DEFAULT_KUBECONFIG = "~/.kube/config"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def in_pod() -> bool:
    """True where a ServiceAccount's token is mounted and the API server's address is in the environment."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (SERVICE_ACCOUNT / "token").is_file()


def api_client(kubeconfig: str | None = None, context: str | None = None) -> ApiClient:
    """The official client for a cluster, with TCP keep-alive on.

    Without a kubeconfig, a context or $KUBECONFIG: the pod's own account inside a cluster, else ~/.kube/config.
    Raises InputError when the kubeconfig is missing or broken, or has no such context.
    """
    from kubernetes.client import ApiClient, Configuration
    from kubernetes.config import load_kube_config

    configuration = Configuration()
    source = _kubeconfig(kubeconfig, context)
    with _readable(source, context):
        if source is None:
            _load_pods_account(configuration)
        else:
            load_kube_config(source, context=context, client_configuration=configuration)  # type: ignore[no-untyped-call]
    configuration.connection_pool_maxsize = POOL_SIZE
    configuration.keep_alive = True
    return ApiClient(configuration)


def default_namespace(kubeconfig: str | None = None, context: str | None = None) -> str:
    """The namespace a command means without `-n`: the context's, or the pod's own; `default` where none is said."""
    source = _kubeconfig(kubeconfig, context)
    if source is None:
        try:
            return (SERVICE_ACCOUNT / "namespace").read_text().strip() or "default"
        except OSError:
            return "default"
    from kubernetes.config import list_kube_config_contexts

    with _readable(source, context):
        contexts, current = list_kube_config_contexts(source)  # type: ignore[no-untyped-call]
    chosen = next((entry for entry in contexts if entry["name"] == context), None) if context else current
    return str(((chosen or {}).get("context") or {}).get("namespace") or "default")


def _load_pods_account(configuration: Configuration) -> None:
    """The pod's own account. Its token is read anew for each request: the kubelet exchanges the file before it expires.

    The official loader remembers a token for a minute of the wall clock's local time, which may be set back; reading a
    file of a kilobyte in memory costs some microseconds.
    """
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.incluster_config import InClusterConfigLoader

    token_file = SERVICE_ACCOUNT / "token"
    loader = InClusterConfigLoader(  # type: ignore[no-untyped-call]
        token_filename=str(token_file), cert_filename=str(SERVICE_ACCOUNT / "ca.crt"), try_refresh_token=False
    )
    loader.load_and_set(configuration)  # type: ignore[no-untyped-call]

    def read_token(current: Configuration) -> None:
        token = token_file.read_text(encoding="ascii").strip()
        if not token:
            raise ConfigException(f"{token_file} is empty")
        current.api_key["BearerToken"] = f"Bearer {token}"

    configuration.refresh_api_key_hook = read_token  # type: ignore[assignment]
    read_token(configuration)


@contextmanager
def _readable(source: str | None, context: str | None) -> Iterator[None]:
    """One InputError for everything the official loader says about a kubeconfig it cannot use."""
    from kubernetes.config.config_exception import ConfigException
    from yaml import YAMLError

    try:
        yield
    except ConfigException as error:
        raise InputError(_broken(source, context, str(error))) from error
    except (YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        # these come out where the YAML has not the shape of a kubeconfig
        raise InputError(_broken(source, context, f"{type(error).__name__}: {error}")) from error


def _kubeconfig(kubeconfig: str | None, context: str | None) -> str | None:
    """The kubeconfig path (or path list) that is meant, None for the pod's own account."""
    named = kubeconfig or os.environ.get("KUBECONFIG")
    if named:
        return named
    if context is None and in_pod():
        return None
    return DEFAULT_KUBECONFIG


def _broken(source: str | None, context: str | None, cause: str) -> str:
    if source is None:
        return f"the pod's ServiceAccount cannot be used: {cause}"
    if not any(Path(part).expanduser().is_file() for part in source.split(os.pathsep) if part):
        return f"kubeconfig {source} does not exist: pass --kubeconfig, or set KUBECONFIG"
    wanted = f" with context {context!r}" if context else ""
    return f"kubeconfig {source}{wanted} cannot be used: {' '.join(cause.split())}"
