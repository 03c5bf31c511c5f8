"""Random runs of small groups: figure 3 of the paper holds at every step, and a healed group works again."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.raft.network import Cluster

SEEDS = 60
STEPS = 5000


def make(seed: int) -> Cluster:
    """A group whose settings, too, follow from the seed."""
    return Cluster(
        seed,
        max_size_per_msg=(0, 40, 1 << 20)[seed % 3],
        max_inflight_msgs=(1, 3, 256)[seed // 3 % 3],
        pre_vote=seed % 4 != 0,
        check_quorum=seed % 5 != 0,
        batch_append=seed % 2 == 0,
        skip_bcast_commit=seed % 7 == 0,
        max_committed_size_per_ready=(40, 1 << 20)[seed // 2 % 2],
        lazy_apply=seed % 8 >= 4,
        step_down_on_removal=seed % 6 != 0,
    )


def finish(cluster: Cluster) -> None:
    """Heals the group: it elects a leader, commits, and all its members get everything."""
    cluster.settle()
    cluster.destroy_removed()
    cluster.settle()
    newest = max(cluster.leaders(), key=lambda node: node.raw.term)
    before = cluster.checker.applied_max
    newest.raw.propose(b"", b"last")
    cluster.settle(ticks=10)
    assert cluster.checker.applied_max > before
    for node in newest.raw.members():
        assert cluster.nodes[node].applied == cluster.checker.applied_max, f"node {node} lags for ever"


def test_random_runs_meet_everything() -> None:
    """The runs are worth something only if what they check happens in them."""
    seen: Counter[str] = Counter()
    for seed in range(12):
        cluster = make(seed)
        cluster.run(STEPS)
        seen += cluster.seen
    for what, least in {"leaders": 20, "reads": 40, "snapshots": 10, "joint": 10, "simple": 10}.items():
        assert seen[what] >= least, seen


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_run(seed: int) -> None:
    cluster = make(seed)
    cluster.run(STEPS)
    finish(cluster)
