"""The documents that ``import``, ``fit`` and ``predict`` print with ``--json``; schemas in ``data/schemas/``."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field

from labctl.summary import Part


class Source(Part):
    """A file of somebody's measurement."""

    name: str
    format: Literal["npz", "hdf5", "csv"]
    sha256: str
    bytes: int


class RowsRead(Part):
    """Which rows of a file were read: half-open, counted from 0 in the file as given."""

    start: int
    stop: int
    in_file: int


class Imported(Part):
    """What ``labctl import --json`` prints."""

    schema_: Literal["labctl.import/1"] = Field(default="labctl.import/1", alias="schema")
    run_id: str
    path: str
    bench: str
    mode: Literal["replay"] = "replay"
    source: Source
    rows: RowsRead
    inputs: int
    outputs: int
    unit: str
    time_span_s: tuple[float, float] | None
    names: dict[str, str]
    notes: list[str]


def json_schema(model: type[Part]) -> str:
    """JSON Schema of one of the documents, as it lies in ``data/schemas/``."""
    identity = model.model_fields["schema_"].default
    schema = model.model_json_schema(mode="serialization", by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": identity, **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
