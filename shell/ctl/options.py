"""The command line of `sqlfront ctl`: options of the connection first, then a command with its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kvstore.proto import pdraft_pb2 as pb
from shell.ctl import ask, steer
from shell.ctl.keys import Key
from shell.ctl.session import EXIT_FAILED, Command, CtlError, Target, run

Region = Annotated[int, typer.Argument(metavar="REGION", min=1)]
StoreId = Annotated[int, typer.Argument(metavar="STORE", min=1)]
KeyText = Annotated[str, typer.Argument(metavar="KEY", help="A key of the user; text, or hexadecimal with --hex.")]
Hex = Annotated[bool, typer.Option("--hex", help="Keys are hexadecimal.")]
Kind = Annotated[
    Literal["txn", "raw", "encoded"], typer.Option("--kind", help="Keys of transactions, raw keys, or region bounds.")
]


def make_app(settings: dict[str, Any]) -> typer.Typer:
    """The app with all commands."""
    app = _group(settings, "Ask a cluster and steer it.")
    app.callback(context_settings=settings)(_connection)
    for name, function in _COMMANDS.items():
        app.command(name, context_settings=settings)(function)
    for name, (text, listing, functions) in _GROUPS.items():
        group = _group(settings, text)
        group.callback(invoke_without_command=True, context_settings=settings)(_listing(listing, text))
        for command, function in functions.items():
            group.command(command, context_settings=settings)(function)
        app.add_typer(group, name=name)
    return app


def _group(settings: dict[str, Any], text: str) -> typer.Typer:
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help=text,
        context_settings=settings,
    )


def _connection(
    context: typer.Context,
    pd: Annotated[
        str, typer.Option("--pd", metavar="HOST:PORT,…", help="The placement drivers.", envvar="SQLFRONT_PD")
    ] = "127.0.0.1:2379",
    format: Annotated[Literal["table", "json"], typer.Option("--format", "-f", help="How it is printed.")] = "table",
    ca: Annotated[str, typer.Option("--ca", metavar="FILE", help="TLS: the authority's certificate (PEM).")] = "",
    cert: Annotated[str, typer.Option("--cert", metavar="FILE", help="TLS: our certificate (PEM).")] = "",
    key: Annotated[str, typer.Option("--key", metavar="FILE", help="TLS: our private key (PEM).")] = "",
) -> None:
    """Ask a cluster and steer it."""
    context.obj = Target(pd, format, ca, cert, key)


def _do(context: typer.Context, command: Command) -> None:
    raise typer.Exit(run(context.find_root().obj, command))


def _listing(command: Command, text: str) -> Callable[..., None]:
    def listing(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            _do(context, command)

    listing.__doc__ = text
    return listing


def members(context: typer.Context) -> None:
    """The placement drivers, and who leads."""
    _do(context, steer.members)


def transfer_member(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Who is to lead; any other by default.")] = ""
) -> None:
    """Let another placement driver lead."""
    _do(context, steer.transfer_member(name))


def stores(context: typer.Context) -> None:
    """All stores with what they hold."""
    _do(context, steer.stores)


def store(context: typer.Context, store_id: StoreId) -> None:
    """One store with all that is known of it."""
    _do(context, steer.store(store_id))


def store_state(context: typer.Context, store_id: StoreId) -> None:
    """What a store says of itself at its status port."""
    _do(context, ask.store_state(store_id))


def store_set(
    context: typer.Context,
    store_id: StoreId,
    state: Annotated[Literal["up", "offline", "tombstone"], typer.Argument(help="Back, out, or buried.")],
    physically_destroyed: Annotated[
        bool, typer.Option("--physically-destroyed", help="The machine is lost: its address may be used again.")
    ] = False,
) -> None:
    """Take a store out of the cluster (offline), back (up), or bury it (tombstone)."""
    _do(context, steer.set_store_state(store_id, state, physically_destroyed))


def store_labels(
    context: typer.Context,
    store_id: StoreId,
    labels: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="As zone=z1.")],
) -> None:
    """Add labels to a store, or change them."""
    pairs = [label.partition("=") for label in labels]
    if not all(name and value for name, _, value in pairs):
        raise typer.BadParameter("labels are written name=value")
    _do(context, steer.set_store_labels(store_id, {name: value for name, _, value in pairs}))


def store_weight(
    context: typer.Context,
    store_id: StoreId,
    leader: Annotated[float, typer.Argument(min=0)],
    region: Annotated[float, typer.Argument(min=0)],
) -> None:
    """How much of leaders and regions a store is to have, against 1 of others."""
    _do(context, steer.set_store_weight(store_id, leader, region))


def regions(
    context: typer.Context,
    start: Annotated[str | None, typer.Option("--start", metavar="KEY", help="From the region of KEY on.")] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="KEY", help="Up to KEY.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 100,
    hex: Hex = False,
    kind: Kind = "txn",
) -> None:
    """Regions in the order of their keys."""
    bounds = [None if text is None else Key(text, hex, kind) for text in (start, end)]
    _do(context, ask.regions(bounds[0], bounds[1], limit))


def region(context: typer.Context, region_id: Region) -> None:
    """One region."""
    _do(context, ask.region(region_id))


def region_by_key(context: typer.Context, key: KeyText, hex: Hex = False, kind: Kind = "txn") -> None:
    """The region that holds a key."""
    _do(context, ask.region_by_key(Key(key, hex, kind)))


def tso(
    context: typer.Context,
    timestamp: Annotated[int | None, typer.Argument(min=0, help="Say what it means; else draw a fresh one.")] = None,
) -> None:
    """A fresh timestamp, or what a given one means."""
    _do(context, ask.tso(timestamp))


def gc_safe_point(
    context: typer.Context,
    update: Annotated[int | None, typer.Option("--update", min=1, help="Move it up to this timestamp.")] = None,
) -> None:
    """The timestamp below which old versions may be gone."""
    _do(context, ask.gc_safe_point(update))


def mvcc(context: typer.Context, key: KeyText, hex: Hex = False) -> None:
    """The lock, the commits and the values of a key of transactions."""
    _do(context, ask.mvcc(Key(key, hex)))


def add_transfer_leader(context: typer.Context, region_id: Region, store_id: StoreId) -> None:
    """Let the peer on STORE lead."""
    told = pb.PdTransferLeader(store_id=store_id)
    _do(context, steer.add_operator(pb.PdAddOperatorRequest(region_id=region_id, transfer_leader=told)))


def add_peer(
    context: typer.Context,
    region_id: Region,
    store_id: StoreId,
    learner: Annotated[bool, typer.Option("--learner", help="One that does not vote.")] = False,
) -> None:
    """Add a peer on STORE."""
    told = pb.PdAddPeer(store_id=store_id, learner=learner)
    _do(context, steer.add_operator(pb.PdAddOperatorRequest(region_id=region_id, add_peer=told)))


def remove_peer(context: typer.Context, region_id: Region, store_id: StoreId) -> None:
    """Remove the peer on STORE."""
    told = pb.PdRemovePeer(store_id=store_id)
    _do(context, steer.add_operator(pb.PdAddOperatorRequest(region_id=region_id, remove_peer=told)))


def transfer_peer(
    context: typer.Context,
    region_id: Region,
    from_store: Annotated[int, typer.Argument(min=1)],
    to_store: Annotated[int, typer.Argument(min=1)],
) -> None:
    """Move a peer from one store to another."""
    told = pb.PdTransferPeer(from_store_id=from_store, to_store_id=to_store)
    _do(context, steer.add_operator(pb.PdAddOperatorRequest(region_id=region_id, transfer_peer=told)))


def split(
    context: typer.Context,
    region_id: Region,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY...", help="Where; else in the middle.")] = None,
    hex: Hex = False,
    kind: Kind = "txn",
) -> None:
    """Split a region."""
    _do(context, steer.split(region_id, [Key(key, hex, kind) for key in keys or ()]))


def merge(
    context: typer.Context, region_id: Region, target: Annotated[int, typer.Argument(metavar="TARGET", min=1)]
) -> None:
    """Merge a region into its neighbour TARGET."""
    told = pb.PdMerge(target_region_id=target)
    _do(context, steer.add_operator(pb.PdAddOperatorRequest(region_id=region_id, merge=told)))


def scatter(context: typer.Context, region_id: Region) -> None:
    """Move a region's peers and leader to stores that have few."""
    _do(context, steer.add_operator(pb.PdAddOperatorRequest(region_id=region_id, scatter=pb.PdScatter())))


