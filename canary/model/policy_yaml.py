"""Read a policy file's text: a Policy, or every mistake in it with line and field. Who opens the file is elsewhere."""

from __future__ import annotations

import re
from typing import Any, cast

import yaml
from pydantic import ValidationError

from canary.errors import PolicyError
from canary.model.namespaces import NAMESPACE_GLOB
from canary.model.policy import DNS_LABEL, HEADER_NAME, PRINTABLE, Policy

_MAX_CHARACTERS = 256 * 1024

_PATTERNS = {
    DNS_LABEL: "must be a plain name like payment-fast: lower-case letters, digits, dashes",
    HEADER_NAME: "must be the name of a header, in lower case as Envoy compares it",
    NAMESPACE_GLOB: "must be a namespace, or one with * for any characters: shop, team-*, *",
    PRINTABLE: "must be one line of printable characters",
}
"""What the regular expressions of the model mean, for people."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice and keeps no aliases (a small file must not grow on reading).

    `on`, `off`, `yes` and `no` are words, as in YAML 1.2 and for editors: `vsStable: off` is not false.
    """


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a field's name must be a word", key.start_mark)
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value} is written twice", key.start_mark)
        seen.add(key.value)
    return cast(dict[Any, Any], yaml.SafeLoader.construct_mapping(loader, node, deep=True))


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def check_policy(text: str, source: str) -> Policy | list[PolicyError]:
    """The policy in `text`, or all that is wrong with it; `source` is the file name for the messages."""
    if len(text) > _MAX_CHARACTERS:
        return [PolicyError(f"is larger than {_MAX_CHARACTERS // 1024} KiB", source=source)]
    try:
        root, document = _load(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return [PolicyError(f"has a character that YAML forbids: U+{error.character:04X}", source=source, line=line)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return [PolicyError(error.problem or "is not YAML", source=source, line=mark.line + 1 if mark else 0)]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return [PolicyError(f"is not YAML: {error}", source=source)]
    if not isinstance(document, dict):
        return [PolicyError("must be a mapping with name, strategy and analysis", source=source, line=1)]
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        return [_explain(problem, root, source) for problem in error.errors(include_url=False)]


def _load(text: str) -> tuple[yaml.Node | None, Any]:
    """The nodes, which know their lines, and the value they make."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        return root, loader.construct_document(root) if root is not None else None
    finally:
        loader.dispose()


def parse_policy(text: str, source: str) -> Policy:
    """Like `check_policy`, raising the first PolicyError (and saying how many more there are)."""
    result = check_policy(text, source)
    if isinstance(result, Policy):
        return result
    first, more = result[0], len(result) - 1
    if more:
        raise PolicyError(f"{first.message} (and {more} more)", source=first.source, line=first.line, field=first.field)
    raise first


def _explain(problem: Any, root: yaml.Node | None, source: str) -> PolicyError:
    assert root is not None  # the document is a mapping
    kind, given = problem["type"], problem.get("input")
    path, line = _locate(problem["loc"], root, is_missing=kind == "missing")
    message = problem["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        message = f"unknown field; known here: {', '.join(_siblings(path[:-1]))}"
    elif kind == "missing":
        message = "is missing"
    elif kind != "value_error":
        message = _PATTERNS.get(problem.get("ctx", {}).get("pattern", ""), message)
        message = re.sub("^(Input|String|Value) should ", "must ", message)
        if isinstance(given, str | int | float | bool):
            message = f"{message[0].lower()}{message[1:]}, not {given!r}"
    return PolicyError(message, source=source, line=line, field=".".join(path))


def _locate(loc: tuple[Any, ...], root: yaml.Node, *, is_missing: bool) -> tuple[list[str], int]:
    """Follow pydantic's location into the YAML nodes; parts that are not in the file (union tags) are left out."""
    node, path, line = root, [], root.start_mark.line + 1
    for position, part in enumerate(loc):
        child = _child(node, part)
        if child is not None:
            key, node = child
            path.append(str(part))
            line = key.start_mark.line + 1
        elif is_missing and position == len(loc) - 1:
            path.append(str(part))  # the line of its parent
    return path, line


def _child(node: yaml.Node, part: Any) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _siblings(path: list[str]) -> list[str]:
    """The fields that are valid at a path of the policy, read from its JSON Schema."""
    schema = Policy.model_json_schema(by_alias=True)
    here: Any = schema
    for part in path:
        here = _properties(here, schema).get(part, {})
    return sorted(_properties(here, schema))


def _properties(here: Any, schema: Any) -> dict[str, Any]:
    if "$ref" in here:
        here = schema["$defs"][here["$ref"].rsplit("/", 1)[1]]
    found = dict(here.get("properties", {}))
    for option in here.get("anyOf", here.get("oneOf", ())):
        found |= _properties(option, schema)
    return found
