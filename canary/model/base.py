"""What every model shares: names in both spellings, plain texts, and how a field says that it is not done yet."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
HEADER_NAME = r"^[a-z0-9!#$&'*+.^_|~-]+$"
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"

DnsLabel = Annotated[str, StringConstraints(pattern=DNS_LABEL, max_length=63)]
HeaderName = Annotated[str, StringConstraints(pattern=HEADER_NAME, max_length=128)]
Text = Annotated[str, StringConstraints(pattern=PRINTABLE, max_length=256)]


class Model(BaseModel):
    """camelCase outside, snake_case inside, frozen, unknown keys refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True, extra="forbid"
    )

    def document(self) -> dict[str, Any]:
        """The camelCase document without what was not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def not_yet(what: str) -> ValueError:
    """The refusal of a field that a later version carries out: nothing is accepted and ignored."""
    return ValueError(f"not supported yet: {what}")
