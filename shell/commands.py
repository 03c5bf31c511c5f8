"""The backslash commands: a registry of functions with their usage and help, which `\\?` and completion read.

To add a command, write a function of a runner and an argument and decorate it. What needs a terminal asks for
`interactive`.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from shell.output import FileOutput, StandardOutput
from shell.pager import PAGER_OFF, default_pager
from shell.render import FORMATS
from shell.runner import Runner, ScriptFailed, ShellError
from shell.text import one_line

WATCH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class BackslashCommand:
    """One command. `argument` tells completion what to offer: "table", "database", "path", "format", "topic" or ""."""

    name: str
    usage: str
    help: str
    run: Callable[[Runner, str], None]
    argument: str = ""


COMMANDS: dict[str, BackslashCommand] = {}

_Function = Callable[[Runner, str], None]


def command(name: str, usage: str, help: str, argument: str = "") -> Callable[[_Function], _Function]:
    """Registers a function as a backslash command."""

    def register(function: _Function) -> _Function:
        COMMANDS[name] = BackslashCommand(name, usage, help, function, argument)
        return function

    return register


def run_command(runner: Runner, text: str) -> None:
    """Runs a line such as `\\d flights`; a semicolon at its end is forgiven."""
    name, _, argument = text.rstrip(";").rstrip().partition(" ")
    found = COMMANDS.get(name)
    if found is None:
        if name in ("\\g", "\\G"):
            raise ShellError(f"there is no statement before {name}")
        raise ShellError(f"unknown command {name!r}; \\? lists the commands")
    found.run(runner, argument.strip())


def quote_name(name: str) -> str:
    """Returns an identifier in backticks."""
    return "`" + name.replace("`", "``") + "`"


def quote_text(text: str) -> str:
    """Returns a string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def table_name(argument: str) -> tuple[str, str]:
    """Returns the database (empty: the current one) and the table of `t`, `db.t`, `` `t` `` or `` `db`.`t` ``."""
    parts: list[str] = []
    rest = argument.strip()
    while rest and len(parts) < 2:
        if rest.startswith("`"):
            end = 1
            while end < len(rest) and (rest[end] != "`" or rest[end : end + 2] == "``"):
                end += 2 if rest[end] == "`" else 1
            parts.append(rest[1:end].replace("``", "`"))
            rest = rest[end + 1 :]
        else:
            part, _, _ = rest.partition(".")
            parts.append(part)
            rest = rest[len(part) :]
        if rest.startswith("."):
            rest = rest[1:]
        elif rest:
            break
    if rest or not parts or not all(parts):
        raise ShellError(f"{argument!r} is no table name")
    return ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])


def _qualified(argument: str) -> str:
    database, table = table_name(argument)
    return f"{quote_name(database)}.{quote_name(table)}" if database else quote_name(table)


def _indexes_of(argument: str) -> str:
    """Returns the query for a table's indexes: SHOW INDEX has fifteen columns, too wide for most terminals."""
    database, table = table_name(argument)
    schema = quote_text(database.lower()) if database else "LOWER(DATABASE())"
    return (
        "SELECT index_name, non_unique, seq_in_index, column_name FROM information_schema.statistics"
        f" WHERE LOWER(table_schema) = {schema} AND LOWER(table_name) = {quote_text(table.lower())}"
        " ORDER BY index_name, seq_in_index"
    )


def _switch(argument: str, now: bool) -> bool:
    if argument not in ("", "on", "off"):
        raise ShellError(f"{argument!r} is neither on nor off")
    return not now if argument == "" else argument == "on"


def _require(argument: str, what: str) -> str:
    if not argument:
        raise ShellError(f"{what} is missing")
    return argument


@command("\\?", "\\?", "list the commands")
def _help(runner: Runner, argument: str) -> None:
    cells = max(len(c.usage) for c in COMMANDS.values())
    lines = [f"  {c.usage.ljust(cells)}  {c.help}\n" for c in COMMANDS.values()]
    ends = [("; or \\g", "runs the statement"), ("\\G", "runs it and shows one column per line")]
    lines += [f"  {usage.ljust(cells)}  {text}\n" for usage, text in ends]
    runner.say("".join(lines))


@command("\\h", "\\h [STATEMENT]", "short help on SQL", "topic")
def _sql_help(runner: Runner, argument: str) -> None:
    from shell.sqlhelp import help_text

    runner.say(help_text(argument))


@command("\\q", "\\q", "leave (so do exit, quit and Ctrl-D)")
def _quit(runner: Runner, argument: str) -> None:
    runner.leaving = True


@command("\\d", "\\d [TABLE]", "describe a table and its indexes, or a view, or list both", "table")
def _describe(runner: Runner, argument: str) -> None:
    if not argument:
        runner.run_sql("SHOW FULL TABLES")
        return
    runner.run_sql(f"DESCRIBE {_qualified(argument)}")
    indexes = _indexes_of(argument)
    if runner.session.query(indexes):
        runner.run_sql(indexes)


@command("\\d+", "\\d+ TABLE", "the statement that creates a table or view", "table")
def _show_create(runner: Runner, argument: str) -> None:
    rows = runner.session.query(f"SHOW CREATE TABLE {_qualified(_require(argument, 'the table'))}")
    runner.say("".join(f"{row[1]};\n" for row in rows))


@command("\\dt", "\\dt", "list the tables and views")
def _tables(runner: Runner, argument: str) -> None:
    runner.run_sql("SHOW FULL TABLES")


