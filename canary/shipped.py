"""The files that come with canary: the policies and the CRD. Finds them; never reads or changes them."""

from __future__ import annotations

from pathlib import Path


def shipped(name: str) -> Path:
    """The folder `name` ("policies", "deploy"): inside an installed package, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "_shipped" / name
    return installed if installed.is_dir() else package.parent / name
