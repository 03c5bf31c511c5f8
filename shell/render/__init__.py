"""Result formats: one writer per format, each fed in batches, each loaded when it is asked for.

A writer gets `begin(columns)`, any number of `rows(batch)` and `end()`; it never sees a whole result. Arrow and Parquet
are binary and are fed record batches instead (`shell.render.arrow`).
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from shell.render.base import RenderOptions, RowWriter, TextSink

# name -> (module, class, what it is)
_TEXT_FORMATS = {
    "table": ("table", "TableWriter", "boxed columns for people"),
    "vertical": ("vertical", "VerticalWriter", "one column per line"),
    "csv": ("delimited", "CsvWriter", "comma separated, RFC 4180; NULL is an empty field"),
    "tsv": ("delimited", "TsvWriter", r"tab separated with MySQL's escapes; NULL is \N"),
    "json": ("jsontext", "JsonWriter", "an array of objects"),
    "jsonl": ("jsontext", "JsonLinesWriter", "one JSON object per line"),
    "markdown": ("markdown", "MarkdownWriter", "a Markdown table"),
}
BINARY_FORMATS = {"arrow": "Arrow IPC stream", "parquet": "Parquet file"}
DISPLAY_FORMATS = frozenset({"table", "vertical"})

FORMATS: dict[str, str] = {**{name: entry[2] for name, entry in _TEXT_FORMATS.items()}, **BINARY_FORMATS}


class _WriterClass(Protocol):
    def __call__(self, out: TextSink, options: RenderOptions) -> RowWriter: ...


def row_writer(name: str, out: TextSink, options: RenderOptions) -> RowWriter:
    """Returns the writer of a text format."""
    module, cls, _ = _TEXT_FORMATS[name]
    make = cast(_WriterClass, getattr(import_module(f"shell.render.{module}"), cls))
    return make(out, options)
