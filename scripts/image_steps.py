#!/usr/bin/env python3
"""Carries out the Containerfile's steps in a folder, where there is no container engine to build the image.

It reads the Containerfile itself, so the two cannot differ: every RUN of the build stage is run by the same shell
commands, with /build and /opt/canary moved below the folder, and what .containerignore leaves out cannot be copied.
What only an engine can do is checked as text: the last stage runs nothing (its base has no shell) and is not root's.
apt-get is skipped: the Python that runs this script stands in for the distribution's.

    scripts/image_steps.py FOLDER [ARGUMENT...]     make FOLDER, then run the image's entry point with the arguments
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTRUCTION = re.compile(r"([A-Z]+)\s+(.*)", re.DOTALL)
MOVED = re.compile(r"(?<![\w./-])/(build|opt/canary)(?=[/\s'\"]|$)")


class Unbuildable(Exception):
    """The Containerfile says something that is wrong, or that this script cannot carry out."""


@dataclass(slots=True)
class Stage:
    """One FROM and what follows it, as (instruction, argument)."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        """The argument that counts. Raises Unbuildable where there is none."""
        found = [argument for which, argument in self.steps if which == instruction]
        if not found:
            raise Unbuildable(f"the stage from {self.base} has no {instruction}")
        return found[-1]


def stages(text: str) -> list[Stage]:
    """The stages of a Containerfile. Raises Unbuildable."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    found: list[Stage] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        match = INSTRUCTION.fullmatch(line)
        if match is None:
            raise Unbuildable(f"not an instruction: {line}")
        which, argument = match[1], match[2].strip()
        if which == "FROM":
            base, _, name = argument.partition(" AS ")
            found.append(Stage(base, name))
        elif found:
            found[-1].steps.append((which, argument))
        elif which != "ARG":
            raise Unbuildable(f"{which} before the first FROM")
    return found


def is_let_in(source: str, ignored: str) -> bool:
    """Whether a .containerignore that shuts everything out and names what it lets in lets `source` in."""
    return f"!{source.split('/', maxsplit=1)[0]}" in ignored.splitlines()


def build(folder: Path, containerfile: str, ignored: str) -> list[str]:
    """Make `folder`/opt/canary. Returns the image's entry point; raises Unbuildable and CalledProcessError."""
    making, running = stages(containerfile)
    where = folder / "build"
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder / "build")}
    environment |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "XDG_"))}
    environment["XDG_CACHE_HOME"] = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    for which, argument in making.steps:
        if which == "WORKDIR":
            where = Path(moved(argument, folder))
            where.mkdir(parents=True, exist_ok=True)
        elif which == "COPY":
            copy(shlex.split(argument), where, ignored)
        elif which == "RUN" and not argument.startswith("apt-get "):
            print(f"RUN {' '.join(argument.split())}", flush=True)
            subprocess.run(["/bin/sh", "-ec", moved(argument, folder)], check=True, cwd=where, env=environment)
        elif which != "RUN":
            raise Unbuildable(f"{which} is not known in the build stage")
    check(running, making.name)
    shutil.rmtree(folder / "build")  # the image has nothing of it
    return [moved(word, folder) for word in json.loads(running.last("ENTRYPOINT"))]


def copy(words: list[str], where: Path, ignored: str) -> None:
    """COPY of the build stage: from the repository into the working directory, as an engine would."""
    *sources, target = words
    for source in sources:
        if not is_let_in(source, ignored):
            raise Unbuildable(f".containerignore does not let {source} in")
        path = ROOT / source
        if path.is_dir():
            shutil.copytree(path, where / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, where / target)


def check(running: Stage, made: str) -> None:
    """Of the last stage: what an engine would carry out, or refuse."""
    if any(which == "RUN" for which, _ in running.steps):
        raise Unbuildable("the last stage has a RUN, and its base has no shell to run it")
    copied = [argument for which, argument in running.steps if which == "COPY"]
    if copied != [f"--from={made} /opt/canary /opt/canary"]:
        raise Unbuildable(f"the last stage copies more than /opt/canary: {copied}")
    if running.last("USER").split(":")[0] in ("0", "root"):
        raise Unbuildable("the last stage runs as root")


def moved(text: str, folder: Path) -> str:
    """`text` with the image's own paths below `folder`."""
    return MOVED.sub(lambda match: f"{folder}/{match[1]}", text)


def main() -> int:
    """The command line. Returns the exit code."""
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1]).resolve()
    try:
        entry = build(folder, (ROOT / "Containerfile").read_text(), (ROOT / ".containerignore").read_text())
    except Unbuildable as error:
        print(f"Containerfile: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"Containerfile: RUN ended with {error.returncode}", file=sys.stderr)
        return 1
    print(f"ENTRYPOINT {' '.join(entry)}", flush=True)
    return subprocess.run([*entry, *sys.argv[2:]], check=False).returncode if sys.argv[2:] else 0


if __name__ == "__main__":
    sys.exit(main())
