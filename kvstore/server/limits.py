"""Limits of the service, with their units; over them a request gets an error, not a share of the machine."""

from __future__ import annotations

from dataclasses import dataclass

KEY_BYTES_MAX = 8 << 10
"""The longest user key that can be written (TiKV's `storage.max-key-size`)."""
RESPONSE_BYTES_MAX = 32 << 20
"""The largest answer. A scan that does not fit is refused: clients take a short answer for the end of the region."""
SCAN_ROWS_MAX = 131_072
"""Rows or locks in one answer: more would keep the loop from its other work for too long. Refused, as above."""
COMMAND_KEYS_MAX = 16_384
"""Keys in one command or batched read."""
RESOLVE_BATCH_LOCKS = 256
"""Locks settled in one write when a whole region is resolved."""
GC_BATCH_KEYS = 128
RESUME_EVERY_KEYS = 1024
"""After so many keys of a scan of the whole region, others get their turn."""
STREAM_PAGE_BYTES = 4 << 20
"""Bytes of one answer of a stream of the coprocessor that does not ask for pages of its own."""
JOINED_WRITE_BYTES_MAX = 256 << 10
"""Raw puts of one message for the same region travel as one write up to this size."""
MVCC_SEARCH_RECORDS_MAX = 1_000_000
BATCH_RESPONSES_MAX = 1024
"""Answers in one message of BatchCommands."""
REGION_KEYS_SPLIT_MAX = 4096
"""Split keys in one request."""


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What an operator may set."""

    requests_max: int = 20_000
    """Requests in flight; over it ServerIsBusy."""
    busy_backoff_ms: int = 100
    memory_bytes_max: int = 256 << 20
    """Bytes of requests that wait or are being written; over it ServerIsBusy."""
    lock_wait_default_ms: int = 1000
    """How long a pessimistic lock request that does not say waits (TiKV's `wait-for-lock-timeout`)."""
    lock_waiters_max: int = 100_000
    memory_lock_bytes_max: int = 64 << 20
    """What pessimistic locks in memory may take; 0: each is written through the log."""
    deadline_default_s: float = 60.0
    """How long a request that does not say may take before it is written."""
