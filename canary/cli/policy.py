"""`canary policy lint|show|schema`: policies as files, without a cluster."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canary.cli.exits import ExitCode, stop
from canary.cli.terminal import complain, say

if TYPE_CHECKING:
    from canary.errors import PolicyError
    from canary.model.policy import Policy


class Form(StrEnum):
    YAML = "yaml"
    JSON = "json"


class LintForm(StrEnum):
    TEXT = "text"
    JSON = "json"


Folder = Annotated[
    Path | None,
    typer.Option("--policies", envvar="CANARY_POLICIES", help="Folder of policies; default: the shipped ones."),
]


def register(app: typer.Typer) -> None:
    commands = typer.Typer(no_args_is_help=True, help="Check and read policies.")
    commands.command("lint")(lint)
    commands.command("show")(show)
    commands.command("schema")(schema)
    app.add_typer(commands, name="policy")


def lint(
    *,
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE|DIR...", help="Default: the folder of --policies.")
    ] = None,
    policies: Folder = None,
    floor: Annotated[
        str, typer.Option("--floor", metavar="NAME|FILE", help="Also say what is less strict than this policy.")
    ] = "",
    output: Annotated[LintForm, typer.Option("--output", "-o", help="Form of the result.")] = LintForm.TEXT,
) -> None:
    """Say everything that is wrong in policy files, with file, line and field. Exit 1 when anything is."""
    found: list[PolicyError] = []
    names: dict[str, Path] = {}
    least = chosen(floor, policies) if floor else None
    files = [file for path in paths or [_folder(policies)] for file in _files(path)]
    for file in files:
        policy = _read(file)
        if isinstance(policy, list):
            found += policy
        elif policy.name in names:
            found.append(_twice(policy, file, names[policy.name]))
        else:
            names[policy.name] = file
            found += _below(file, policy, least) if least else []
    if output is LintForm.JSON:
        from canary.cli.documents import as_json

        fields = ("source", "line", "field", "message")
        sys.stdout.write(as_json([{name: getattr(error, name) for name in fields} for error in found]))
    else:
        for error in found:
            say(str(error))
    if found:
        complain(f"{_count(len(found), 'mistake')} in {_count(len(files), 'file')}")
        raise typer.Exit(ExitCode.ERROR)
    complain(f"{_count(len(files), 'file')} checked, nothing wrong")


def show(
    *,
    policy: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A policy's name, or its file.")],
    policies: Folder = None,
    output: Annotated[Form, typer.Option("--output", "-o", help="Form of the result.")] = Form.YAML,
) -> None:
    """A policy as the controller runs it: every default spelled out, and its digest."""
    from canary.cli.documents import as_json, as_yaml

    found = chosen(policy, policies)
    if output is Form.JSON:
        sys.stdout.write(as_json({"digest": found.digest, "policy": found.document()}))
    else:
        # a comment, so that what is shown is itself a policy file
        sys.stdout.write(f"# digest: {found.digest}\n{as_yaml(found.document())}")


def schema() -> None:
    """The JSON Schema of a policy file, for editors."""
    from canary.cli.documents import as_json
    from canary.model.policy import Policy

    document = Policy.model_json_schema(by_alias=True)
    sys.stdout.write(as_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **document}))


def chosen(policy: str, policies: Path | None) -> Policy:
    """The policy of a file, or of this name in the folder (None: the shipped ones). Ends the command without one."""
    return _from_file(Path(policy)) if _is_file(policy) else _named(policy, _folder(policies))


def _folder(policies: Path | None) -> Path:
    if policies is not None:
        return policies
    from canary.shipped import shipped

    return shipped("policies")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml") and not file.name.startswith("."))


def _read(file: Path) -> Policy | list[PolicyError]:
    from canary.errors import PolicyError
    from canary.model.policy_yaml import check_policy

    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        return [PolicyError(f"cannot be read: {error.strerror}", source=str(file))]
    except UnicodeDecodeError:
        return [PolicyError("is not UTF-8 text", source=str(file))]
    return check_policy(text, str(file))


def _twice(policy: Policy, file: Path, other: Path) -> PolicyError:
    from canary.errors import PolicyError

    return PolicyError(f"{policy.name} is also the name of the policy in {other}", source=str(file), field="name")


def _is_file(policy: str) -> bool:
    return "/" in policy or policy.endswith((".yaml", ".yml")) or Path(policy).is_file()


def _from_file(file: Path) -> Policy:
    read = _read(file)
    if isinstance(read, list):
        for error in read[:-1]:
            complain(str(error))
        stop(str(read[-1]))
    return read


def _named(name: str, folder: Path) -> Policy:
    if not folder.is_dir():
        stop(f"there is no folder {folder}", ExitCode.NOT_FOUND)
    known = known_in(folder)
    if name not in known:
        stop(f"there is no policy {name} in {folder}; there are: {', '.join(sorted(known))}", ExitCode.NOT_FOUND)
    return known[name]


def known_in(policies: Path | None) -> dict[str, Policy]:
    """The policies of a folder (None: the shipped ones) by name, broken files left out."""
    return {read.name: read for file in _files(_folder(policies)) if not isinstance(read := _read(file), list)}


def _below(path: Path, policy: Policy, floor: Policy) -> list[PolicyError]:
    from canary.errors import PolicyError
    from canary.model.floor import shortfalls

    found = shortfalls(policy, floor)
    return [PolicyError(f"{text} (floor {floor.name})", source=str(path), field=field) for field, text in found]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
