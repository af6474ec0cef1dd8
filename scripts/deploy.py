"""Writes what is generated below deploy/: what Helm and kustomize would otherwise need two hand-kept copies of.

Helm reads nothing outside its chart and kustomize nothing outside its folder. Links are no way out: kustomize refuses
one that leads outside, Flux leaves links out of what it fetches, and Helm warns of each at every command. So the
sources are copied, and a test says when a copy is old:

    deploy/rbac, deploy/admission, policies, deploy/crd.yaml  ->  deploy/chart/canary/files
    deploy/crd.yaml                                           ->  deploy/kustomize/crd
    the chart, rendered with its own values                   ->  deploy/kustomize/base (needs helm)
    the comments of values.yaml                               ->  the table of the chart's README.md

Run it after changing one of them: `.venv/bin/python scripts/deploy.py`. With `--check` it changes nothing, names what
is old, and ends with 1.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from canary.errors import SandboxError
from canary.sandbox.realapi.assets import find_assets

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "chart" / "canary"
NAMESPACE = "canary-system"
KUBERNETES = "1.36.0"
"""The version to render for; what is rendered into the base is the same for all of them."""

NOT_FOR_A_CLUSTER = {"demo.yaml"}
"""Policies that only make sense in the sandbox: steps of three seconds."""

SERVICE_MONITOR = "monitoring.coreos.com/v1/ServiceMonitor"
OWN = {
    "base": ("deployment", "service", "serviceaccount", "poddisruptionbudget", "networkpolicy"),
    "components/servicemonitor": ("servicemonitor",),
}
"""Which of the chart's templates go where below deploy/kustomize."""

GENERATED = "# Generated from deploy/chart/canary by scripts/deploy.py. Change the chart, not this file.\n"
OF_HELM = re.compile(r"^ +(?:helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", re.MULTILINE)
TABLE = re.compile(r"(?<=<!-- values -->\n).*?(?=<!-- end of values -->)", re.DOTALL)


def copies() -> dict[Path, str]:
    """What belongs where, of everything that is a plain copy."""
    files = CHART / "files"
    crd = (DEPLOY / "crd.yaml").read_text()
    wanted = {files / "crd.yaml": crd, DEPLOY / "kustomize" / "crd" / "crd.yaml": crd}
    for name in ("rbac", "admission"):
        for path in sorted((DEPLOY / name).rglob("*.yaml")):
            if path.name != "kustomization.yaml":
                wanted[files / path.relative_to(DEPLOY)] = path.read_text()
    for path in sorted((ROOT / "policies").glob("*.yaml")):
        if path.name not in NOT_FOR_A_CLUSTER:
            wanted[files / "policies" / path.name] = path.read_text()
    return wanted


def base(helm: str) -> dict[Path, str]:
    """The chart's own objects for kustomize. Raises CalledProcessError when the chart cannot be rendered."""
    command = [helm, "template", "canary", str(CHART), "--namespace", NAMESPACE, "--kube-version", KUBERNETES]
    command += ["--api-versions", SERVICE_MONITOR]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    folders = {name: DEPLOY / "kustomize" / folder for folder, names in OWN.items() for name in names}
    wanted = {}
    for document in rendered.split("---\n# Source: canary/templates/")[1:]:
        name, text = document.split("\n", 1)
        if folder := folders.get(name.removesuffix(".yaml")):
            wanted[folder / name] = GENERATED + OF_HELM.sub("", text).strip() + "\n"
    return wanted


def values(text: str) -> Iterator[tuple[str, str, str]]:
    """(dotted name, default, what it says) of each value of a values.yaml that has a comment `# --`."""
    parents: list[tuple[int, str]] = []
    said = ""
    for line in text.splitlines():
        if comment := re.match(r" *# -- (.*)", line):
            said = comment[1]
        elif key := re.match(r"( *)([A-Za-z0-9]+):(.*)", line):
            depth = len(key[1])
            parents = [(other, name) for other, name in parents if other < depth]
            parents.append((depth, key[2]))
            if said:
                yield ".".join(name for _, name in parents), key[3].strip(), said
                said = ""


def readme() -> dict[Path, str]:
    """The chart's README with today's table."""
    rows = [
        f"| `{name}` | {f'`{default}`' if default else 'see values.yaml'} | {said.replace('|', chr(92) + '|')} |\n"
        for name, default, said in values((CHART / "values.yaml").read_text())
    ]
    table = "".join(["| value | default | what it is |\n", "| --- | --- | --- |\n", *rows])
    path = CHART / "README.md"
    return {path: TABLE.sub(lambda _: table, path.read_text())}


def find_helm() -> str | None:
    """Where helm is: beside the real Kubernetes of the tests, else on PATH."""
    try:
        return str(find_assets().helm)
    except SandboxError:
        return shutil.which("helm")


def surplus(wanted: dict[Path, str]) -> list[Path]:
    """Copies whose source is gone."""
    return [path for path in (CHART / "files").rglob("*.yaml") if path not in wanted]


def main() -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Write what is generated below deploy/.")
    parser.add_argument("--check", action="store_true", help="change nothing; name what is old and end with 1")
    parser.add_argument("--without-helm", action="store_true", help="leave deploy/kustomize/base out")
    asked = parser.parse_args()

    wanted = copies() | readme()
    gone = surplus(wanted)
    old = [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    if not asked.check:
        for path in old:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
        for path in gone:
            path.unlink()
    if not asked.without_helm:
        helm = find_helm()
        if helm is None:
            print(
                "scripts/deploy.py: no helm found, deploy/kustomize/base is left as it is: run `make envtest`, or say "
                "--without-helm",
                file=sys.stderr,
            )
            return 1
        rendered = base(helm)
        late = [path for path, text in rendered.items() if not path.is_file() or path.read_text() != text]
        if not asked.check:
            for path in late:
                path.write_text(rendered[path])
        old += late
    for path in sorted(old + gone):
        print(f"{'old' if asked.check else 'written'}: {path.relative_to(ROOT)}")
    if asked.check and (old or gone):
        print("run scripts/deploy.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
