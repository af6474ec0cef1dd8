"""`canary policy`: works on files alone, tells every mistake, and its exit code is for pipelines."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner, Result

from canary.cli.app import app
from canary.model.policy_yaml import parse_policy
from canary.shipped import shipped

GOOD = "name: good\nstrategy: {weights: [50, 100]}\n"


def canary(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["policy", *arguments], env=environment)


def test_the_shipped_policies_are_without_mistakes() -> None:
    result = canary("lint")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "6 files checked, nothing wrong" in result.stderr


def test_lint_tells_every_mistake_of_every_file_with_file_line_and_field(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nstrategy:\n  weights: [10]\n  hold: long\n")
    (tmp_path / "b.yml").write_text("name: b\nstrategy: {weights: [100]}\nonDrift: panic\n")
    (tmp_path / "notes.txt").write_text("not a policy")
    (tmp_path / "c.yaml").write_text(GOOD)

    result = canary("lint", str(tmp_path))

    assert result.exit_code == 1
    assert [line.split(": ")[:2] for line in result.stdout.splitlines()] == [
        [f"{tmp_path}/a.yaml:3", "strategy.weights"],
        [f"{tmp_path}/a.yaml:4", "strategy.hold"],
        [f"{tmp_path}/b.yml:3", "onDrift"],
    ]
    assert "3 mistakes in 3 files" in result.stderr


def test_lint_as_json_is_a_list_of_mistakes(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nstrategy: {weights: [10]}\n")

    result = canary("lint", str(tmp_path), "-o", "json")

    assert result.exit_code == 1
    assert json.loads(result.stdout) == [
        {
            "source": f"{tmp_path}/a.yaml",
            "line": 2,
            "field": "strategy.weights",
            "message": "must rise strictly and end with 100, not [10]",
        }
    ]


def test_two_files_with_one_name_are_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)

    result = canary("lint", str(tmp_path))

    assert result.exit_code == 1
    assert f"{tmp_path}/b.yaml: name: good is also the name of the policy in {tmp_path}/a.yaml" in result.stdout


@pytest.mark.parametrize("content", [None, b"name: \xff\xfe\n"])
def test_a_file_that_cannot_be_read_is_a_mistake_and_no_traceback(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "a.yaml"
    if content is not None:
        file.write_bytes(content)

    result = canary("lint", str(file))

    assert result.exit_code == 1
    assert result.stdout.startswith(f"{file}: ")


def test_a_hostile_file_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text('name: "\\e[31mred"\nstrategy: {weights: [100], "\\e]0;x\\a": 1}\n')

    result = canary("lint", str(tmp_path))

    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout


def test_show_spells_every_default_out_and_is_itself_a_policy_file(tmp_path: Path) -> None:
    result = canary("show", "standard")

    shown = parse_policy(result.stdout, "shown")
    shipped_one = parse_policy((shipped("policies") / "standard.yaml").read_text(), "")
    assert result.exit_code == 0
    assert shown == shipped_one
    assert result.stdout.startswith(f"# digest: {shipped_one.digest}\n")
    assert yaml.safe_load(result.stdout)["strategy"]["progressDeadline"] == "10m"


def test_show_as_json_has_the_digest_beside_the_policy(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD)

    document = json.loads(canary("show", str(file), "-o", "json").stdout)

    assert document["digest"] == parse_policy(GOOD, "").digest
    assert document["policy"]["name"] == "good"


def test_show_finds_policies_in_the_folder_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)

    assert canary("show", "good", "--policies", str(tmp_path)).exit_code == 0
    assert canary("show", "good", CANARY_POLICIES=str(tmp_path)).exit_code == 0


def test_show_of_an_unknown_name_is_not_found_and_lists_the_known_ones() -> None:
    result = canary("show", "nonesuch")

    assert (result.exit_code, result.stdout) == (7, "")
    assert "there are: demo, fast, header-only, lenient, standard, strict" in result.stderr


def test_show_of_a_broken_file_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("name: a\n")

    result = canary("show", str(file))

    assert result.exit_code == 1
    assert f"{file}:1: strategy: is missing" in result.stderr


def test_the_schema_is_a_json_schema_that_accepts_the_shipped_policies() -> None:
    schema = json.loads(canary("schema").stdout)

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for file in shipped("policies").glob("*.yaml"):
        jsonschema.validate(yaml.safe_load(file.read_text()), schema)


def test_lint_with_a_floor_tells_what_is_less_strict_than_it(tmp_path: Path) -> None:
    strict = shipped("policies") / "strict.yaml"
    (tmp_path / "a.yaml").write_text(strict.read_text().replace("name: strict", "name: a").replace("0.5%", "2%"))
    (tmp_path / "b.yaml").write_text(strict.read_text().replace("name: strict", "name: b"))

    result = canary("lint", str(tmp_path), "--floor", "strict")

    assert result.exit_code == 1
    assert result.stdout == f"{tmp_path}/a.yaml: analysis.errorRate.max: is 2%, at most 0.5% (floor strict)\n"
    assert canary("lint", str(tmp_path)).exit_code == 0
