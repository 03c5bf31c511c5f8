"""IMPORT INTO: files into an empty table, in bulk; one row of TiDB's SHOW IMPORT JOB as the answer.

After TiDB (`pkg/executor/importer/import.go`): the target has to be empty, an open transaction is refused, options that
nobody knows are an error. What of TiDB's options says how it should go about it (threads, disk quota, ...) is refused.
`checkpoint` is ours: a directory, in a cluster, for a load that can be resumed.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from coprocessor.types import BIGINT, DATETIME6, TEXT, varchar
from sqlfront.errors import DatabaseError, ProgrammingError, error, unsupported
from sqlfront.load import Checkpoint, Loaded, end_clean_transaction, load_into_empty
from sqlfront.load_files import CsvForm, Files, find_files
from sqlfront.parse import ImportInto, ImportOption
from sqlfront.result import Result, ResultColumn, rows_result

if TYPE_CHECKING:
    from sqlfront.session import Session

ER_UNKNOWN_OPTION = 8163
ER_INVALID_OPTION_VALUE = 8164
ER_DUPLICATE_OPTION = 8165
ER_UNSUPPORTED_OPTION = 8166

CHECKPOINT = "checkpoint"
_CHARACTERS = ("fields_terminated_by", "fields_enclosed_by", "fields_escaped_by")
_CSV_OPTIONS = frozenset(
    """
    character_set fields_terminated_by fields_enclosed_by fields_escaped_by fields_defined_null_by lines_terminated_by
    skip_rows
    """.split()
)
_NOT_YET = frozenset(
    """
    split_file disk_quota thread max_write_speed checksum_table record_errors detached disable_tikv_import_mode
    cloud_storage_uri disable_precheck group_key
    """.split()
)
_ENCODINGS = {
    "utf8mb4": "utf8",
    "utf8": "utf8",
    "ascii": "ascii",
    "latin1": "cp1252",
    "gbk": "gbk",
    "gb18030": "gb18030",
}
_COLUMNS = (
    ResultColumn("Job_ID", BIGINT),
    ResultColumn("Data_Source", TEXT),
    ResultColumn("Target_Table", varchar(64)),
    ResultColumn("Table_ID", BIGINT),
    ResultColumn("Phase", varchar(64)),
    ResultColumn("Status", varchar(64)),
    ResultColumn("Source_File_Size", varchar(64)),
    ResultColumn("Imported_Rows", BIGINT),
    ResultColumn("Result_Message", TEXT),
    ResultColumn("Create_Time", DATETIME6),
    ResultColumn("Start_Time", DATETIME6),
    ResultColumn("End_Time", DATETIME6),
    ResultColumn("Created_By", varchar(300)),
)


def execute_import(session: Session, statement: ImportInto) -> Result:
    """Runs an IMPORT INTO to its end."""
    _end_transaction(session)
    options = _checked(statement.options)
    files = find_files(statement.path, statement.format, statement.columns, _csv_form(options))
    if files.csv is None:
        for name in options:
            if name in _CSV_OPTIONS:
                raise error(ER_UNSUPPORTED_OPTION, f"Unsupported option {name} for non-CSV format")
    checkpoint = _checkpoint(session, options, files)
    begun = dt.datetime.now(session.variables.zone)
    db = statement.table.db or session.current_db
    loaded = load_into_empty(session.database, session, db, statement.table.name, files.open, checkpoint)
    return rows_result(_COLUMNS, [_row(session, statement, files, loaded, begun)])


def _end_transaction(session: Session) -> None:
    if session.txn is not None and (session.explicit or session.txn.is_dirty):
        raise ProgrammingError("cannot run IMPORT INTO in explicit transaction", 1105, "HY000")
    end_clean_transaction(session)


def _checked(given: list[ImportOption]) -> Mapping[str, ImportOption]:
    options: dict[str, ImportOption] = {}
    for option in given:
        name = option.name
        if name in _NOT_YET:
            raise unsupported(f"IMPORT INTO ... WITH {name}", position=option.position)
        if name != CHECKPOINT and name not in _CSV_OPTIONS:
            raise error(ER_UNKNOWN_OPTION, f"Unknown option {name}", position=option.position)
        if name in options:
            raise error(ER_DUPLICATE_OPTION, f"Option {name} specified more than once", position=option.position)
        options[name] = option
    return options


def _csv_form(options: Mapping[str, ImportOption]) -> CsvForm:
    """How a CSV file is read. Raises 8164 for a value that is none of the option's."""
    default = CsvForm()
    encoding = _ENCODINGS.get(_text(options, "character_set", "utf8mb4").lower())
    if encoding is None:
        raise _invalid(options["character_set"])
    enclosed = _character(options, "fields_enclosed_by", default.enclosed, may_be_empty=True)
    escaped = _character(options, "fields_escaped_by", default.escaped, may_be_empty=True)
    form = CsvForm(
        terminated=_character(options, "fields_terminated_by", default.terminated),
        enclosed=enclosed,
        escaped="" if escaped == enclosed else escaped,  # a quote that is doubled needs no escape
        null=_text(options, "fields_defined_null_by", default.null),
        skip_rows=_count(options, "skip_rows"),
        encoding=encoding,
    )
    if form.terminated in (enclosed, escaped):
        clash = next(name for name in _CHARACTERS if name in options)
        raise _invalid(options[clash])
    lines = options.get("lines_terminated_by")
    if lines is not None and lines.value not in ("\n", "\r\n", "\r", ""):
        raise unsupported("lines_terminated_by other than a line break", position=lines.position)
    return form


