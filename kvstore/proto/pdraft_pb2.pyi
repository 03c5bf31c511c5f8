from kvstore.proto import eraftpb_pb2 as _eraftpb_pb2
from kvstore.proto import metapb_pb2 as _metapb_pb2
from kvstore.proto import pdpb_pb2 as _pdpb_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PdRuleRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VOTER: _ClassVar[PdRuleRole]
    LEADER: _ClassVar[PdRuleRole]
    FOLLOWER: _ClassVar[PdRuleRole]
    LEARNER: _ClassVar[PdRuleRole]

class PdLabelOp(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IN: _ClassVar[PdLabelOp]
    NOT_IN: _ClassVar[PdLabelOp]
    EXISTS: _ClassVar[PdLabelOp]
    NOT_EXISTS: _ClassVar[PdLabelOp]
VOTER: PdRuleRole
LEADER: PdRuleRole
FOLLOWER: PdRuleRole
LEARNER: PdRuleRole
IN: PdLabelOp
NOT_IN: PdLabelOp
EXISTS: PdLabelOp
NOT_EXISTS: PdLabelOp

class PdChange(_message.Message):
    __slots__ = ("key", "value", "delete")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    delete: bool
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., delete: _Optional[bool] = ...) -> None: ...

class PdCommand(_message.Message):
    __slots__ = ("term", "changes")
    TERM_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    term: int
    changes: _containers.RepeatedCompositeFieldContainer[PdChange]
    def __init__(self, term: _Optional[int] = ..., changes: _Optional[_Iterable[_Union[PdChange, _Mapping]]] = ...) -> None: ...

class PdSnapshot(_message.Message):
    __slots__ = ("pairs",)
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    pairs: _containers.RepeatedCompositeFieldContainer[PdChange]
    def __init__(self, pairs: _Optional[_Iterable[_Union[PdChange, _Mapping]]] = ...) -> None: ...

class PdApplied(_message.Message):
    __slots__ = ("applied_index", "truncated_index", "truncated_term", "conf_state")
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_INDEX_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_TERM_FIELD_NUMBER: _ClassVar[int]
    CONF_STATE_FIELD_NUMBER: _ClassVar[int]
    applied_index: int
    truncated_index: int
    truncated_term: int
    conf_state: _eraftpb_pb2.ConfState
    def __init__(self, applied_index: _Optional[int] = ..., truncated_index: _Optional[int] = ..., truncated_term: _Optional[int] = ..., conf_state: _Optional[_Union[_eraftpb_pb2.ConfState, _Mapping]] = ...) -> None: ...

class PdRaftBatch(_message.Message):
    __slots__ = ("cluster_key", "messages")
    CLUSTER_KEY_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    cluster_key: int
    messages: _containers.RepeatedCompositeFieldContainer[_eraftpb_pb2.Message]
    def __init__(self, cluster_key: _Optional[int] = ..., messages: _Optional[_Iterable[_Union[_eraftpb_pb2.Message, _Mapping]]] = ...) -> None: ...

