"""Turning what an engine library raises into the store's own errors.

RocksDB's bindings raise bare `Exception` with RocksDB's status as text, so the text decides.
"""

from __future__ import annotations

import errno
import os

from kvstore.engine.api import RawIterator
from kvstore.engine.directory import translate_os_error
from kvstore.errors import Corruption, DiskFull, StoreClosed, StoreError


def translate(error: Exception, what: str) -> StoreError:
    """The store's error for one of the library's bare exceptions."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, OSError):
        return translate_os_error(error, what)
    text = str(error)
    low = text.lower()
    if type(error).__name__ == "DbClosedError" or "db already closed" in low:
        return StoreClosed("the store is closed")
    if "no space left" in low or "nospace" in low or os.strerror(errno.ENOSPC).lower() in low:
        return DiskFull(f"{what}: {text}")
    if "corrupt" in low or "checksum" in low:
        return Corruption(f"{what}: {text}")
    return StoreError(f"{what}: {text}")


def check_status(raw: RawIterator) -> None:
    """To be called when an iterator is not valid: raises if that is for a failure and not for the end."""
    try:
        raw.status()
    except Exception as error:
        raise translate(error, "read") from error
    finally:
        del raw  # an error keeps this frame alive, and an iterator keeps RocksDB open
