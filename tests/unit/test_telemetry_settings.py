from typing import Any

import pytest

from canary.errors import InputError
from canary.telemetry import SourceSettings


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"url": "http://me:pa55@prom:9090"}, "must not hold credentials"),
        ({"url": "prom:9090"}, "not a Prometheus URL"),
        ({"url": "ftp://prom"}, "not a Prometheus URL"),
        ({"url": "http://prom", "timeout_s": 0}, "above 0"),
        ({"url": "http://prom", "username": "me"}, "both a user name and a password file"),
        ({"url": "http://prom", "username": "me", "password_file": "p", "bearer_token_file": "t"}, "not both"),
        ({"url": "http://prom", "headers": {"X-Key": "pa55\r\nHost: x"}}, "not an HTTP header"),
        ({"url": "http://prom", "arm_label": 'a"}'}, "not a label name"),
        ({"url": "http://prom", "reporter": "both"}, "unknown reporter 'both'; one of auto, source"),
    ],
)
def test_settings_that_cannot_work_are_refused_without_showing_a_secret(
    settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        SourceSettings(**settings)

    assert "pa55" not in str(caught.value)


def test_a_prefix_in_the_url_is_kept_and_its_trailing_slash_is_not() -> None:
    assert SourceSettings("https://mimir.example/prometheus/").base_url == "https://mimir.example/prometheus"