class PdRaftDone(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PdServiceSafePoint(_message.Message):
    __slots__ = ("safe_point", "expires_ms")
    SAFE_POINT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    safe_point: int
    expires_ms: int
    def __init__(self, safe_point: _Optional[int] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class PdLabelConstraint(_message.Message):
    __slots__ = ("key", "op", "values")
    KEY_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    key: str
    op: PdLabelOp
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, key: _Optional[str] = ..., op: _Optional[_Union[PdLabelOp, str]] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...

class PdRule(_message.Message):
    __slots__ = ("group", "id", "index", "override", "start_key", "end_key", "role", "count", "constraints", "location_labels", "isolation_level")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    START_KEY_FIELD_NUMBER: _ClassVar[int]
    END_KEY_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINTS_FIELD_NUMBER: _ClassVar[int]
    LOCATION_LABELS_FIELD_NUMBER: _ClassVar[int]
    ISOLATION_LEVEL_FIELD_NUMBER: _ClassVar[int]
    group: str
    id: str
    index: int
    override: bool
    start_key: bytes
    end_key: bytes
    role: PdRuleRole
    count: int
    constraints: _containers.RepeatedCompositeFieldContainer[PdLabelConstraint]
    location_labels: _containers.RepeatedScalarFieldContainer[str]
    isolation_level: str
    def __init__(self, group: _Optional[str] = ..., id: _Optional[str] = ..., index: _Optional[int] = ..., override: _Optional[bool] = ..., start_key: _Optional[bytes] = ..., end_key: _Optional[bytes] = ..., role: _Optional[_Union[PdRuleRole, str]] = ..., count: _Optional[int] = ..., constraints: _Optional[_Iterable[_Union[PdLabelConstraint, _Mapping]]] = ..., location_labels: _Optional[_Iterable[str]] = ..., isolation_level: _Optional[str] = ...) -> None: ...

class PdScheduler(_message.Message):
    __slots__ = ("name", "kind", "store_ids", "paused_until_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STORE_IDS_FIELD_NUMBER: _ClassVar[int]
    PAUSED_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    store_ids: _containers.RepeatedScalarFieldContainer[int]
    paused_until_ms: int
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., store_ids: _Optional[_Iterable[int]] = ..., paused_until_ms: _Optional[int] = ...) -> None: ...

class PdOperator(_message.Message):
    __slots__ = ("region_id", "description", "kind", "status", "steps", "step", "created_ms", "finished_ms")
    REGION_ID_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_MS_FIELD_NUMBER: _ClassVar[int]
    region_id: int
    description: str
    kind: str
    status: _pdpb_pb2.OperatorStatus
    steps: _containers.RepeatedScalarFieldContainer[str]
    step: int
    created_ms: int
    finished_ms: int
    def __init__(self, region_id: _Optional[int] = ..., description: _Optional[str] = ..., kind: _Optional[str] = ..., status: _Optional[_Union[_pdpb_pb2.OperatorStatus, str]] = ..., steps: _Optional[_Iterable[str]] = ..., step: _Optional[int] = ..., created_ms: _Optional[int] = ..., finished_ms: _Optional[int] = ...) -> None: ...

class PdConfigItem(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class PdStoreStatus(_message.Message):
    __slots__ = ("store", "stats", "state_name", "leader_count", "region_count", "leader_size_mib", "region_size_mib", "leader_weight", "region_weight")
    STORE_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    STATE_NAME_FIELD_NUMBER: _ClassVar[int]
    LEADER_COUNT_FIELD_NUMBER: _ClassVar[int]
    REGION_COUNT_FIELD_NUMBER: _ClassVar[int]
    LEADER_SIZE_MIB_FIELD_NUMBER: _ClassVar[int]
    REGION_SIZE_MIB_FIELD_NUMBER: _ClassVar[int]
    LEADER_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    REGION_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    store: _metapb_pb2.Store
    stats: _pdpb_pb2.StoreStats
    state_name: str
    leader_count: int
    region_count: int
    leader_size_mib: int
    region_size_mib: int
    leader_weight: float
    region_weight: float
    def __init__(self, store: _Optional[_Union[_metapb_pb2.Store, _Mapping]] = ..., stats: _Optional[_Union[_pdpb_pb2.StoreStats, _Mapping]] = ..., state_name: _Optional[str] = ..., leader_count: _Optional[int] = ..., region_count: _Optional[int] = ..., leader_size_mib: _Optional[int] = ..., region_size_mib: _Optional[int] = ..., leader_weight: _Optional[float] = ..., region_weight: _Optional[float] = ...) -> None: ...

class PdMember(_message.Message):
    __slots__ = ("name", "member_id", "client_url", "leader")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_URL_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    name: str
    member_id: int
    client_url: str
    leader: bool
    def __init__(self, name: _Optional[str] = ..., member_id: _Optional[int] = ..., client_url: _Optional[str] = ..., leader: _Optional[bool] = ...) -> None: ...

class PdAdminRequest(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.RequestHeader
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.RequestHeader, _Mapping]] = ...) -> None: ...

class PdAdminResponse(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.ResponseHeader
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.ResponseHeader, _Mapping]] = ...) -> None: ...

class PdMembersResponse(_message.Message):
    __slots__ = ("header", "members", "term", "applied_index")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.ResponseHeader
    members: _containers.RepeatedCompositeFieldContainer[PdMember]
    term: int
    applied_index: int
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.ResponseHeader, _Mapping]] = ..., members: _Optional[_Iterable[_Union[PdMember, _Mapping]]] = ..., term: _Optional[int] = ..., applied_index: _Optional[int] = ...) -> None: ...

