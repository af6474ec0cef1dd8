"""What is read from a load record."""

import json

import pytest

from canary.errors import InputError
from canary.sandbox.load import Request, Tally, Target, read
from canary.sandbox.load.target import flags_of

T0 = 1_800_000_000.0


def test_a_request_survives_its_line():
    request = Request(T0 + 0.25, 0.020125, 503, "v2", "UF,URX", is_probe=True)

    assert Request.from_line(request.line()) == request
    assert Request.from_line(Request(T0, 0.5, 0, "", "connect").line()) == Request(T0, 0.5, 0, "", "connect")


def test_counts_are_per_version_and_probes_are_nobodys_request():
    tally = Tally.of(
        [
            Request(T0, 0.01, 200, "v1"),
            Request(T0 + 1, 0.02, 503, "v2", is_probe=True),
            Request(T0 + 2, 0.03, 503, "v2"),
            Request(T0 + 3, 0.04, 200, "v2"),
        ]
    )

    assert (tally.requests, tally.errors, tally.lost) == (3, 1, 0)
    assert (tally.version("v2").requests, tally.version("v2").errors, tally.version("v2").error_share) == (2, 1, 0.5)
    assert (tally.version("v2").first, tally.version("v2").last) == (T0 + 2, T0 + 3)
    assert tally.first_bad == pytest.approx(T0 + 2.03)
    assert tally.probes["v2"].requests == 1
    assert tally.version("v9").requests == 0


def test_first_bad_is_the_first_to_arrive_not_the_first_to_be_read():
    tally = Tally.of([Request(T0 + 5, 0.1, 500, "v2"), Request(T0 + 1, 0.1, 500, "v2")])

    assert tally.version("v2").first_bad == tally.first_bad == pytest.approx(T0 + 1.1)


@pytest.mark.parametrize(
    ("status", "flags", "lost"),
    [
        (0, "connect", True),
        (0, "reset", True),
        (0, "timeout", True),
        (503, "NC", True),
        (404, "NR", True),
        (503, "UF,URX", True),
        (503, "UC", True),
        (503, "UH", False),
        (504, "UT", False),
        (503, "", False),
        (200, "", False),
    ],
)
def test_lost_are_broken_connections_and_failed_routing_and_not_a_backends_errors(status, flags, lost):
    assert Request(T0, 0.1, status, "", flags).is_lost is lost


def test_percentiles_are_of_responses_only():
    requests = [Request(T0 + i, (i + 1) / 1000, 200, "v1") for i in range(100)]
    tally = Tally.of([*requests, Request(T0, 10.0, 0, "v1", "timeout")])

    assert tally.version("v1").percentile(0.5) == pytest.approx(0.051)
    assert tally.version("v1").percentile(0.99) == pytest.approx(0.100)
    assert Tally().version("v1").percentile(0.99) == 0.0


def test_a_growing_file_is_read_piece_by_piece_and_a_half_written_line_waits(tmp_path):
    path = tmp_path / "load.txt"
    tally = Tally.follow(path)
    assert tally.refresh() == []

    line = Request(T0, 0.01, 200, "v1").line()
    path.write_text(json.dumps({"format": "canary-load/1", "rate": 5}) + "\n" + line + line[:9])
    assert len(tally.refresh()) == 1
    assert tally.run["rate"] == 5
    assert tally.refresh() == []

    with path.open("a") as more:
        more.write(line[9:] + json.dumps({"ending": {"sent": 2}}) + "\n")
    assert len(tally.refresh()) == 1
    assert (tally.requests, tally.ending["sent"]) == (2, 2)
    assert len(list(read(path))) == 2


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "other.txt"
    path.write_text("hello\n")
    with pytest.raises(InputError, match="not a line of a load record"):
        Tally.read(path)

    path.write_text('{"kind": "List"}\n')
    with pytest.raises(InputError, match="not a load record"):
        Tally.read(path)


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1:80/", "http://example.com/", "https://127.0.0.1/", "127.0.0.1:80", "http://:80/"]
)
def test_load_goes_to_loopback_only(url):
    with pytest.raises(InputError, match="loopback only"):
        Target.parse(url)


def test_loopback_is_the_whole_net_and_localhost():
    assert Target.parse("http://127.1.2.3:8080/pay?x=1", "payment") == Target("127.1.2.3", 8080, "/pay?x=1", "payment")
    assert Target.parse("http://localhost:8080").address == "127.0.0.1"


def test_a_header_cannot_smuggle_a_second_request():
    target = Target.parse("http://127.0.0.1:8080/")
    with pytest.raises(InputError, match="only visible ASCII"):
        target.request({"x-debug-user": "true\r\nhost: other"})
    with pytest.raises(InputError, match="only visible ASCII"):
        Target.parse("http://127.0.0.1:8080/", "a\r\nb")


@pytest.mark.parametrize(
    ("status", "version", "said", "body", "flags"),
    [
        (503, "v2", "", b"v2\n", ""),
        (200, "", "", b"", ""),
        (503, "", "UF,URX", b"whatever", "UF,URX"),
        (503, "", "-", b"no healthy upstream", "UH"),
        (503, "", "", b"upstream connect error or disconnect/reset before headers. reset reason: overflow", "UO"),
        (
            503,
            "",
            "",
            b"upstream connect error or disconnect/reset before headers. reset reason: connection termination",
            "UC",
        ),
        (504, "", "", b"upstream request timeout", "UT"),
        (404, "", "", b"", "NR"),
        (503, "", "", b"", "NC"),
    ],
)
def test_flags_are_envoys_word_or_told_from_its_answer(status, version, said, body, flags):
    assert flags_of(status, version, said, body) == flags
