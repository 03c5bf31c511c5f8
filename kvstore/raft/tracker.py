"""The leader's view of the group: the configuration, each member's progress, and the votes of an election."""

from __future__ import annotations

from collections.abc import Collection

from kvstore.raft.confchange import Configuration
from kvstore.raft.progress import Progress
from kvstore.raft.quorum import VoteResult, joint_committed, joint_vote, majority_committed
from kvstore.raft.types import NO_ID


class Tracker:
    """Progress of all members. Everything that iterates does so in ascending order of ids."""

    __slots__ = (
        "_incoming",
        "_outgoing",
        "_self_id",
        "conf",
        "max_inflight",
        "peers",
        "progress",
        "voter_ids",
        "votes",
    )

    def __init__(self, self_id: int, max_inflight: int) -> None:
        self._self_id = self_id
        self.max_inflight = max_inflight
        self.progress: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}
        self._publish(Configuration())

    def _publish(self, conf: Configuration) -> None:
        self.conf = conf
        self._incoming = [self.progress[node] for node in sorted(conf.incoming)]
        self._outgoing = [self.progress[node] for node in sorted(conf.outgoing)]
        self.voter_ids = tuple(sorted(conf.voters()))
        self.peers = tuple((node, self.progress[node]) for node in sorted(self.progress) if node != self._self_id)

    def apply(self, conf: Configuration, next_idx: int) -> None:
        """Takes over a configuration; members that are new start at `next_idx`."""
        for node in sorted(conf.members() - self.progress.keys()):
            progress = Progress(next_idx, self.max_inflight)
            # Otherwise check-quorum could depose the leader before the new member had a chance to answer.
            progress.recent_active = True
            self.progress[node] = progress
        for node in self.progress.keys() - conf.members():
            del self.progress[node]
        self._publish(conf)

    def committed(self) -> int:
        """The highest index that a quorum has acknowledged."""
        incoming = [progress.matched for progress in self._incoming]
        if not self._outgoing:
            return majority_committed(incoming)
        return joint_committed(incoming, [progress.matched for progress in self._outgoing])

    def tally(self) -> VoteResult:
        return joint_vote(self.conf.incoming, self.conf.outgoing, self.votes)

    def has_quorum(self, nodes: Collection[int]) -> bool:
        agree = dict.fromkeys(nodes, True)
        return joint_vote(self.conf.incoming, self.conf.outgoing, agree) is VoteResult.WON

    def take_recently_active(self) -> bool:
        """Whether a quorum has been heard of since the last call; starts a new period."""
        active = {self._self_id} | {node for node, progress in self.peers if progress.recent_active}
        for _, progress in self.peers:
            progress.recent_active = False
        return self.has_quorum(active)

    def is_voter(self, node: int) -> bool:
        return node in self.conf.incoming or node in self.conf.outgoing

    def only_voter_is_self(self) -> bool:
        return self.voter_ids == (self._self_id,) and self._self_id != NO_ID
