"""A record read back. Whatever the bytes, the answer is a `Record` or an InputError, in bounded memory."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from canary.analysis import lines
from canary.analysis.entries import Aborted, Judged, Life, Seen
from canary.errors import InputError
from canary.model.policy import Policy

LARGEST_TEXT = 16 * 1024 * 1024
"""Bytes of text that are read out of a packed record: a small file may hold gigabytes of zeros."""

MOST_WINDOWS_READ, MOST_ENTRIES_READ = 25_000, 1_000
"""More than a `Recorder` ever keeps."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it was read: `lives` in their order, one unless a restart saw other counts than before it.

    `about` says which rollout it is of (namespace, name, ...), `written_by` is the version of canary that wrote it.
    """

    policy: Policy
    tile_s: float
    lives: tuple[Life, ...]
    about: Mapping[str, str] = field(default_factory=dict)
    written_by: str = ""

    @classmethod
    def unpack(cls, data: bytes) -> Record:
        """Read what `Recorder.pack` made. Raises InputError for anything else: damaged, cut, foreign, too large."""
        try:
            return _read(_text(data))
        except ValidationError as error:
            raise InputError(f"the record's policy cannot be read: {error.errors()[0]['msg']}") from error
        except lines.UNREADABLE as error:
            raise InputError(f"this is no evidence record of canary, or a damaged one: {error!s:.200}") from error


def _text(data: bytes) -> str:
    """The text of one or more gzip members. Raises ValueError beyond `LARGEST_TEXT`, and for what is not gzip."""
    parts: list[bytes] = []
    room = LARGEST_TEXT
    while data:
        member = zlib.decompressobj(wbits=31)
        try:
            parts.append(member.decompress(data, room + 1))
        except zlib.error as error:
            raise ValueError(f"not gzip, or damaged ({error})") from error
        room -= len(parts[-1])
        if room < 0:
            raise ValueError(f"it holds more than {LARGEST_TEXT} bytes")
        if not member.eof:
            raise ValueError("it is cut short")
        data = member.unused_data
    return b"".join(parts).decode()


def _read(text: str) -> Record:
    header, *rest = text.removesuffix("\n").split("\n")
    form, version, *values = json.loads(header)
    if form != lines.FORMAT:
        raise ValueError("it does not begin as one")
    if version != lines.VERSION:
        raise InputError(f"this record has format {version!s:.20}, which this version of canary cannot read")
    written_by, tile_s, about, digest, document = values
    policy = Policy.model_validate(document)
    if policy.digest != digest:
        raise ValueError("its policy is not the one that it was judged by")
    named = {lines.text(key): lines.text(value) for key, value in about.items()}
    return Record(policy, lines.number(tile_s), _lives(rest), named, lines.text(written_by))


def _lives(texts: Iterable[str]) -> tuple[Life, ...]:
    lives: list[Life] = []
    entries: list[Judged | Aborted] = []
    windows: list[Seen] = []
    form = lines.WindowLines()

    def end() -> None:
        if lives:
            lives[-1] = replace(lives[-1], entries=tuple(entries), windows=tuple(windows))
        entries.clear()
        windows.clear()

    for text in texts:
        kind, *values = json.loads(text)
        if kind == "life":
            end()
            form.begin()
            lives.append(lines.read_life(values))
            continue
        if not lives:
            raise ValueError("a line belongs to no judge")
        _line(kind, values, entries, windows, form)
        if len(windows) > MOST_WINDOWS_READ or len(entries) > MOST_ENTRIES_READ:
            raise ValueError("it holds more than a record can")
    end()
    return tuple(lives)


def _line(
    kind: Any, values: list[Any], entries: list[Judged | Aborted], windows: list[Seen], form: lines.WindowLines
) -> None:
    match kind:
        case "w":
            windows.append(form.read(values))
        case "bounds":
            form.read_bounds(values)
        case "verdict":
            entries.append(lines.read_verdict(values))
        case "abort":
            entries.append(lines.read_abort(values))
        case _:
            raise ValueError(f"a line of unknown kind {kind!r:.40}")
