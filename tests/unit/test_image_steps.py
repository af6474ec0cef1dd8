"""What the Containerfile may say, and that a mistake in it is seen without a container engine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.image_steps import Unbuildable, build, check, is_let_in, moved, stages

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "Containerfile").read_text()
IGNORED = (ROOT / ".containerignore").read_text()


def test_the_containerfile_has_a_stage_that_builds_and_one_that_runs() -> None:
    building, running = stages(CONTAINERFILE)
    assert (building.name, running.base) == ("build", "${RUNTIME}")
    check(running, building.name)
    assert running.last("USER") == "65532:65532"


def test_builder_and_runtime_are_the_same_debian_release() -> None:
    """So that both have the same Python: the virtual environment of the one is used by the other."""
    builder, runtime = re.findall(r"^ARG (?:BUILDER|RUNTIME)=(.*)$", CONTAINERFILE, re.MULTILINE)
    assert re.findall(r"debian:?(\d+)", builder) == re.findall(r"debian:?(\d+)", runtime)


def test_every_package_is_pinned_and_none_runs_code_to_be_installed() -> None:
    runs = [argument for which, argument in stages(CONTAINERFILE)[0].steps if which == "RUN"]
    installs = [one for run in runs for one in run.split("&&") if re.search(r"pip\b.* install", one)]
    assert len(installs) == 3
    for one in installs:
        from_the_lock = "--require-hashes" in one and "--only-binary :all:" in one
        assert from_the_lock or "--no-index" in one, one


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("USER 65532:65532", "USER 0", "runs as root"),
        ("USER 65532:65532", "", "has no USER"),
        ("EXPOSE 8080", "RUN echo", "has no shell"),
        ("COPY --from=build /opt/canary /opt/canary", "COPY --from=build / /", "copies more"),
    ],
)
def test_a_last_stage_that_is_not_safe_is_refused(before: str, after: str, said: str) -> None:
    building, running = stages(CONTAINERFILE.replace(before, after))
    with pytest.raises(Unbuildable, match=said):
        check(running, building.name)


def test_what_the_containerignore_leaves_out_cannot_be_copied(tmp_path: Path) -> None:
    assert is_let_in("canary", IGNORED)
    assert not is_let_in("tests", IGNORED)
    short = 'FROM a AS build\nWORKDIR /build\nCOPY tests tests\nFROM b\nENTRYPOINT ["/opt/canary/bin/canary"]\n'
    with pytest.raises(Unbuildable, match="does not let tests in"):
        build(tmp_path, short, IGNORED)


def test_what_is_no_instruction_is_said() -> None:
    with pytest.raises(Unbuildable, match="not an instruction: install it"):
        stages("FROM a\ninstall it\n")


def test_only_the_image_s_own_paths_are_moved() -> None:
    text = "python3 -m venv /opt/canary && /build/tools/bin/pip --python /opt/canary/bin/python ./build /usr/build"
    assert moved(text, Path("/x")) == (
        "python3 -m venv /x/opt/canary && /x/build/tools/bin/pip --python /x/opt/canary/bin/python ./build /usr/build"
    )


def test_docker_reads_the_same_list_as_podman() -> None:
    assert (ROOT / ".dockerignore").read_text() == IGNORED
