"""Where a real Kubernetes is found, and what is said when it is not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from canary.errors import SandboxError
from canary.sandbox.realapi.assets import cache_folder, find_assets

SCRIPT = Path(__file__).parents[2] / "scripts" / "envtest"
KUBERNETES = ("kube-apiserver", "kubectl", "kube-controller-manager")


def programs(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("#!/bin/sh\necho Kubernetes v1.0.0\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of `make envtest`, not there yet; no KUBEBUILDER_ASSETS, and nothing on PATH."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    folder = cache_folder()
    assert folder is not None
    assert folder.is_relative_to(tmp_path / "cache" / "canary" / "envtest")
    return folder


def test_without_one_the_way_to_get_it_is_named(cache: Path) -> None:
    with pytest.raises(SandboxError, match=r"make envtest.*KUBEBUILDER_ASSETS"):
        find_assets()


def test_what_make_envtest_built_is_found(cache: Path) -> None:
    programs(cache, *KUBERNETES, "etcd", "helm")
    (cache / "istio-crds.yaml").touch()
    found = find_assets()
    assert (found.kube_apiserver, found.etcd, found.helm) == tuple(
        cache / name for name in ("kube-apiserver", "etcd", "helm")
    )
    assert found.istio_crds == cache / "istio-crds.yaml"
    with pytest.raises(SandboxError, match=r"no gateway-crds\.yaml in .*make envtest"):
        _ = found.gateway_crds


def test_a_named_folder_comes_first_and_its_version_is_not_mixed_with_another(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(cache, *KUBERNETES, "etcd", "helm")
    named = programs(tmp_path / "named", "kube-apiserver", "kubectl", "etcd")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(named))
    found = find_assets()
    assert (found.kube_apiserver, found.etcd, found.helm) == (named / "kube-apiserver", named / "etcd", cache / "helm")
    with pytest.raises(SandboxError, match=r"no kube-controller-manager in .*named"):
        _ = found.controller_manager


def test_etcd_and_helm_may_be_installed(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path / "path", "etcd", "helm")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(programs(tmp_path / "named", "kube-apiserver", "kubectl")))
    assert find_assets().etcd == tmp_path / "path" / "etcd"
    assert find_assets().helm == tmp_path / "path" / "helm"


def test_a_named_folder_without_an_api_server_is_an_error_even_where_one_was_built(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(cache, *KUBERNETES, "etcd")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(SandboxError, match="no kube-apiserver in it"):
        find_assets()


def test_another_version_of_a_module_is_another_folder(tmp_path: Path) -> None:
    (tmp_path / "kubernetes").mkdir()
    assert cache_folder(tmp_path) is None
    module = tmp_path / "kubernetes" / "go.mod"
    module.write_text("require k8s.io/kubernetes v1.36.3")
    first = cache_folder(tmp_path)
    module.write_text("require k8s.io/kubernetes v1.36.4")
    assert first != cache_folder(tmp_path)


GO = """\
#!/bin/sh
# stands for Go: lists a version or a folder, and "builds" what says a version
while [ $# -gt 0 ]; do
  case $1 in
    -o) printf '#!/bin/sh\\necho Kubernetes v9.9.9\\n' >"$2"; chmod +x "$2"; shift ;;
    list) wants=$4 ;;
    k8s.io/kubernetes/cmd/"$FAILS") echo "cannot compile" >&2; exit 1 ;;
  esac
  shift
done
case ${wants:-} in
  *Version*) echo v9.9.9 ;;
  *Dir*) echo "$MODULE" ;;
esac
"""


@pytest.fixture
def envtest(tmp_path: Path, cache: Path) -> tuple[Path, dict[str, str]]:
    """A folder for PATH that has all but Go, and the environment to run the script in."""
    path = tmp_path / "path"
    path.mkdir()
    for tool in (
        "bash",
        "dirname",
        "mkdir",
        "mktemp",
        "rm",
        "mv",
        "cat",
        "date",
        "cut",
        "chmod",
        "find",
        "touch",
        "sh",
    ):
        found = next(Path(folder, tool) for folder in ("/usr/bin", "/bin") if Path(folder, tool).exists())
        (path / tool).symlink_to(found)
    for folder in ("kubernetes", "config/crd/standard"):
        (tmp_path / "module" / folder).mkdir(parents=True)
        (tmp_path / "module" / folder / "customresourcedefinitions.gen.yaml").write_text("kind: Thing\n")
    return path, {**os.environ, "MODULE": str(tmp_path / "module"), "FAILS": "nothing"}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_without_go_the_script_fails_and_within_make_test_it_says_what_is_skipped(
    envtest: tuple[Path, dict[str, str]], cache: Path
) -> None:
    _, environment = envtest
    done = run(environment)
    assert done.returncode == 1
    assert "NO REAL KUBERNETES: install Go" in done.stderr
    assert "every test on a real API server will be skipped" in done.stderr
    assert run(environment, "--if-possible").returncode == 0
    assert not cache.exists()


def test_the_script_builds_once_and_then_finds_all_there(envtest: tuple[Path, dict[str, str]], cache: Path) -> None:
    path, environment = envtest
    (path / "go").write_text(GO)
    (path / "go").chmod(0o755)
    done = run(environment)
    assert done.returncode == 0, done.stderr
    assert "building kube-apiserver v9.9.9" in done.stderr
    assert find_assets().gateway_crds.read_text() == find_assets().istio_crds.read_text() == "---\nkind: Thing\n"
    assert [file.name for file in cache.parent.iterdir()] == [cache.name]
    again = run(environment)
    assert again.stderr == f"envtest: real Kubernetes: Kubernetes v9.9.9 in {cache}\n"


def test_a_build_that_fails_leaves_nothing_that_would_be_found(
    envtest: tuple[Path, dict[str, str]], cache: Path
) -> None:
    path, environment = envtest
    (path / "go").write_text(GO)
    (path / "go").chmod(0o755)
    done = run({**environment, "FAILS": "kube-controller-manager"})
    assert done.returncode == 1
    assert "cannot compile" in done.stderr
    assert "NO REAL KUBERNETES" in done.stderr
    with pytest.raises(SandboxError, match="make envtest"):
        find_assets()
    assert [file.name for file in cache.parent.iterdir()] == [cache.name]


def test_a_named_folder_is_taken_as_it_is(envtest: tuple[Path, dict[str, str]], cache: Path, tmp_path: Path) -> None:
    _, environment = envtest
    named = programs(tmp_path / "named", *KUBERNETES, "etcd")
    done = run({**environment, "KUBEBUILDER_ASSETS": str(named)})
    assert done.returncode == 0
    assert f"real Kubernetes: Kubernetes v1.0.0 in {named}" in done.stderr
    assert (
        "these stay missing, and tests that need them are skipped: istio-crds.yaml gateway-crds.yaml helm"
        in done.stderr
    )
    partial = programs(tmp_path / "partial", "kube-apiserver", "kubectl", "etcd")
    assert "no kube-controller-manager in" in run({**environment, "KUBEBUILDER_ASSETS": str(partial)}).stderr
    broken = run({**environment, "KUBEBUILDER_ASSETS": str(tmp_path)})
    assert broken.returncode == 1
    assert "kube-apiserver and kubectl are not both in it" in broken.stderr
