"""What a page of a process under test answers, errors included."""

from __future__ import annotations

import urllib.error
import urllib.request


def page(url: str) -> tuple[int, str]:
    """(status, body); status 0 and the reason while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)
