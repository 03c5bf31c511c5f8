"""Collations: which strings are equal and how they order.

`sort_key(ft)` is the Python form of the key by which values compare. utf8mb4_bin (the default) is PAD SPACE: trailing
spaces do not count. The `_ci` collations compare weights (`coprocessor/weights.py`); `utf8mb4_0900_*` and `binary` are
NO PAD. `Printer.comparand` prints the DuckDB form.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from coprocessor.codec.collation import pads_space
from coprocessor.types import FieldType
from coprocessor.weights import Weights, weights_of

if TYPE_CHECKING:
    import pyarrow as pa

    from coprocessor.functions.registry import Batch

SortKey: TypeAlias = Callable[[Any], Any]
ASCII_END = 0x80


def is_ci(collate: str) -> bool:
    """True for collations that ignore case."""
    return collate.endswith("_ci")


def weights(collate: str) -> Weights:
    """The weights of a `_ci` collation; general_ci's for one whose own are not here."""
    found = weights_of(collate) or weights_of("utf8mb4_general_ci")
    assert found is not None
    return found


def sorts_by_alike(collate: str) -> bool:
    """Whether the text that equal strings have in common also sorts as they do (`Weights.alike`)."""
    return weights(collate) is weights_of("utf8mb4_general_ci")


def _strip(text: str) -> str:
    return text.rstrip(" ")


@cache
def _weight_key(collate: str) -> SortKey:
    table = weights(collate)
    key: SortKey = table.alike if sorts_by_alike(collate) else table.key
    return (lambda text: key(text.rstrip(" "))) if pads_space(collate) else key


def sort_key(ft: FieldType) -> SortKey | None:
    """Returns the function from a value to what compares in its collation; None when values compare as they are."""
    if not ft.is_string or ft.is_binary:
        return None
    if is_ci(ft.collate):
        return _weight_key(ft.collate)
    return _strip if pads_space(ft.collate) else None


def weight_batch(collate: str) -> Batch:
    """Returns the function from texts to their sort keys: all at once where every character is ASCII."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    table, pad = weights(collate), pads_space(collate)
    of_ascii = np.array([(table.of(code) or (0,))[0] for code in range(ASCII_END)], ">u2")

    def run(texts: pa.Array[Any] | pa.ChunkedArray[Any]) -> pa.Array[Any]:
        texts = pa.array(texts.combine_chunks()) if isinstance(texts, pa.ChunkedArray) else texts
        if pad:
            texts = pc.utf8_rtrim(texts, " ")
        if texts.type == pa.string() and texts.null_count == 0 and len(texts):
            offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, texts.offset * 4)
            start, end = int(offsets[0]), int(offsets[-1])
            data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[start:end]
            if not data.size or data.max() < ASCII_END:
                units = of_ascii[data]
                if units.all():  # a character without weights would shorten its text
                    ends = pa.py_buffer(((offsets - start) * 2).astype(np.int32))
                    return pa.Array.from_buffers(pa.binary(), len(texts), [None, ends, pa.py_buffer(units)])
        return pa.array([None if text is None else table.key(text) for text in texts.to_pylist()], pa.binary())

    return run


def alike_batch(collate: str) -> Batch:
    """Returns the function from texts to what those have in common that are equal."""
    import pyarrow as pa

    alike = weights(collate).alike
    return lambda texts: pa.array([None if text is None else alike(text) for text in texts.to_pylist()], pa.string())
