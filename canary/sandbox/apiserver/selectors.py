"""Label and field selectors: text of a query into a predicate on objects.

The grammar is upstream's (`labels.Parse`, `fields.ParseSelector`); whatever does not parse is a 400, never an empty
selector, which would select everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

from canary.sandbox.apiserver import jsonpath
from canary.sandbox.apiserver.answers import Json, bad_request

Predicate = Callable[[Json], bool]
_LabelTest = Callable[[dict[str, str]], bool]

_KEY = r"(?:[A-Za-z0-9][-A-Za-z0-9.]*/)?[A-Za-z0-9](?:[-_.A-Za-z0-9]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-_.A-Za-z0-9]*[A-Za-z0-9])?)?"
_SET = re.compile(rf"\s*(?P<key>{_KEY})\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)\s*")
_COMPARE = re.compile(rf"\s*(?P<key>{_KEY})\s*(?P<operator>==|=|!=)\s*(?P<value>{_VALUE})\s*")
_NUMBER = re.compile(rf"\s*(?P<key>{_KEY})\s*(?P<operator>[<>])\s*(?P<value>\d+)\s*")
_EXISTS = re.compile(rf"\s*(?P<absent>!?)\s*(?P<key>{_KEY})\s*")


def labels(text: str) -> Predicate:
    """`app=x,env in (a,b),!old` as a predicate. Raises a 400 for what does not parse."""
    tests: list[_LabelTest] = []
    position = 0
    while position < len(text) and text.strip():
        test, position = _requirement(text, position)
        tests.append(test)
        if position < len(text):
            if text[position] != "," or position == len(text) - 1:
                raise _unparsable(text, position)
            position += 1

    def matches(obj: Json) -> bool:
        found = obj["metadata"].get("labels") or {}
        return all(test(found) for test in tests)

    return matches


def _unparsable(text: str, position: int) -> Exception:
    return bad_request(f"unable to parse requirement: found {text[position:]!r} in label selector {text!r}")


def _requirement(text: str, position: int) -> tuple[_LabelTest, int]:
    for pattern, build in ((_SET, _in_set), (_COMPARE, _equals), (_NUMBER, _compares), (_EXISTS, _exists)):
        found = pattern.match(text, position)
        if found and (found.end() == len(text) or text[found.end()] == ","):
            return build(found), found.end()
    raise _unparsable(text, position)


def _in_set(found: re.Match[str]) -> _LabelTest:
    key, values = found["key"], {value.strip() for value in found["values"].split(",")}
    if any(not re.fullmatch(_VALUE, value) for value in values):
        raise _unparsable(found.string, found.start("values"))
    if found["operator"] == "in":
        return lambda have: key in have and have[key] in values
    return lambda have: have.get(key) not in values


def _equals(found: re.Match[str]) -> _LabelTest:
    key, value = found["key"], found["value"]
    if found["operator"] == "!=":
        return lambda have: have.get(key) != value
    return lambda have: have.get(key) == value


def _compares(found: re.Match[str]) -> _LabelTest:
    key, value, larger = found["key"], int(found["value"]), found["operator"] == ">"

    def test(have: dict[str, str]) -> bool:
        number = have.get(key, "")
        return number.isdigit() and (int(number) > value if larger else int(number) < value)

    return test


def _exists(found: re.Match[str]) -> _LabelTest:
    key, absent = found["key"], bool(found["absent"])
    return lambda have: (key in have) is not absent


def fields(text: str, selectable: Collection[str]) -> Predicate:
    """`metadata.name=x,status.phase!=Failed` as a predicate.

    `selectable` lists the dotted fields this resource allows; any other is a 400 (`field label not supported`).
    """
    wanted: list[tuple[str, bool, str]] = []
    for term in filter(None, (part.strip() for part in text.split(","))):
        found = re.fullmatch(r"([A-Za-z0-9_.-]+?)\s*(!=|==|=)\s*(.*)", term)
        if not found:
            raise bad_request(f"invalid selector: {text!r}; can't understand {term!r}")
        if found[1] not in selectable:
            raise bad_request(f"field label not supported: {found[1]}")
        wanted.append((found[1], found[2] != "!=", found[3]))
    return lambda obj: all((_text_at(field, obj) == value) is equal for field, equal, value in wanted)


def _text_at(field: str, obj: Json) -> str:
    values: list[Any] = jsonpath.find(f".{field}", obj)
    value = values[0] if values else None
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
