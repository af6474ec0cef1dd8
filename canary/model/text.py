"""A stranger's text made safe to store and show."""

from __future__ import annotations


def plain(text: str, limit: int) -> str:
    """`text` on one line, without control characters, at most `limit` characters (cut ones end in "…")."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return printable if len(printable) <= limit else f"{printable[: limit - 1]}…"