@command("\\dv", "\\dv", "list the views")
def _views(runner: Runner, argument: str) -> None:
    runner.run_sql("SHOW FULL TABLES WHERE Table_type = 'VIEW'")


@command("\\di", "\\di [TABLE]", "list the indexes of a table, or of the current database", "table")
def _indexes(runner: Runner, argument: str) -> None:
    if argument:
        runner.run_sql(_indexes_of(argument))
        return
    runner.run_sql(
        "SELECT table_name, index_name, non_unique, seq_in_index, column_name FROM information_schema.statistics"
        " WHERE table_schema = DATABASE() ORDER BY table_name, index_name, seq_in_index"
    )


@command("\\l", "\\l", "list the databases")
def _databases(runner: Runner, argument: str) -> None:
    runner.run_sql("SHOW DATABASES")


@command("\\u", "\\u DATABASE", "use a database", "database")
def _use(runner: Runner, argument: str) -> None:
    name = _require(argument, "the database").strip("`")
    runner.run_sql(f"USE {quote_name(name)}")


@command("\\c", "\\c PATH", "close this database and open another", "path")
def _connect(runner: Runner, argument: str) -> None:
    path = os.path.expanduser(_require(argument, "the path"))
    before = runner.session
    runner.session = before.another(path)
    before.close()
    if runner.on_schema_change is not None:
        runner.on_schema_change()


@command("\\i", "\\i FILE", "run the statements of a file", "path")
def _include(runner: Runner, argument: str) -> None:
    if not runner.run_file(os.path.expanduser(_require(argument, "the file"))):
        raise ScriptFailed


@command("\\o", "\\o [FILE]", "write results to a file; alone: to the screen again", "path")
def _output(runner: Runner, argument: str) -> None:
    runner.redirect(FileOutput(os.path.expanduser(argument)) if argument else StandardOutput())


@command("\\f", "\\f [FORMAT]", "the format of results; alone: list them", "format")
def _format(runner: Runner, argument: str) -> None:
    if argument:
        if argument not in FORMATS:
            raise ShellError(f"unknown format {argument!r}: it is one of {', '.join(FORMATS)}")
        runner.settings.format = argument
        return
    marks = {name: "*" if name == runner.settings.format else " " for name in FORMATS}
    runner.say("".join(f"{marks[name]} {name.ljust(9)} {text}\n" for name, text in FORMATS.items()))


@command("\\x", "\\x [on|off]", "one column per line, as \\G does once")
def _vertical(runner: Runner, argument: str) -> None:
    runner.settings.vertical = _switch(argument, runner.settings.vertical)
    runner.say(f"vertical output is {'on' if runner.settings.vertical else 'off'}\n")


@command("\\timing", "\\timing [on|off]", "show how long statements take")
def _timing(runner: Runner, argument: str) -> None:
    runner.settings.timing = _switch(argument, runner.settings.timing)
    runner.say(f"timing is {'on' if runner.settings.timing else 'off'}\n")


@command("\\P", "\\P [on|off|COMMAND]", "the pager for long results")
def _pager(runner: Runner, argument: str) -> None:
    if argument == "on" or (not argument and runner.settings.pager == PAGER_OFF):
        runner.settings.pager = default_pager(os.environ)
    else:
        runner.settings.pager = argument or PAGER_OFF
    runner.say(f"the pager is {runner.settings.pager}\n")


@command("\\W", "\\W", "show the warnings of the last statement")
def _warnings(runner: Runner, argument: str) -> None:
    lines = [f"{level} {code}: {one_line(message)}\n" for level, code, message in runner.warnings]
    runner.say("".join(lines) or "no warnings\n")


@command("\\s", "\\s", "status: version, database, transaction, settings")
def _status(runner: Runner, argument: str) -> None:
    import sqlfront

    settings = runner.settings
    rows = {
        "sqlfront": sqlfront.__version__,
        "path": runner.session.path,
        "database": runner.session.database or "(none)",
        "transaction": "open" if runner.session.in_transaction else "none",
        "format": "vertical" if settings.vertical else settings.format,
        "timing": "on" if settings.timing else "off",
        "pager": settings.pager,
    }
    runner.say("".join(f"{name + ':':<13}{value}\n" for name, value in rows.items()))


@command("\\e", "\\e [FILE]", "edit the last statement, or a file, and put it at the prompt", "path")
def _edit(runner: Runner, argument: str) -> None:
    if not runner.interactive:
        raise ShellError("\\e needs the interactive shell")
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    if argument:
        path = os.path.expanduser(argument)
        subprocess.run([*editor, path], check=False)
        runner.prefill = _read(path)
        return
    handle, path = tempfile.mkstemp(suffix=".sql", prefix="sqlfront-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"{runner.last.text};\n" if runner.last else "")
        subprocess.run([*editor, path], check=False)
        runner.prefill = _read(path)
    finally:
        os.unlink(path)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().rstrip()


@command("\\w", "\\w [SECONDS]", "run the last statement again and again until Ctrl-C")
def _watch(runner: Runner, argument: str) -> None:
    if runner.last is None:
        raise ShellError("there is no statement to watch yet")
    try:
        seconds = float(argument) if argument else WATCH_SECONDS
    except ValueError:
        raise ShellError(f"{argument!r} is no number of seconds") from None
    if not 0 < seconds < 86400:
        raise ShellError("\\w takes seconds between 0 and 86400")
    while True:
        runner.run_statement(runner.last)
        if runner.wait(seconds):
            return