def _text(options: Mapping[str, ImportOption], name: str, default: str) -> str:
    option = options.get(name)
    if option is None:
        return default
    if not isinstance(option.value, str):
        raise _invalid(option)
    return option.value


def _character(options: Mapping[str, ImportOption], name: str, default: str, *, may_be_empty: bool = False) -> str:
    """One byte, as what is read takes fields apart by bytes."""
    value = _text(options, name, default)
    if value == default:
        return value
    if not value:
        if may_be_empty:
            return value
        raise _invalid(options[name])
    if len(value.encode()) > 1:
        raise unsupported(f"{name} of more than one byte", position=options[name].position)
    if value in "\r\n":
        raise _invalid(options[name])
    return value


def _count(options: Mapping[str, ImportOption], name: str) -> int:
    option = options.get(name)
    if option is None:
        return 0
    if not isinstance(option.value, int) or isinstance(option.value, bool) or option.value < 0:
        raise _invalid(option)
    return option.value


def _invalid(option: ImportOption) -> DatabaseError:
    return error(ER_INVALID_OPTION_VALUE, f"Invalid option value for {option.name}", position=option.position)


def _checkpoint(session: Session, options: Mapping[str, ImportOption], files: Files) -> Checkpoint | None:
    if CHECKPOINT not in options:
        return None
    directory = _text(options, CHECKPOINT, "")
    if not directory:
        raise _invalid(options[CHECKPOINT])
    identity = files.identity() | {
        "time zone": str(session.variables.get("time_zone")),
        "NO_AUTO_VALUE_ON_ZERO": session.variables.no_auto_value_on_zero,
    }
    return Checkpoint(os.path.abspath(directory), identity)


def _row(
    session: Session, statement: ImportInto, files: Files, loaded: Loaded, begun: dt.datetime
) -> tuple[object, ...]:
    report = loaded.report
    message = ""
    if report is not None and report.loaded_rows < report.rows:
        message = f"resumed: {report.rows - report.loaded_rows} of {report.rows} keys were there already"
    table = session.catalog.schema.table_by_id[loaded.table_id]
    start = begun.replace(tzinfo=None)
    return (
        loaded.job_id or None,
        statement.path,
        f"`{table.db}`.`{table.name}`",
        loaded.table_id,
        "",
        "finished",
        _size_text(files.bytes),
        loaded.rows,
        message,
        start,
        start,
        dt.datetime.now(session.variables.zone).replace(tzinfo=None),
        session.catalog.server,
    )


def _size_text(size: int) -> str:
    """A size as TiDB shows it: four digits in the largest binary unit that gives at least one."""
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        del units[0]
    return f"{value:.4g}{units[0]}"
