"""The small part of JSONPath that printer columns, scale paths and selectable fields use.

Fields, quoted fields, indices, `[*]` and one comparison as a filter (`[?(@.type=="Ready")]`). Not a JSONPath library:
an expression outside that part raises ValueError when it is compiled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

_Step = Callable[[Any], Iterable[Any]]

_TOKEN = re.compile(
    r"""\.(?P<field>(?:[^.\[\\]|\\.)+)
      | \[\s*'(?P<quoted>(?:[^'\\]|\\.)+)'\s*\]
      | \[\s*(?P<index>-?\d+|\*)\s*\]
      | \[\?\(\s*@(?P<left>[^=!\s]+)\s*(?P<operator>==|!=)\s*(?P<right>"[^"]*"|'[^']*'|[^)\s]+)\s*\)\]""",
    re.VERBOSE,
)


def find(path: str, value: Any) -> list[Any]:
    """Every value at `path` (`.status.conditions[?(@.type=="Ready")].status`); empty when there is none.

    Raises ValueError for an expression outside the supported part.
    """
    found = [value]
    for step in _compile(path):
        found = [hit for item in found for hit in step(item)]
    return found


@lru_cache(maxsize=512)
def _compile(path: str) -> tuple[_Step, ...]:
    steps: list[_Step] = []
    position = 0
    while position < len(path):
        token = _TOKEN.match(path, position)
        if token is None:
            raise ValueError(f"unsupported JSONPath {path!r} at {path[position:]!r}")
        position = token.end()
        if token["left"]:
            steps.append(_filter(token["left"], token["operator"] == "==", _literal(token["right"])))
        elif token["index"]:
            steps.append(_index(token["index"]))
        else:
            steps.append(_field(re.sub(r"\\(.)", r"\1", token["field"] or token["quoted"])))
    return tuple(steps)


def _literal(text: str) -> Any:
    return text[1:-1] if text[0] in "\"'" else json.loads(text)


def _field(name: str) -> _Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _index(text: str) -> _Step:
    def step(value: Any) -> Iterable[Any]:
        if text == "*":
            return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        number = int(text)
        fits = isinstance(value, list) and -len(value) <= number < len(value)
        return [value[number]] if fits else ()

    return step


def _filter(left: str, wanted: bool, right: Any) -> _Step:
    def step(value: Any) -> Iterator[Any]:
        for item in value if isinstance(value, list) else ():
            if (find(left, item)[:1] == [right]) is wanted:
                yield item

    return step
