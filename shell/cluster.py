"""The command lines of the subcommands that run or ask a cluster, as typer reads them. Their work is in `shell.nodes`,
`shell.playground` and `shell.ctl`, which are imported when they run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

Run = Callable[[Path | None, Mapping[str, object]], int]
"""A process of these settings: a file's, and what was given on the command line. Returns the exit code."""

Data = Annotated[str | None, typer.Option("--data", metavar="DIR", help="The data directory, made if missing.")]


def _run_with_shared(
    run: Run,
    own: Mapping[str, object],
    status_addr: Annotated[
        str | None, typer.Option("--status-addr", metavar="HOST:PORT", help="The status port (HTTP); '' for none.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML; options come first.")
    ] = None,
    ca: Annotated[
        str | None, typer.Option("--ca", metavar="FILE", help="TLS: the authority's certificate (PEM).")
    ] = None,
    cert: Annotated[str | None, typer.Option("--cert", metavar="FILE", help="TLS: our certificate (PEM).")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="FILE", help="TLS: our private key (PEM).")] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help="debug, info, warn, error or fatal.")] = None,
    log_file: Annotated[
        str | None, typer.Option("--log-file", metavar="FILE", help="Log to FILE, not standard error.")
    ] = None,
    log_format: Annotated[str | None, typer.Option("--log-format", help="text or json.")] = None,
) -> None:
    """Runs a process with its own settings and those that all kinds have."""
    shared = {
        "status-addr": status_addr,
        "security.ca-path": ca,
        "security.cert-path": cert,
        "security.key-path": key,
        "log.level": log_level,
        "log.file": log_file,
        "log.format": log_format,
    }
    raise typer.Exit(run(config, {**own, **shared}))


def _process(own: Callable[..., tuple[Run, Mapping[str, object]]]) -> Callable[..., None]:
    """The command of a process, which takes its own options and, after them, those of `_run_with_shared`."""
    shared = list(inspect.signature(_run_with_shared, eval_str=True).parameters.values())[2:]
    parameters = [*inspect.signature(own, eval_str=True).parameters.values(), *shared]

    def command(**options: Any) -> None:
        given = {one.name: options.pop(one.name) for one in shared}
        _run_with_shared(*own(**options), **given)

    # what typer reads of a function
    vars(command)["__signature__"] = inspect.Signature(parameters)
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__doc__ = own.__doc__
    return command


@_process
def kv(
    data: Data = None,
    addr: Annotated[str | None, typer.Option("--addr", metavar="HOST:PORT", help="Where it serves (gRPC).")] = None,
    pd: Annotated[str | None, typer.Option("--pd", metavar="HOST:PORT,…", help="The placement drivers.")] = None,
    advertise_addr: Annotated[
        str | None, typer.Option("--advertise-addr", metavar="HOST:PORT", help="The address others are told.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="K=V,…", help="Where the machine stands: zone=z1,host=h1.")
    ] = None,
    columnar: Annotated[
        bool, typer.Option("--columnar", help="Hold columnar replicas, for analytic queries, and nothing else.")
    ] = False,
) -> tuple[Run, Mapping[str, object]]:
    """Run a store of a cluster: TiKV's service over replicated regions."""
    from shell.nodes.kv import run

    return run, {
        "data-dir": data,
        "addr": addr,
        "advertise-addr": advertise_addr,
        "pd-endpoints": None if pd is None else pd.split(","),
        "labels": None if labels is None else _pairs(labels, "--labels"),
        "columnar": columnar or None,
    }


@_process
def pd(
    data: Data = None,
    client_addr: Annotated[
        str | None, typer.Option("--client-addr", metavar="HOST:PORT", help="Where it serves (gRPC).")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Its name in the initial cluster.")] = None,
    initial_cluster: Annotated[
        str | None, typer.Option("--initial-cluster", metavar="NAME=URL,…", help="All placement drivers.")
    ] = None,
    advertise_client_addr: Annotated[
        str | None, typer.Option("--advertise-client-addr", metavar="HOST:PORT", help="The address others are told.")
    ] = None,
) -> tuple[Run, Mapping[str, object]]:
    """Run a placement driver of a cluster: timestamps, regions, and where they are."""
    from shell.nodes.pd import run

    return run, {
        "data-dir": data,
        "name": name,
        "client-addr": client_addr,
        "advertise-client-addr": advertise_client_addr,
        "initial-cluster": initial_cluster,
    }


@_process
def db(
    pd: Annotated[str | None, typer.Option("--pd", metavar="HOST:PORT,…", help="The placement drivers.")] = None,
) -> tuple[Run, Mapping[str, object]]:
    """Run a SQL server of a cluster: the schema lease and its duties; no port for SQL yet."""
    from shell.nodes.db import run

    return run, {"pd-endpoints": None if pd is None else pd.split(",")}


def playground(
    kv: Annotated[int, typer.Option("--kv", min=1, help="How many stores.")] = 3,
    pd: Annotated[int, typer.Option("--pd", min=1, help="How many placement drivers.")] = 1,
    db: Annotated[int, typer.Option("--db", min=0, help="How many SQL servers.")] = 1,
    columnar: Annotated[int, typer.Option("--columnar", min=0, help="How many stores of columnar replicas.")] = 0,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Keep the data there; else it is removed at the end.")
    ] = None,
    base_port: Annotated[
        int | None, typer.Option("--base-port", help="Use consecutive ports from here on, not the usual ones.")
    ] = None,
) -> None:
    """Run a whole cluster on this machine until Ctrl-C."""
    from shell.playground import run

    raise typer.Exit(run(kv, pd, db, columnar, data, base_port))


def _pairs(text: str, option: str) -> dict[str, str]:
    """`zone=z1,host=h1` as a table."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not name or not equals or not value or name in found:
            raise typer.BadParameter(f"{part!r} is not name=value", param_hint=option)
        found[name] = value
    return found
