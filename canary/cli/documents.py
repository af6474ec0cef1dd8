"""Objects as machines read them: `-o json`, `-o yaml`, `-o name`, in the shapes kubectl gives them.

A stranger's control and direction characters are escaped in the document's own way, so that printing one to a terminal
is as safe as the table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from canary.cli.attempt import Attempt
from canary.cli.options import Output
from canary.cli.terminal import safe

_UNSEEN = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""What JSON leaves as it is and a terminal may act on: DEL, C1 controls, invisible and bidirectional characters."""


def render(attempts: Sequence[Attempt], output: Output, *, one: bool) -> str:
    """The document of one object (`one`), or kubectl's List; lines of `canaryrollout.canary.delivery/NAME` for name."""
    if output is Output.NAME:
        return "".join(f"canaryrollout.canary.delivery/{safe(attempt.name)}\n" for attempt in attempts)
    objects = [_shown(attempt.document) for attempt in attempts]
    document = objects[0] if one else {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": objects}
    return as_json(document) if output is Output.JSON else as_yaml(document)


def as_json(document: Any) -> str:
    """Indented JSON in UTF-8 that is safe to print."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    # inside JSON these can only stand in a string, where an escape means the same
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def as_yaml(document: Any) -> str:
    """YAML in the document's own order that is safe to print."""
    import yaml

    readable = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
    return readable if not _UNSEEN.search(readable) else yaml.safe_dump(document, sort_keys=False, width=110)


def _shown(document: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in document.get("metadata", {}).items() if key != "managedFields"}
    return {**document, "metadata": metadata}
