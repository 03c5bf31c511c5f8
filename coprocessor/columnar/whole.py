"""Whole queries for a columnar store: a residual query's text for DuckDB, the scans of its relations, its parameters.

The text has gaps where its relations stand; the store fills in what it reads of each. The wire form is an Arrow stream
of one row, the parameters, with all else in the schema's metadata: so parameters have their types.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from coprocessor.dag.codec import decode_dag, encode_dag
from coprocessor.dag.plan import Dag, TableScan
from coprocessor.errors import BadRequest, Unsupported

VERSION = 1
_KEY = b"sqlfront.whole_query"
_INT64_MAX = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class WholeRelation:
    """A relation of the text: the first `width` columns of a scan of records, TIMESTAMPs in the zone of `dag`."""

    dag: Dag
    width: int

    @property
    def scan(self) -> TableScan:
        assert isinstance(self.dag.scan, TableScan)
        return self.dag.scan


@dataclass(frozen=True, slots=True)
class WholeQuery:
    """`parts` are the text between the relations, one more than there are places; `places` name what stands between
    two of them. It is one SELECT."""

    parts: Sequence[str]
    places: Sequence[str]
    relations: Mapping[str, WholeRelation]
    params: Mapping[str, object] = field(default_factory=dict)

    def sql(self, sources: Mapping[str, str]) -> str:
        """The text with a subquery for each relation."""
        text = [self.parts[0]]
        for name, part in zip(self.places, self.parts[1:], strict=True):
            text += [sources[name], part]
        return "".join(text)


def encode_whole(query: WholeQuery) -> bytes:
    """Returns the wire form. Raises Unsupported for what has none."""
    relations = {
        name: {"dag": base64.b64encode(encode_dag(one.dag).SerializeToString()).decode(), "width": one.width}
        for name, one in query.relations.items()
    }
    header = {
        "version": VERSION,
        "parts": list(query.parts),
        "places": list(query.places),
        "relations": relations,
        "params": list(query.params),
    }
    try:
        arrays = [_array(value) for value in query.params.values()]
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise Unsupported(f"a parameter has no form on the wire: {error}") from None
    names = [f"p{at}" for at in range(len(arrays))]
    schema = pa.schema(
        [pa.field(name, array.type) for name, array in zip(names, arrays, strict=True)],
        metadata={_KEY: json.dumps(header).encode()},
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        if arrays:
            writer.write_batch(pa.record_batch(arrays, schema=schema))
    return bytes(sink.getvalue())


def _array(value: object) -> pa.Array:
    return pa.array([value], pa.uint64() if isinstance(value, int) and value > _INT64_MAX else None)


def decode_whole(data: bytes) -> WholeQuery:
    """Reads the wire form. Raises BadRequest."""
    try:
        with pa.ipc.open_stream(data) as reader:
            table = reader.read_all()
        header = json.loads((table.schema.metadata or {})[_KEY])
        if header["version"] != VERSION:
            raise BadRequest(f"a whole query of version {header['version']}")
        rows = table.to_pylist()
        values = list(rows[0].values()) if rows else []
        relations = {}
        for name, one in header["relations"].items():
            dag = decode_dag(base64.b64decode(one["dag"]))
            if not isinstance(dag.scan, TableScan) or dag.steps or not 0 <= one["width"] <= len(dag.scan.columns):
                raise BadRequest(f"relation {name} is no scan of records")
            relations[name] = WholeRelation(dag, one["width"])
        query = WholeQuery(
            header["parts"], header["places"], relations, dict(zip(header["params"], values, strict=True))
        )
        if len(query.parts) != len(query.places) + 1 or not set(query.places) <= relations.keys():
            raise BadRequest("the relations of a whole query are not those of its text")
        return query
    except (pa.ArrowException, KeyError, ValueError, TypeError, IndexError) as error:
        raise BadRequest(f"a damaged whole query: {error}") from None