class PdStoresResponse(_message.Message):
    __slots__ = ("header", "stores")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    STORES_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.ResponseHeader
    stores: _containers.RepeatedCompositeFieldContainer[PdStoreStatus]
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.ResponseHeader, _Mapping]] = ..., stores: _Optional[_Iterable[_Union[PdStoreStatus, _Mapping]]] = ...) -> None: ...

class PdStoreRequest(_message.Message):
    __slots__ = ("header", "store_id")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.RequestHeader
    store_id: int
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.RequestHeader, _Mapping]] = ..., store_id: _Optional[int] = ...) -> None: ...

class PdSetStoreStateRequest(_message.Message):
    __slots__ = ("header", "store_id", "state", "physically_destroyed")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PHYSICALLY_DESTROYED_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.RequestHeader
    store_id: int
    state: _metapb_pb2.StoreState
    physically_destroyed: bool
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.RequestHeader, _Mapping]] = ..., store_id: _Optional[int] = ..., state: _Optional[_Union[_metapb_pb2.StoreState, str]] = ..., physically_destroyed: _Optional[bool] = ...) -> None: ...

class PdStoreLabelsRequest(_message.Message):
    __slots__ = ("header", "store_id", "labels")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.RequestHeader
    store_id: int
    labels: _containers.RepeatedCompositeFieldContainer[_metapb_pb2.StoreLabel]
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.RequestHeader, _Mapping]] = ..., store_id: _Optional[int] = ..., labels: _Optional[_Iterable[_Union[_metapb_pb2.StoreLabel, _Mapping]]] = ...) -> None: ...

class PdStoreWeightRequest(_message.Message):
    __slots__ = ("header", "store_id", "leader_weight", "region_weight")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    LEADER_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    REGION_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.RequestHeader
    store_id: int
    leader_weight: float
    region_weight: float
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.RequestHeader, _Mapping]] = ..., store_id: _Optional[int] = ..., leader_weight: _Optional[float] = ..., region_weight: _Optional[float] = ...) -> None: ...

class PdOperatorsResponse(_message.Message):
    __slots__ = ("header", "operators")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.ResponseHeader
    operators: _containers.RepeatedCompositeFieldContainer[PdOperator]
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.ResponseHeader, _Mapping]] = ..., operators: _Optional[_Iterable[_Union[PdOperator, _Mapping]]] = ...) -> None: ...

class PdTransferLeader(_message.Message):
    __slots__ = ("store_id",)
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    store_id: int
    def __init__(self, store_id: _Optional[int] = ...) -> None: ...

class PdAddPeer(_message.Message):
    __slots__ = ("store_id", "learner")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    store_id: int
    learner: bool
    def __init__(self, store_id: _Optional[int] = ..., learner: _Optional[bool] = ...) -> None: ...

class PdRemovePeer(_message.Message):
    __slots__ = ("store_id",)
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    store_id: int
    def __init__(self, store_id: _Optional[int] = ...) -> None: ...

class PdTransferPeer(_message.Message):
    __slots__ = ("from_store_id", "to_store_id")
    FROM_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    TO_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    from_store_id: int
    to_store_id: int
    def __init__(self, from_store_id: _Optional[int] = ..., to_store_id: _Optional[int] = ...) -> None: ...

class PdSplit(_message.Message):
    __slots__ = ("policy", "keys")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    policy: _pdpb_pb2.CheckPolicy
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, policy: _Optional[_Union[_pdpb_pb2.CheckPolicy, str]] = ..., keys: _Optional[_Iterable[bytes]] = ...) -> None: ...

class PdMerge(_message.Message):
    __slots__ = ("target_region_id",)
    TARGET_REGION_ID_FIELD_NUMBER: _ClassVar[int]
    target_region_id: int
    def __init__(self, target_region_id: _Optional[int] = ...) -> None: ...

