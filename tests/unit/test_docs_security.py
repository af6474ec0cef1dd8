"""docs/security.md: every attack has its row, every row its tests, and every test that is named exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = {
    int(cells[0]): cells
    for line in PAGE.splitlines()
    if re.match(r"\| \d+ \|", line) and (cells := [cell.strip() for cell in line.strip("|").split(" | ")])
}
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
NOT_BUILT = {15}


@cache
def functions_of(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_each_of_the_seventeen_attacks_has_a_row() -> None:
    assert sorted(ROWS) == list(range(1, 18))


@pytest.mark.parametrize("number", sorted(set(ROWS) - NOT_BUILT))
def test_each_attack_is_tried_by_a_test(number: int) -> None:
    attack, refuses, tests = ROWS[number][1:4]

    assert attack
    assert refuses
    assert re.search(r"`tests/[\w/]+\.py::test_\w+`", tests)


def test_every_test_that_is_named_exists() -> None:
    missing = [f"{file}::{name}" for file, name in NAMED if name not in functions_of(file)]

    assert len(NAMED) > 30
    assert missing == []


def test_every_test_that_says_what_a_tenant_cannot_do_is_on_the_page() -> None:
    files = {file for file, _ in NAMED if file.startswith("tests/real/security/")}
    attacks = {
        name
        for file in files
        for name in functions_of(file)
        if name.startswith(("test_a_tenant_", "test_with_our_token_"))
    }

    assert attacks - {name for _, name in NAMED} == set()


def test_every_admission_policy_is_on_the_page_and_every_file_of_the_page_is_there() -> None:
    folder = ROOT / "deploy" / "admission"
    shipped = {path.name for path in [*folder.glob("*.yaml"), *folder.glob("mutating/*.yaml")]}
    others = {"kustomization.yaml", "fence.yaml"}  # the fence keeps replicas apart, not tenants

    for name in shipped - others:
        assert name in PAGE, name
    for name in re.findall(r"`(?:mutating/)?([\w-]+\.yaml)`", PAGE):
        assert name in shipped, name


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:cli|cluster|daemon|engine|mesh|model|telemetry)/[\w/.]+)`", PAGE)))
)
def test_every_module_that_is_named_exists(path: str) -> None:
    assert (ROOT / "canary" / path).exists()
