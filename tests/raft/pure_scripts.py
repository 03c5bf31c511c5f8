"""Script commands over the pure parts: quorums and membership changes."""

from __future__ import annotations

from kvstore.raft import confchange, quorum
from kvstore.raft.errors import ConfChangeError
from kvstore.raft.types import NO_LIMIT, ConfChangeSingle, ConfChangeType
from tests.raft.interaction import conf_text

_KINDS = {"v": ConfChangeType.ADD_NODE, "l": ConfChangeType.ADD_LEARNER, "r": ConfChangeType.REMOVE_NODE}


class ConfChangeScript:
    """simple v1 l2 r3 · joint v1 … [/auto] · leave: each from the configuration before, and prints the next."""

    def __init__(self) -> None:
        self.conf = confchange.Configuration()

    def run_command(self, words: list[str], options: dict[str, str]) -> list[str]:
        changes = [ConfChangeSingle(_KINDS[word[0]], int(word[1:])) for word in words[1:]]
        try:
            match words[0]:
                case "simple":
                    self.conf = confchange.simple(self.conf, changes)
                case "joint":
                    self.conf = confchange.enter_joint(self.conf, "auto" in options, changes)
                case "leave":
                    self.conf = confchange.leave_joint(self.conf)
                case _:
                    raise ValueError(f"unknown command {words[0]!r}")
        except ConfChangeError as error:
            return [f"refused: {error}"]
        return [conf_text(self.conf.to_conf_state())]


class QuorumScript:
    """committed 1=100 2=101 3=_ [/outgoing=1,4] · vote 1=y 2=n 3=_ [/outgoing=…].

    Ids without `=` before are voters that have said nothing; `/outgoing` names the other half, whose acknowledgements
    stand in the same list; `/only=…` takes ids from the list that are of the other half alone.
    """

    def run_command(self, words: list[str], options: dict[str, str]) -> list[str]:
        said = dict(word.partition("=")[::2] for word in words[1:])
        outgoing = [id for id in options.get("outgoing", "").split(",") if id]
        only = options.get("only", "").split(",")
        incoming = [id for id in said if id not in only]
        if words[0] == "committed":
            index = quorum.joint_committed(
                [int(said[id].replace("_", "0")) for id in incoming],
                [int(said[id].replace("_", "0")) for id in outgoing],
            )
            return ["infinite" if index == NO_LIMIT else str(index)]
        votes = {int(id): vote == "y" for id, vote in said.items() if vote != "_"}
        result = quorum.joint_vote([int(id) for id in incoming], [int(id) for id in outgoing], votes)
        return [result.name]
