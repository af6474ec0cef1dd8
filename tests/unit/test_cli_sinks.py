"""Names, reasons and sentences are strangers' text: none of it may act on a terminal, a log or a document's reader."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from rich.console import Console

from canary.cli import detail, table
from canary.cli.attempt import Attempt
from canary.cli.documents import as_json, as_yaml, render
from canary.cli.options import Output, checked_text
from canary.cli.terminal import complain, say
from canary.errors import InputError

NOW = datetime(2026, 1, 31, 8, 10, tzinfo=UTC)
HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "line\nbreak\rback",
    "\u202egnp.exe",
    "zero\u200bwidth",
    "[bold red]markup[/]",
    "[/]",
    ":boom:",
    "https://example.com/[link=file:///etc/passwd]x[/link]",
]
ACTS = set("\x1b\x9b\x07\r\u202e\u200b\x7f")


def hostile_attempt(text: str) -> Attempt:
    wish = {"reason": text, "actor": text}
    arm = {"deployment": text, "subset": text, "label": text, "value": text}
    document: dict[str, Any] = {
        "metadata": {"namespace": text, "name": text, "creationTimestamp": text, "uid": "u", "labels": {text: text}},
        "spec": {
            "target": text, "policyName": text, "service": text, "trigger": {"by": text, "user": text, "reason": text},
            "paused": wish, "abort": wish, "promote": {**wish, "step": 1},
        },
        "status": {
            "phase": text, "message": text, "service": text, "targetRevision": text, "stable": arm, "canary": arm,
            "step": {"index": 1, "of": 2}, "weight": {"desired": 10, "configured": 5, "observed": 5},
            "route": {"virtualService": text, "http": text, "host": text},
            "policy": {"name": text, "digest": text, "resolved": {text: text}},
            "verdict": {"outcome": text, "reason": text, "sentence": text, "at": text},
            "cause": {"reason": text, "sentence": text}, "pausedFor": text,
            "drift": {"since": "2026-01-31T08:00:00Z", "manager": text},
            "history": [{"at": text, "phase": text, "sentence": text}],
            "conditions": [{"type": "Stalled", "status": "True", "reason": text, "message": text}],
        },
    }  # fmt: skip
    return Attempt(document)


def on_a_terminal(drawing: Any, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, no_color=True, width=width, markup=False, emoji=False).print(drawing)
    return stream.getvalue()


def without_our_own_bold(text: str) -> str:
    return text.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[2m", "")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("width", [80, 120])
def test_the_table_and_the_detail_on_a_terminal_show_hostile_text_and_obey_none_of_it(text: str, width: int) -> None:
    shown = hostile_attempt(text)

    printed = on_a_terminal(table.drawn([shown], table.Shape(namespaces=True, wide=True), NOW, width), width)
    printed += on_a_terminal(detail.drawn(shown, NOW), width)

    left = without_our_own_bold(printed)
    assert not ACTS & set(left)
    if "[" in text and text.isprintable():
        assert text.split("]", maxsplit=1)[0] in left  # markup is shown, letter by letter


@pytest.mark.parametrize("text", HOSTILE)
def test_in_a_pipe_one_rollout_stays_one_line(text: str) -> None:
    shown = hostile_attempt(text)

    lines = table.plain_lines([shown, shown], table.Shape(namespaces=True, wide=True), NOW)

    assert len(lines) == 3
    assert all(line.isprintable() for line in [*lines, *detail.plain_lines(shown, NOW)])


@pytest.mark.parametrize("text", ["::set-output name=x::y", "  ::error::x", "##vso[task.setvariable]x", "##[group]x"])
def test_in_a_job_s_output_nothing_is_a_command_of_the_build_service(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = hostile_attempt(text)

    say(text)
    complain(text)
    lines = capsys.readouterr().out.splitlines() + detail.plain_lines(shown, NOW)
    lines += table.plain_lines([shown], table.Shape(namespaces=True, wide=True), NOW)

    for line in lines:
        assert not line.lstrip().startswith("::")
        assert "##vso[" not in line
        assert "##[" not in line


@pytest.mark.parametrize("text", HOSTILE)
def test_json_keeps_hostile_text_exactly_and_prints_none_of_it_raw(text: str) -> None:
    shown = hostile_attempt(text)

    printed = render([shown], Output.JSON, one=True)

    assert json.loads(printed) == shown.document
    assert not ACTS & set(printed)


@pytest.mark.parametrize("text", HOSTILE)
def test_yaml_keeps_hostile_text_exactly_and_prints_none_of_it_raw(text: str) -> None:
    shown = hostile_attempt(text)

    printed = render([shown], Output.YAML, one=True)

    assert yaml.safe_load(printed) == shown.document
    assert not ACTS & set(printed)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_name_output_is_one_printable_line_per_rollout(text: str) -> None:
    (line,) = render([hostile_attempt(text)], Output.NAME, one=True).splitlines()

    assert line.startswith("canaryrollout.canary.delivery/")
    assert line.isprintable()


@pytest.mark.parametrize("text", HOSTILE)
def test_sentences_are_one_printable_line_on_both_streams(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(text)
    complain(text)

    printed = capsys.readouterr()
    for stream in (printed.out, printed.err):
        assert stream.endswith("\n")
        assert stream[:-1].isprintable()


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "x" * 257])
def test_a_reason_that_the_api_server_would_refuse_is_refused_before_it_is_sent(text: str) -> None:
    with pytest.raises(InputError, match="--reason must be one line of at most 256 printable characters"):
        checked_text(text, "--reason")


def test_ordinary_unicode_is_readable_in_both_documents() -> None:
    assert "größer als 1 % …" in as_json({"sentence": "größer als 1 % …"})
    assert "größer als 1 % …" in as_yaml({"sentence": "größer als 1 % …"})


def test_many_objects_are_a_list_as_kubectl_prints_it_and_managed_fields_are_left_out() -> None:
    shown = Attempt({"metadata": {"name": "a", "managedFields": [{"manager": "x"}]}, "spec": {}})

    document = json.loads(render([shown], Output.JSON, one=False))

    assert (document["apiVersion"], document["kind"]) == ("v1", "List")
    assert document["items"] == [{"metadata": {"name": "a"}, "spec": {}}]
    assert "managedFields" in shown.document["metadata"]


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_sentence_is_cut(width: int) -> None:
    sentence = "no VirtualService in namespace shop routes to service cart: write one with a route to host cart"
    shown = Attempt(
        {
            "metadata": {"namespace": "shop", "name": "checkout-service-v14-7c9d8f6b5f-2"},
            "spec": {"target": "checkout-service-v14"},
            "status": {
                "phase": "Progressing",
                "service": "checkout-service",
                "message": sentence,
                "step": {"index": 1, "of": 5},
                "weight": {"configured": 100, "observed": 100},
            },
        }
    )

    printed = without_our_own_bold(on_a_terminal(table.drawn([shown], table.Shape(), NOW, width), width))

    assert all(len(line) <= width for line in printed.splitlines())
    assert sentence in " ".join(printed.split())
    assert "checkout-service-v14-7c9d8f6b5f-2" in printed
    assert "checkout-service" in printed.replace("checkout-service-v14", "")
