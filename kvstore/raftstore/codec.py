"""The bytes of commands in a region's log entries."""

from __future__ import annotations

from kvstore.proto.metapb_pb2 import Peer, RegionEpoch
from kvstore.proto.raft_cmdpb_pb2 import RaftCmdRequest, RaftRequestHeader


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def header_of(region_id: int, peer: Peer, epoch: RegionEpoch, term: int) -> RaftRequestHeader:
    return RaftRequestHeader(region_id=region_id, peer=peer, region_epoch=epoch, term=term)


def write_prefix(header: RaftRequestHeader) -> bytes:
    """The first bytes of every command with this header; `write_command` puts the changes behind it."""
    return RaftCmdRequest(header=header).SerializeToString()


_CUSTOM_REQUEST_TAG = b"\x2a"  # field 5 of RaftCmdRequest, length-delimited
_DATA_TAG = b"\x0a"  # field 1 of CustomRequest, length-delimited


def write_command(prefix: bytes, parts: list[bytes], size: int) -> bytes:
    """A RaftCmdRequest whose `custom_request.data` are the `parts`, of `size` bytes in all, copied once."""
    length = _varint(size)
    return b"".join(
        (prefix, _CUSTOM_REQUEST_TAG, _varint(1 + len(length) + size), _DATA_TAG, length, *parts),
    )
