"""Annotations are anybody's text: what is right opts in, what is wrong is named, and nothing hostile gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.errors import FindingError
from canary.model.annotations import KNOWN, OptIn, opt_in

HOSTILE = [
    "",
    "Payment",
    "payment.other-namespace",
    "other/payment",
    "payment.shop.svc.cluster.local",
    "payment\n",
    "-payment",
    "payment-",
    "p" * 64,
    "pa yment",
    "\x1b[31mpayment",
    "[red]payment",
    "<script>",
    "::set-output name=a::b",
    '"}) or vector(1)',
    "päyment",
    "payment\u202e",
    "../../etc/passwd",
    "*",
]


def test_a_deployment_without_our_annotation_does_not_opt_in() -> None:
    assert opt_in(None) is None
    assert opt_in({}) is None
    assert opt_in({"app.kubernetes.io/name": "payment"}) is None


def test_the_policy_alone_opts_in() -> None:
    assert opt_in({"canary.delivery/policy": "standard", "other/thing": "\x00"}) == OptIn(policy="standard")


def test_every_annotation_is_read() -> None:
    assert opt_in(
        {
            "canary.delivery/policy": "standard",
            "canary.delivery/service": "payment",
            "canary.delivery/virtual-service": "payment-routes",
            "canary.delivery/route": "primary route",
            "canary.delivery/release-id": "github.com/shop/payment:run=17@abc",
        }
    ) == OptIn("standard", "payment", "payment-routes", "primary route", "github.com/shop/payment:run=17@abc")


def test_settings_without_a_policy_do_not_opt_in() -> None:
    assert opt_in({"canary.delivery/service": "payment"}) is None


def test_an_unknown_annotation_of_ours_is_named_with_the_known_ones() -> None:
    with pytest.raises(FindingError) as raised:
        opt_in({"canary.delivery/policy": "standard", "canary.delivery/polcy": "x"})

    assert raised.value.reason == "BadAnnotation"
    assert '"canary.delivery/polcy"' in str(raised.value)
    assert raised.value.candidates == KNOWN


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("key", ["policy", "service", "virtual-service"])
def test_a_name_that_is_not_plain_is_refused_and_the_annotation_named(key: str, value: str) -> None:
    annotations = {"canary.delivery/policy": "standard", f"canary.delivery/{key}": value}

    with pytest.raises(FindingError) as raised:
        opt_in(annotations)

    assert f"annotation canary.delivery/{key} must be a plain name" in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("value", ["a b", "a\nb", "[red]", "<b>", "\x1b[31m", "::set-output name=x", "a" * 129, "ä"])
def test_a_release_id_cannot_carry_markup_or_control_characters(value: str) -> None:
    with pytest.raises(FindingError, match="release-id may have letters"):
        opt_in({"canary.delivery/policy": "standard", "canary.delivery/release-id": value})


@pytest.mark.parametrize("value", ["a\x1b[31m", "a\nb", "\x7f", "\x9b2J", "a" * 254])
def test_a_route_name_is_printable_and_short(value: str) -> None:
    with pytest.raises(FindingError, match="must be the name of an http route, printable"):
        opt_in({"canary.delivery/policy": "standard", "canary.delivery/route": value})


@given(st.dictionaries(st.sampled_from([*KNOWN, "canary.delivery/x\x1b[0m"]), st.text(max_size=300)))
def test_any_annotations_are_an_opt_in_none_or_one_printable_sentence(annotations: dict[str, str]) -> None:
    wanted, sentence = judged(annotations)

    assert sentence.isprintable()
    assert len(sentence) < 500
    assert (wanted is None and not sentence) == ("canary.delivery/policy" not in annotations)


def judged(annotations: dict[str, str]) -> tuple[OptIn | None, str]:
    try:
        return opt_in(annotations), ""
    except FindingError as error:
        return None, str(error)