def remove_operator(context: typer.Context, region_id: Region) -> None:
    """Cancel what is under way for a region."""
    _do(context, steer.remove_operator(region_id))


def add_scheduler(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="balance-leader, balance-region, hot-region, evict-leader, …")],
    store_id: Annotated[int | None, typer.Option("--store", min=1, help="The store it is about.")] = None,
) -> None:
    """Start a scheduler."""
    _do(context, steer.add_scheduler(kind, store_id or 0))


def remove_scheduler(context: typer.Context, name: str) -> None:
    """End a scheduler."""
    _do(context, steer.remove_scheduler(name))


def pause_scheduler(context: typer.Context, name: str, seconds: Annotated[int, typer.Argument(min=1)]) -> None:
    """Hold a scheduler for so long."""
    _do(context, steer.pause_scheduler(name, seconds))


def resume_scheduler(context: typer.Context, name: str) -> None:
    """Let a held scheduler go on."""
    _do(context, steer.pause_scheduler(name, 0))


def set_config(context: typer.Context, name: str, value: str) -> None:
    """Change a value of placement for all members."""
    _do(context, steer.set_config(name, value))


def set_rules(context: typer.Context, file: Annotated[Path, typer.Argument(help="JSON: a list of rules.")]) -> None:
    """Set the rules of a file; one with count 0 is removed."""
    try:
        command = steer.set_rules(file)
    except CtlError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from error
    _do(context, command)


_COMMANDS: dict[str, Callable[..., None]] = {
    "members": members,
    "member-transfer": transfer_member,
    "stores": stores,
    "store": store,
    "store-state": store_state,
    "store-set": store_set,
    "store-labels": store_labels,
    "store-weight": store_weight,
    "regions": regions,
    "region": region,
    "region-by-key": region_by_key,
    "tso": tso,
    "gc-safe-point": gc_safe_point,
    "mvcc": mvcc,
}

_GROUPS: dict[str, tuple[str, Command, dict[str, Callable[..., None]]]] = {
    "operators": (
        "Operators under way and those that ended lately; or add and remove some.",
        steer.operators,
        {
            "add-transfer-leader": add_transfer_leader,
            "add-peer": add_peer,
            "add-remove-peer": remove_peer,
            "add-transfer-peer": transfer_peer,
            "add-split": split,
            "add-merge": merge,
            "add-scatter": scatter,
            "remove": remove_operator,
        },
    ),
    "scheduler": (
        "The schedulers; or add, remove, pause and resume one.",
        steer.schedulers,
        {
            "add": add_scheduler,
            "remove": remove_scheduler,
            "pause": pause_scheduler,
            "resume": resume_scheduler,
        },
    ),
    "config": ("How placement is done; or set a value.", steer.config, {"set": set_config}),
    "rules": ("The placement rules; or set them from a file.", steer.rules, {"set": set_rules}),
}
