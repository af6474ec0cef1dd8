"""How an answer is written: the object as it is, its metadata only, or a Table, as the Accept header asks."""

from __future__ import annotations

from dataclasses import dataclass, field

from canary.sandbox.apiserver.answers import Json
from canary.sandbox.apiserver.columns import Printer, printer
from canary.sandbox.apiserver.resources import Resource, Version

_META = "meta.k8s.io/v1"


@dataclass
class View:
    """One request's way of writing objects. In a watch, `event` sends the column definitions once."""

    resource: Resource
    version: Version
    form: str = ""
    include: str = "Metadata"
    _printer: Printer | None = None
    _columns_sent: bool = field(default=False, init=False)

    @classmethod
    def wanted(cls, resource: Resource, version: Version, accept: str, include: str) -> View:
        """`accept` is the Accept header: the first form known here wins; `include` is the query's includeObject."""
        for offer in accept.split(","):
            words = {word.strip() for word in offer.split(";")}
            if "g=meta.k8s.io" not in words:
                break
            form = next((word[3:] for word in words if word.startswith("as=")), "")
            if "v=v1" in words and form in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
                return cls(resource, version, form, include or "Metadata", printer(resource, version))
        return cls(resource, version)

    @property
    def api_version(self) -> str:
        return self.resource.api_version(self.version.name)

    def single(self, obj: Json) -> Json:
        """The answer to a request about one object."""
        if self.form == "Table":
            return self._table([obj], {"resourceVersion": obj["metadata"].get("resourceVersion", "")})
        return self._item(obj)

    def page(self, items: list[Json], metadata: Json) -> Json:
        """The answer to a list; `metadata` is the list's own."""
        if self.form == "Table":
            return self._table(items, metadata)
        kind, api_version = f"{self.resource.kind}List", self.api_version
        if self.form:
            kind, api_version = "PartialObjectMetadataList", _META
        return {"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": [*map(self._item, items)]}

    def event(self, obj: Json) -> Json:
        """The object of one watch event."""
        if self.form != "Table":
            return self._item(obj)
        table = self._table([obj], {"resourceVersion": obj["metadata"]["resourceVersion"]})
        if self._columns_sent:
            table["columnDefinitions"] = None
        self._columns_sent = True
        return table

    def bookmark(self, revision: int, *, initial_end: bool) -> Json:
        """The object of a BOOKMARK event: nothing but where the watch is."""
        metadata: Json = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        if self.form == "Table":
            return {**self._table([], metadata), "columnDefinitions": None}
        return {"kind": self.resource.kind, "apiVersion": self.api_version, "metadata": metadata}

    def _item(self, obj: Json) -> Json:
        if self.form:
            return {"kind": "PartialObjectMetadata", "apiVersion": _META, "metadata": obj["metadata"]}
        return {**obj, "apiVersion": self.api_version}

    def _table(self, items: list[Json], metadata: Json) -> Json:
        printing = self._printer or printer(self.resource, self.version)
        rows = [{"cells": printing.cells(obj), **self._included(obj)} for obj in items]
        columns = printing.definitions()
        return {"kind": "Table", "apiVersion": _META, "metadata": metadata, "columnDefinitions": columns, "rows": rows}

    def _included(self, obj: Json) -> Json:
        if self.include == "None":
            return {}
        if self.include == "Object":
            return {"object": {**obj, "apiVersion": self.api_version}}
        return {"object": {"kind": "PartialObjectMetadata", "apiVersion": _META, "metadata": obj["metadata"]}}
