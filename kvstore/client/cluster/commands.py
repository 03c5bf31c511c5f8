"""The store's calls: the method of each, and its place in BatchCommands where it has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvstore.proto import import_sstpb_pb2 as import_sstpb
from kvstore.proto import tikvpb_pb2 as tikvpb
from kvstore.rpc.api import Code, Method, RpcError, methods_of

METHODS = methods_of(tikvpb.DESCRIPTOR, "Tikv")
BATCH_COMMANDS = METHODS["BatchCommands"]
IMPORT_METHODS = methods_of(import_sstpb.DESCRIPTOR, "ImportSST")
IMPORT_WRITE = IMPORT_METHODS["Write"]

_FIELDS = {
    field.message_type.full_name: field.name
    for field in tikvpb.BatchCommandsRequest.Request.DESCRIPTOR.oneofs_by_name["cmd"].fields
    if field.message_type is not None
}


@dataclass(frozen=True, slots=True)
class Command:
    """A unary call; `field` is its name in BatchCommands, None where it has to go alone."""

    method: Method
    field: str | None
    bulky: bool = False
    """Whether requests may be large."""
    error_field: str = "region_error"
    """Where an answer has the region's error."""

    def answer(self, response: Any) -> Any:
        """The answer inside one of BatchCommands. Raises RpcError when it is another's."""
        field = self.field
        if field is None or response.WhichOneof("cmd") != field:
            raise RpcError(Code.INTERNAL, f"asked {field}, got {response.WhichOneof('cmd')}")
        return getattr(response, field)


def _command(name: str, *, bulky: bool = False) -> Command:
    method = METHODS[name]
    return Command(method, _FIELDS.get(method.request.DESCRIPTOR.full_name), bulky)


GET = _command("KvGet")
BATCH_GET = _command("KvBatchGet", bulky=True)
SCAN = _command("KvScan")
PREWRITE = _command("KvPrewrite", bulky=True)
COMMIT = _command("KvCommit", bulky=True)
PESSIMISTIC_LOCK = _command("KvPessimisticLock", bulky=True)
PESSIMISTIC_ROLLBACK = _command("KVPessimisticRollback", bulky=True)
BATCH_ROLLBACK = _command("KvBatchRollback", bulky=True)
HEARTBEAT = _command("KvTxnHeartBeat")
CHECK_TXN_STATUS = _command("KvCheckTxnStatus")
CHECK_SECONDARY_LOCKS = _command("KvCheckSecondaryLocks")
RESOLVE_LOCK = _command("KvResolveLock", bulky=True)
SCAN_LOCK = _command("KvScanLock")
UNSAFE_DESTROY_RANGE = _command("UnsafeDestroyRange")
SPLIT_REGION = _command("SplitRegion")
COPROCESSOR = Command(METHODS["Coprocessor"], None, bulky=True)
"""Alone, though BatchCommands has a place for it: its large answers would hold others up, and who leaves ends it."""
BATCH_COPROCESSOR = METHODS["BatchCoprocessor"]
RAW_GET = _command("RawGet")
RAW_BATCH_GET = _command("RawBatchGet", bulky=True)
RAW_PUT = _command("RawPut", bulky=True)
RAW_BATCH_PUT = _command("RawBatchPut", bulky=True)
RAW_DELETE = _command("RawDelete")
RAW_BATCH_DELETE = _command("RawBatchDelete", bulky=True)
RAW_SCAN = _command("RawScan")
RAW_DELETE_RANGE = _command("RawDeleteRange")
RAW_GET_KEY_TTL = _command("RawGetKeyTTL")
RAW_COMPARE_AND_SWAP = _command("RawCompareAndSwap")
MULTI_INGEST = Command(IMPORT_METHODS["MultiIngest"], None, bulky=True, error_field="error")
