"""The policy folder: a broken file never replaces a good one; what is frozen is what its name says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from canary.daemon.policies import FrozenPolicies, PolicyFolder
from canary.errors import Conflict, NotFound, PolicyError, Unavailable
from canary.model.policy import Policy

GOLD = "name: gold\nstrategy: {weights: [10, 100], hold: 1m}\nanalysis: {errorRate: {max: 1%}}\n"


def write(path: Path, text: str) -> None:
    """As `kubectl` and editors do: another file takes the name."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


@pytest.fixture
def folder(tmp_path: Path) -> PolicyFolder:
    write(tmp_path / "gold.yaml", GOLD)
    (tmp_path / "notes.txt").write_text("not a policy")
    loaded = PolicyFolder(tmp_path)
    assert loaded.reload()
    return loaded


def weights(folder: PolicyFolder, name: str = "gold") -> tuple[int, ...] | None:
    policy = folder.get(name)
    return policy.strategy.weights if policy else None


def test_policies_are_read_by_name_and_again_only_when_a_file_changed(folder: PolicyFolder, tmp_path: Path) -> None:
    assert (folder.names, weights(folder), folder.errors) == (("gold",), (10, 100), ())
    assert not folder.reload()

    write(tmp_path / "gold.yaml", GOLD.replace("[10, 100]", "[20, 100]"))

    assert folder.reload()
    assert weights(folder) == (20, 100)


def test_a_broken_file_is_reported_with_its_line_and_the_good_version_stays(
    folder: PolicyFolder, tmp_path: Path
) -> None:
    write(tmp_path / "gold.yaml", GOLD.replace("hold: 1m", "hold: soon"))

    assert folder.reload()

    assert weights(folder) == (10, 100)
    (error,) = folder.errors
    assert (error.source, error.line, error.field) == (str(tmp_path / "gold.yaml"), 2, "strategy.hold")
    assert not folder.reload()
    write(tmp_path / "gold.yaml", GOLD.replace("[10, 100]", "[30, 100]"))
    assert folder.reload()
    assert (weights(folder), folder.errors) == ((30, 100), ())


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"- a list\n", b"{", b"name: [1"])
def test_whatever_a_file_contains_the_others_are_read(folder: PolicyFolder, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)

    assert folder.reload()

    assert folder.names == ("gold",)
    assert [error.source for error in folder.errors][:1] == [str(tmp_path / "bad.yaml")]


def test_a_file_that_is_removed_takes_its_policy_along(folder: PolicyFolder, tmp_path: Path) -> None:
    (tmp_path / "gold.yaml").unlink()

    assert folder.reload()
    assert folder.names == ()


def test_of_two_files_with_one_name_the_first_wins_and_the_second_is_named(
    folder: PolicyFolder, tmp_path: Path
) -> None:
    write(tmp_path / "other.yml", GOLD.replace("[10, 100]", "[90, 100]"))

    assert folder.reload()

    assert weights(folder) == (10, 100)
    (error,) = folder.errors
    assert (error.source, error.field) == (str(tmp_path / "other.yml"), "name")
    assert "gold.yaml" in str(error)


def test_a_folder_mounted_from_a_config_map_changes_by_the_swap_of_one_link(tmp_path: Path) -> None:
    def mount(version: str, text: str) -> None:
        (tmp_path / version).mkdir()
        (tmp_path / version / "gold.yaml").write_text(text)
        (tmp_path / "..data_tmp").symlink_to(version)
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")

    mount("..2026_1", GOLD)
    (tmp_path / "gold.yaml").symlink_to("..data/gold.yaml")
    folder = PolicyFolder(tmp_path)
    folder.reload()

    mount("..2026_2", GOLD.replace("[10, 100]", "[40, 100]"))

    assert folder.reload()
    assert (weights(folder), folder.errors) == ((40, 100), ())


def test_a_folder_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=f"{tmp_path}/none: the folder cannot be read"):
        PolicyFolder(tmp_path / "none").reload()


class ConfigMaps:
    """The controller's own namespace."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] = {}
        self.reads = 0
        self.away = False

    def create(self, _kind: Any, namespace: str, document: Any) -> Any:
        if self.away:
            raise Unavailable("away")
        name = f"{namespace}/{document['metadata']['name']}"
        if name in self.stored:
            raise Conflict("there already")
        self.stored[name] = document
        return document

    def get(self, _kind: Any, namespace: str, name: str) -> Any:
        self.reads += 1
        if self.away:
            raise Unavailable("away")
        if f"{namespace}/{name}" not in self.stored:
            raise NotFound("none")
        return self.stored[f"{namespace}/{name}"]


@pytest.fixture
def gold(folder: PolicyFolder) -> Policy:
    policy = folder.get("gold")
    assert policy is not None
    return policy


def frozen_in(maps: ConfigMaps) -> FrozenPolicies:
    return FrozenPolicies(maps, "own")  # type: ignore[arg-type]  # what it needs of a gateway


def test_a_policy_is_frozen_as_an_immutable_config_map_named_by_its_digest(gold: Policy) -> None:
    maps = ConfigMaps()

    frozen_in(maps).freeze(gold)

    (document,) = maps.stored.values()
    assert document["metadata"]["name"] == f"canary-policy-{gold.digest}"
    assert document["immutable"] is True
    assert frozen_in(maps).get(gold.digest) == gold


def test_freezing_it_again_from_another_process_is_the_same_copy(gold: Policy) -> None:
    maps = ConfigMaps()

    for _ in range(2):
        assert frozen_in(maps).forgery(gold) == ""
        frozen_in(maps).freeze(gold)

    assert len(maps.stored) == 1


def test_a_frozen_policy_is_read_from_the_cluster_once(gold: Policy) -> None:
    maps = ConfigMaps()
    frozen_in(maps).freeze(gold)
    frozen = frozen_in(maps)

    for _ in range(3):
        frozen.get(gold.digest)

    assert maps.reads == 1


@pytest.mark.parametrize("data", [{}, {"policy.json": "{"}, {"policy.json": "{}"}, {"other": "x"}, None])
def test_a_copy_that_cannot_be_read_is_no_policy(gold: Policy, data: Any) -> None:
    maps = ConfigMaps()
    frozen_in(maps).freeze(gold)
    maps.stored[f"own/canary-policy-{gold.digest}"]["data"] = data

    assert frozen_in(maps).get(gold.digest) is None


def test_a_copy_that_was_exchanged_is_no_policy_and_no_place_to_freeze(gold: Policy) -> None:
    maps = ConfigMaps()
    frozen_in(maps).freeze(gold)
    other = gold.model_copy(update={"name": "looser"})
    maps.stored[f"own/canary-policy-{gold.digest}"]["data"] = {"policy.json": other.canonical_json}

    assert frozen_in(maps).get(gold.digest) is None
    assert frozen_in(maps).forgery(gold) == f"own/canary-policy-{gold.digest}"
    with pytest.raises(Conflict):
        frozen_in(maps).freeze(gold)


def test_an_api_server_that_is_away_is_not_a_missing_policy(gold: Policy) -> None:
    maps = ConfigMaps()
    frozen_in(maps).freeze(gold)
    maps.away = True

    with pytest.raises(Unavailable):
        frozen_in(maps).get(gold.digest)
