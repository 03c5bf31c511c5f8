"""The command lines of the subcommands that run or ask a cluster, as typer reads them. Their work is in `shell.nodes`,
`shell.playground` and `shell.ctl`, which are imported when they run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[str | None, typer.Option("--data", metavar="DIR", help="The data directory, made if missing.")]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML; options come first.")]
StatusAddr = Annotated[
    str | None, typer.Option("--status-addr", metavar="HOST:PORT", help="The status port (HTTP); '' for none.")
]
Ca = Annotated[str | None, typer.Option("--ca", metavar="FILE", help="TLS: the authority's certificate (PEM).")]
Cert = Annotated[str | None, typer.Option("--cert", metavar="FILE", help="TLS: our certificate (PEM).")]
Key = Annotated[str | None, typer.Option("--key", metavar="FILE", help="TLS: our private key (PEM).")]
LogLevel = Annotated[str | None, typer.Option("--log-level", help="debug, info, warn, error or fatal.")]
LogFile = Annotated[str | None, typer.Option("--log-file", metavar="FILE", help="Log to FILE, not standard error.")]
LogFormat = Annotated[str | None, typer.Option("--log-format", help="text or json.")]


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
    status_addr: StatusAddr = None,
    config: Config = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    log_level: LogLevel = None,
    log_file: LogFile = None,
    log_format: LogFormat = None,
) -> None:
    """Run a store of a cluster: TiKV's service over replicated regions."""
    from shell.nodes.kv import run

    given = {
        "data-dir": data,
        "addr": addr,
        "advertise-addr": advertise_addr,
        "pd-endpoints": None if pd is None else pd.split(","),
        "labels": None if labels is None else _pairs(labels, "--labels"),
        "status-addr": status_addr,
        **_shared(ca, cert, key, log_level, log_file, log_format),
    }
    raise typer.Exit(run(config, given))


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
    status_addr: StatusAddr = None,
    config: Config = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    log_level: LogLevel = None,
    log_file: LogFile = None,
    log_format: LogFormat = None,
) -> None:
    """Run a placement driver of a cluster: timestamps, regions, and where they are."""
    from shell.nodes.pd import run

    given = {
        "data-dir": data,
        "name": name,
        "client-addr": client_addr,
        "advertise-client-addr": advertise_client_addr,
        "initial-cluster": initial_cluster,
        "status-addr": status_addr,
        **_shared(ca, cert, key, log_level, log_file, log_format),
    }
    raise typer.Exit(run(config, given))


def playground(
    kv: Annotated[int, typer.Option("--kv", min=1, help="How many stores.")] = 3,
    pd: Annotated[int, typer.Option("--pd", min=1, help="How many placement drivers.")] = 1,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Keep the data there; else it is removed at the end.")
    ] = None,
    base_port: Annotated[
        int | None, typer.Option("--base-port", help="Use consecutive ports from here on, not the usual ones.")
    ] = None,
) -> None:
    """Run a whole cluster on this machine until Ctrl-C."""
    from shell.playground import run

    raise typer.Exit(run(kv, pd, data, base_port))


def _shared(
    ca: str | None, cert: str | None, key: str | None, level: str | None, file: str | None, format: str | None
) -> dict[str, Any]:
    return {
        "security.ca-path": ca,
        "security.cert-path": cert,
        "security.key-path": key,
        "log.level": level,
        "log.file": file,
        "log.format": format,
    }


def _pairs(text: str, option: str) -> dict[str, str]:
    """`zone=z1,host=h1` as a table."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not name or not equals or not value or name in found:
            raise typer.BadParameter(f"{part!r} is not name=value", param_hint=option)
        found[name] = value
    return found
