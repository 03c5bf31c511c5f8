"""The service of a placement driver as handlers for a transport: who may ask, and errors as PD gives them.

A wrong cluster id, a member that doesn't lead or hasn't started are gRPC statuses; what a request asks wrongly is an
error in the reply's header. Only GetMembers, GetClusterInfo and etcd's MemberList are answered by all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kvstore.proto import etcdserverpb_pb2, keyspacepb_pb2, meta_storagepb_pb2, pdpb_pb2, pdraft_pb2
from kvstore.rpc.api import Call, Code, Handlers, Method, RpcError, StreamHandler, UnaryHandler, methods_of
from pd.config import Member
from pd.errors import NotLeader, Refused, Undetermined
from pd.leadership import Leadership
from pd.service import admin, etcd, gc, regions, schedule, stores
from pd.service.calls import Calls, Fill
from pd.service.streams import Streams

PD_METHODS = methods_of(pdpb_pb2.DESCRIPTOR, "PD")
KEYSPACE_METHODS = methods_of(keyspacepb_pb2.DESCRIPTOR, "Keyspace")
ADMIN_METHODS = methods_of(pdraft_pb2.DESCRIPTOR, "PdAdmin")
ETCD_METHODS = methods_of(etcdserverpb_pb2.DESCRIPTOR, "KV")
ETCD_CLUSTER_METHODS = methods_of(etcdserverpb_pb2.DESCRIPTOR, "Cluster")
REGISTRY_METHODS = methods_of(meta_storagepb_pb2.DESCRIPTOR, "MetaStorage")
DEFAULT_KEYSPACE = "DEFAULT"
MEMBER_VERSION = "8.5.0"
"""What a member says of itself: the version of PD whose calls it answers."""


def not_leader() -> RpcError:
    return RpcError(Code.UNAVAILABLE, "not leader")


@dataclass(frozen=True, slots=True)
class Membership:
    """Who the members are, and which of them leads now."""

    members: Sequence[tuple[int, Member]]
    leader_id: Callable[[], int]
    cluster_id: Callable[[], int]
    """0 until the cluster has one."""


class PdServer:
    """Answers the calls of pdpb.PD and of what stands beside it; `leadership` is there while this member leads."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self.leadership: Leadership | None = None

    def handlers(self) -> Handlers:
        streams = Streams(self.admit)
        stream_handlers: dict[str, StreamHandler] = {
            "Tso": streams.tso,
            "RegionHeartbeat": streams.region_heartbeat,
            "QueryRegion": streams.query_region,
        }
        unary: dict[str, tuple[Method, UnaryHandler]] = {}
        for methods, table in self._tables():
            for name, fill in table.always.items():
                unary[methods[name].path] = (methods[name], self._answer(methods[name], fill, False))
            for name, fill in table.headless.items():
                unary[methods[name].path] = (methods[name], self._answer_headless(methods[name], fill))
            for name, fill in table.bootstrapped.items():
                unary[methods[name].path] = (methods[name], self._answer(methods[name], fill, True))
        for name, handler in (("GetMembers", self._get_members), ("GetClusterInfo", self._get_cluster_info)):
            unary[PD_METHODS[name].path] = (PD_METHODS[name], handler)
        member_list = ETCD_CLUSTER_METHODS["MemberList"]
        unary[member_list.path] = (member_list, self._etcd_members)
        return Handlers(
            unary,
            {
                PD_METHODS[name].path: (PD_METHODS[name], _with_status(handler))
                for name, handler in stream_handlers.items()
            },
        )

    def _tables(self) -> list[tuple[dict[str, Method], Calls]]:
        tables = [(PD_METHODS, table) for table in (stores.CALLS, regions.CALLS, gc.CALLS, schedule.CALLS)]
        tables.append((KEYSPACE_METHODS, Calls(always={"LoadKeyspace": load_keyspace})))
        tables += [(ETCD_METHODS, etcd.ETCD_CALLS), (REGISTRY_METHODS, etcd.REGISTRY_CALLS)]
        tables.append((ADMIN_METHODS, admin.CALLS))
        members: dict[str, Fill] = {
            "ListMembers": self._list_members,
            "TransferMemberLeader": self._transfer_member_leader,
        }
        tables.append((ADMIN_METHODS, Calls(always=members)))
        return tables

    def admit(self, header: pdpb_pb2.RequestHeader | None) -> Leadership:
        """The leadership, for a request of this cluster (None: of a kind that doesn't say); raises RpcError."""
        cluster_id = self._membership.cluster_id()
        if not cluster_id:
            raise RpcError(Code.UNAVAILABLE, "server not started")
        if header is not None and header.cluster_id != cluster_id:
            raise RpcError(
                Code.FAILED_PRECONDITION, f"mismatch cluster id, need {cluster_id} but got {header.cluster_id}"
            )
        lead = self.leadership
        if lead is None or lead.replica.term != lead.term:
            raise not_leader()
        return lead

    def _answer(self, method: Method, fill: Fill, needs_bootstrap: bool) -> UnaryHandler:
        async def answer(request: Any, call: Call) -> Any:
            lead = self.admit(request.header)
            reply: Any = method.response()
            reply.header.cluster_id = request.header.cluster_id
            try:
                if needs_bootstrap and not lead.bootstrapped:
                    raise Refused("cluster is not bootstrapped", pdpb_pb2.ErrorType.NOT_BOOTSTRAPPED)
                with _statuses():
                    await fill(lead, request, reply)
            except Refused as error:
                reply.header.error.type = error.kind
                reply.header.error.message = str(error)
            return reply

        return answer

    def _answer_headless(self, method: Method, fill: Fill) -> UnaryHandler:
        async def answer(request: Any, call: Call) -> Any:
            reply = method.response()
            with _statuses():
                await fill(self.admit(None), request, reply)
            return reply

        return answer

    def _fill_member(self, member_id: int, member: Member, reply: pdpb_pb2.Member) -> None:
        reply.name = member.name
        reply.member_id = member_id
        reply.peer_urls.append(member.client_url)
        reply.client_urls.append(member.client_url)
        reply.binary_version = MEMBER_VERSION

    async def _get_members(self, request: pdpb_pb2.GetMembersRequest, call: Call) -> pdpb_pb2.GetMembersResponse:
        """Answered by every member, to anybody: this is how a client learns the cluster id and the leader."""
        cluster_id = self._membership.cluster_id()
        if not cluster_id:
            raise RpcError(Code.UNAVAILABLE, "server not started")
        reply = pdpb_pb2.GetMembersResponse(header=pdpb_pb2.ResponseHeader(cluster_id=cluster_id))
        leader_id = self._membership.leader_id()
        for member_id, member in self._membership.members:
            self._fill_member(member_id, member, reply.members.add())
            if member_id == leader_id:
                self._fill_member(member_id, member, reply.leader)
                self._fill_member(member_id, member, reply.etcd_leader)
        if not leader_id:
            raise RpcError(Code.UNAVAILABLE, "no leader")
        return reply

    async def _etcd_members(
        self, request: etcdserverpb_pb2.MemberListRequest, call: Call
    ) -> etcdserverpb_pb2.MemberListResponse:
        """The members, as clients of etcd ask for them: every member tells."""
        reply = etcdserverpb_pb2.MemberListResponse()
        reply.header.cluster_id = self._membership.cluster_id()
        for member_id, member in self._membership.members:
            urls = [member.client_url]
            reply.members.add(ID=member_id, name=member.name, peerURLs=urls, clientURLs=urls)
        return reply

    async def _list_members(
        self, lead: Leadership, request: pdraft_pb2.PdAdminRequest, reply: pdraft_pb2.PdMembersResponse
    ) -> None:
        for member_id, member in self._membership.members:
            leads = member_id == self._membership.leader_id()
            reply.members.add(name=member.name, member_id=member_id, client_url=member.client_url, leader=leads)
        reply.term, reply.applied_index = lead.term, lead.replica.applied_index

    async def _transfer_member_leader(
        self, lead: Leadership, request: pdraft_pb2.PdTransferMemberRequest, reply: pdraft_pb2.PdAdminResponse
    ) -> None:
        """Begins to hand the lead on; the caller sees by GetMembers when that is done."""
        others = [
            (member_id, member)
            for member_id, member in self._membership.members
            if member_id != self._membership.leader_id() and request.name in ("", member.name)
        ]
        if not others:
            raise Refused(f"no other member {request.name!r}", pdpb_pb2.ErrorType.ENTRY_NOT_FOUND)
        lead.replica.transfer_leader(others[0][0])

    async def _get_cluster_info(
        self, request: pdpb_pb2.GetClusterInfoRequest, call: Call
    ) -> pdpb_pb2.GetClusterInfoResponse:
        reply = pdpb_pb2.GetClusterInfoResponse(serviceModes=[pdpb_pb2.ServiceMode.PD_SVC_MODE])
        reply.header.cluster_id = self._membership.cluster_id()
        return reply


