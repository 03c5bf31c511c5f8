"""The packed form in which range reads hand rows to vectorised decoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(slots=True)
class PackedBatch:
    """Visible key-value pairs of one scan step, packed for vectorised decoding, in key order.

    Row i's user key is `keys[key_starts[i]:key_ends[i]]`, its value `values[value_starts[i]:value_ends[i]]`.
    `newest_ts` is the largest commit_ts among all records the step met at or below the snapshot (deletes too), 0 if
    none. `has_newer` tells that the step met a record above the snapshot.
    """

    count: int
    keys: npt.NDArray[np.uint8]
    key_starts: npt.NDArray[np.int64]
    key_ends: npt.NDArray[np.int64]
    values: npt.NDArray[np.uint8]
    value_starts: npt.NDArray[np.int64]
    value_ends: npt.NDArray[np.int64]
    newest_ts: int
    has_newer: bool = False
