"""Settings of a store and its limits, each with its unit."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1 << 10
MIB = 1 << 20

ENTRY_BYTES_MAX = 8 * MIB
"""A write whose changes are larger is refused: RaftEntryTooLarge (TiKV's `raft_entry_max_size`)."""
BATCH_BYTES_MAX = 256 * KIB
"""Waiting writes are joined in one log entry up to this size; a larger write has an entry to itself."""
SPLIT_KEYS_MAX = 1024
"""Keys of one split request."""
MERGE_GAP_BYTES_MAX = 8 * MIB
"""Log entries that the slowest peer of a merge source may lack: they travel in one entry of the target."""


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Times are in seconds of the injected clock or in ticks, sizes in bytes. ValueError where they contradict."""

    tick_s: float = 0.1
    heartbeat_ticks: int = 3
    election_ticks: int = 15
    """Elections start after 1 to 2 times this."""
    lease_s: float = 1.1
    """How long a leader may answer reads by itself after a quorum has heard of it; below the election timeout."""
    hibernate_ticks: int = 45
    """A group in which nothing happened for so long stops ticking; 0: never."""
    store_alive_s: float = 1.0
    """Stores with sleeping groups in common tell each other this often that they live."""
    store_silence_s: float = 3.0
    """A store not heard of for so long wakes the groups that it leads."""

    queue_bytes_max: int = 64 * MIB
    """Writes that wait or are under way in the whole store; more are refused: ServerIsBusy."""
    queue_writes_max: int = 32_768
    region_queue_bytes_max: int = 32 * MIB
    busy_backoff_ms: int = 100
    size_per_message_max: int = MIB
    inflight_messages_max: int = 256
    inbox_messages_max: int = 65_536
    """Messages of other stores that wait; more are dropped, as the network may."""

    entry_cache_bytes_max: int = MIB
    """Recent log entries that a peer keeps in memory."""
    log_gc_s: float = 3.0
    log_gc_entries: int = 128
    """The log is cut when so many entries could go."""
    log_gc_entries_max: int = 20_000
    log_gc_bytes_max: int = 64 * MIB
    """A log over either is cut even if a follower needs it: that one gets a snapshot."""

    snapshot_piece_bytes: int = 512 * KIB
    snapshots_sending_max: int = 4
    snapshots_receiving_max: int = 8
    snapshot_bytes_max: int = 1 << 30
    """The largest snapshot that is taken from another store."""
    snapshot_timeout_s: float = 60.0

    region_max_bytes: int = 144 * MIB
    region_split_bytes: int = 96 * MIB
    region_max_keys: int = 1_440_000
    region_split_keys: int = 960_000
    split_check_s: float = 5.0
    split_check_bytes: int = 6 * MIB
    """A region is measured anew when so much was written to it."""
    load_split_qps: int = 3_000
    """A region read more often than this for `load_split_windows` windows in a row is split; 0: never."""
    load_split_window_s: float = 10.0
    load_split_windows: int = 3

    region_heartbeat_s: float = 10.0
    store_heartbeat_s: float = 10.0
    leader_missing_s: float = 60.0
    """A peer without a leader for so long asks the placement driver whether it still is one."""
    merge_check_s: float = 0.5
    down_peer_s: float = 30.0
    """A peer not heard of for so long is reported as down."""
    joint_leave_s: float = 3.0
    """A joint configuration is left by the leader when it lasts so long."""

    import_bytes_max: int = 16 << 30
    """Files that wait to be ingested, on this store; more are refused: ServerIsBusy."""
    import_keep_s: float = 14_400.0
    """A file that was never ingested is kept for so long, and can be ingested for half as long."""

    reserved_disk_bytes: int = 256 * MIB
    """With less free space than this, writes are refused but for deletes."""

    def __post_init__(self) -> None:
        if not 0 < self.lease_s < (self.election_ticks - 1) * self.tick_s:
            raise ValueError(
                f"lease_s {self.lease_s} must lie below {self.election_ticks - 1} ticks of {self.tick_s} s"
            )
        if self.region_split_bytes > self.region_max_bytes or self.region_split_keys > self.region_max_keys:
            raise ValueError("a region's split size must not be above its largest size")