class PdScatter(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PdAddOperatorRequest(_message.Message):
    __slots__ = ("header", "region_id", "transfer_leader", "add_peer", "remove_peer", "transfer_peer", "split", "merge", "scatter")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    REGION_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_LEADER_FIELD_NUMBER: _ClassVar[int]
    ADD_PEER_FIELD_NUMBER: _ClassVar[int]
    REMOVE_PEER_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_PEER_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    MERGE_FIELD_NUMBER: _ClassVar[int]
    SCATTER_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.RequestHeader
    region_id: int
    transfer_leader: PdTransferLeader
    add_peer: PdAddPeer
    remove_peer: PdRemovePeer
    transfer_peer: PdTransferPeer
    split: PdSplit
    merge: PdMerge
    scatter: PdScatter
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.RequestHeader, _Mapping]] = ..., region_id: _Optional[int] = ..., transfer_leader: _Optional[_Union[PdTransferLeader, _Mapping]] = ..., add_peer: _Optional[_Union[PdAddPeer, _Mapping]] = ..., remove_peer: _Optional[_Union[PdRemovePeer, _Mapping]] = ..., transfer_peer: _Optional[_Union[PdTransferPeer, _Mapping]] = ..., split: _Optional[_Union[PdSplit, _Mapping]] = ..., merge: _Optional[_Union[PdMerge, _Mapping]] = ..., scatter: _Optional[_Union[PdScatter, _Mapping]] = ...) -> None: ...

class PdRegionRequest(_message.Message):
    __slots__ = ("header", "region_id")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    REGION_ID_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.RequestHeader
    region_id: int
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.RequestHeader, _Mapping]] = ..., region_id: _Optional[int] = ...) -> None: ...

class PdSchedulersResponse(_message.Message):
    __slots__ = ("header", "schedulers")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SCHEDULERS_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.ResponseHeader
    schedulers: _containers.RepeatedCompositeFieldContainer[PdScheduler]
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.ResponseHeader, _Mapping]] = ..., schedulers: _Optional[_Iterable[_Union[PdScheduler, _Mapping]]] = ...) -> None: ...

class PdSchedulerRequest(_message.Message):
    __slots__ = ("header", "kind", "store_id")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.RequestHeader
    kind: str
    store_id: int
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.RequestHeader, _Mapping]] = ..., kind: _Optional[str] = ..., store_id: _Optional[int] = ...) -> None: ...

class PdPauseSchedulerRequest(_message.Message):
    __slots__ = ("header", "name", "seconds")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.RequestHeader
    name: str
    seconds: int
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.RequestHeader, _Mapping]] = ..., name: _Optional[str] = ..., seconds: _Optional[int] = ...) -> None: ...

class PdConfigResponse(_message.Message):
    __slots__ = ("header", "items")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.ResponseHeader
    items: _containers.RepeatedCompositeFieldContainer[PdConfigItem]
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.ResponseHeader, _Mapping]] = ..., items: _Optional[_Iterable[_Union[PdConfigItem, _Mapping]]] = ...) -> None: ...

class PdSetConfigRequest(_message.Message):
    __slots__ = ("header", "items")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.RequestHeader
    items: _containers.RepeatedCompositeFieldContainer[PdConfigItem]
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.RequestHeader, _Mapping]] = ..., items: _Optional[_Iterable[_Union[PdConfigItem, _Mapping]]] = ...) -> None: ...

class PdRulesResponse(_message.Message):
    __slots__ = ("header", "rules")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.ResponseHeader
    rules: _containers.RepeatedCompositeFieldContainer[PdRule]
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.ResponseHeader, _Mapping]] = ..., rules: _Optional[_Iterable[_Union[PdRule, _Mapping]]] = ...) -> None: ...

class PdSetRulesRequest(_message.Message):
    __slots__ = ("header", "rules")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.RequestHeader
    rules: _containers.RepeatedCompositeFieldContainer[PdRule]
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.RequestHeader, _Mapping]] = ..., rules: _Optional[_Iterable[_Union[PdRule, _Mapping]]] = ...) -> None: ...

class PdTransferMemberRequest(_message.Message):
    __slots__ = ("header", "name")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    header: _pdpb_pb2.RequestHeader
    name: str
    def __init__(self, header: _Optional[_Union[_pdpb_pb2.RequestHeader, _Mapping]] = ..., name: _Optional[str] = ...) -> None: ...