async def load_keyspace(
    lead: Leadership, request: keyspacepb_pb2.LoadKeyspaceRequest, reply: keyspacepb_pb2.LoadKeyspaceResponse
) -> None:
    """There is one keyspace."""
    if request.name != DEFAULT_KEYSPACE:
        raise Refused(f"keyspace {request.name!r} does not exist", pdpb_pb2.ErrorType.ENTRY_NOT_FOUND)
    reply.keyspace.id = 0
    reply.keyspace.name = DEFAULT_KEYSPACE
    reply.keyspace.state = keyspacepb_pb2.KeyspaceState.ENABLED


def _with_status(handler: StreamHandler) -> StreamHandler:
    """The same handler, with our errors as gRPC statuses."""

    async def answer(requests: Any, call: Call) -> Any:
        replies: Any = handler(requests, call)
        try:
            with _statuses():
                async for reply in replies:
                    yield reply
        except Refused as error:
            raise RpcError(Code.INVALID_ARGUMENT, str(error)) from error
        finally:
            await replies.aclose()

    return answer


@contextmanager
def _statuses() -> Iterator[None]:
    """Turns the loss of leadership into gRPC statuses; the client finds the new leader and tries again."""
    try:
        yield
    except NotLeader:
        raise not_leader() from None
    except Undetermined as error:
        raise RpcError(Code.UNAVAILABLE, str(error)) from error
