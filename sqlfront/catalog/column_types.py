"""Column types between SQL text and stored records: limits and display lengths going in, MySQL's spelling coming
out.
"""

from __future__ import annotations

from coprocessor.codec.collation import sort_key
from coprocessor.types import BLOB_TPS, FieldType, Tp
from sqlfront.catalog.charsets import TEXT_DEFAULT, check_charset
from sqlfront.catalog.definition import TypeSpec
from sqlfront.catalog.info import Flag, TypeInfo
from sqlfront.errors import ER_PARSE, error, unsupported

_INTEGERS = {
    "TINYINT": (Tp.TINY, 4, 3),
    "SMALLINT": (Tp.SHORT, 6, 5),
    "MEDIUMINT": (Tp.INT24, 9, 8),
    "INT": (Tp.LONG, 11, 10),
    "BIGINT": (Tp.LONGLONG, 20, 20),
}
_TEXTS = {
    "TINYTEXT": (Tp.TINY_BLOB, 255),
    "TEXT": (Tp.BLOB, 65535),
    "MEDIUMTEXT": (Tp.MEDIUM_BLOB, 16777215),
    "LONGTEXT": (Tp.LONG_BLOB, 4294967295),
    "TINYBLOB": (Tp.TINY_BLOB, 255),
    "BLOB": (Tp.BLOB, 65535),
    "MEDIUMBLOB": (Tp.MEDIUM_BLOB, 16777215),
    "LONGBLOB": (Tp.LONG_BLOB, 4294967295),
}
_TIMES = {
    "DATETIME": (Tp.DATETIME, 19),
    "TIMESTAMP": (Tp.TIMESTAMP, 19),
    "TIME": (Tp.DURATION, 10),
}
SYNONYMS = {
    "INTEGER": "INT",
    "INT1": "TINYINT",
    "INT2": "SMALLINT",
    "INT3": "MEDIUMINT",
    "MIDDLEINT": "MEDIUMINT",
    "INT4": "INT",
    "INT8": "BIGINT",
    "DEC": "DECIMAL",
    "NUMERIC": "DECIMAL",
    "FIXED": "DECIMAL",
    "REAL": "DOUBLE",
    "FLOAT8": "DOUBLE",
    "FLOAT4": "FLOAT",
    "CHARACTER": "CHAR",
    "VARCHARACTER": "VARCHAR",
    "LONG": "MEDIUMTEXT",
    "BOOLEAN": "BOOL",
}
NAMES = frozenset(
    {*_INTEGERS, *_TEXTS, *_TIMES, *SYNONYMS, "BOOL", "DECIMAL", "FLOAT", "DOUBLE", "DATE", "YEAR", "JSON", "SERIAL"}
    | {"CHAR", "VARCHAR", "BINARY", "VARBINARY", "BIT", "ENUM", "SET"}
)
REFUSED_NAMES = frozenset(
    {"GEOMETRY", "POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON"}
    | {"GEOMETRYCOLLECTION", "GEOMCOLLECTION", "VECTOR"}
)
"""Types of MySQL and TiDB that are not there yet."""

VARCHAR_LENGTH_MAX = 16383
VARBINARY_LENGTH_MAX = 65535
CHAR_LENGTH_MAX = 255
DECIMAL_PRECISION_MAX = 65
DECIMAL_SCALE_MAX = 30
REAL_WIDTH_MAX = 255
BIT_LENGTH_MAX = 64
FSP_MAX = 6
SET_ELEMENTS_MAX = 64
ENUM_ELEMENTS_MAX = 65535


def type_info(spec: TypeSpec, column: str, table_default: tuple[str, str] = TEXT_DEFAULT) -> TypeInfo:
    """The stored type of a written one; errors name the column. The default is the table's charset and collation."""
    name = SYNONYMS.get(spec.name, spec.name)
    if name in REFUSED_NAMES:
        raise unsupported(f"type {spec.name}", position=spec.position)
    if name not in NAMES:
        raise error(ER_PARSE, f"unknown type {spec.name} of column '{column}'", position=spec.position)
    if name in _INTEGERS or name == "BOOL":
        info = _integer(spec, name, column)
    elif name in _TEXTS or name in ("CHAR", "VARCHAR", "BINARY", "VARBINARY"):
        return _string(spec, name, column, table_default)
    elif name in ("ENUM", "SET"):
        return _members(spec, name, column, table_default)
    else:
        info = _number_or_time(spec, name, column)
    info.charset = info.collate = "binary"
    if spec.unsigned or spec.zerofill:
        if Tp(info.tp) not in (*(t for t, _, _ in _INTEGERS.values()), Tp.NEWDECIMAL, Tp.FLOAT, Tp.DOUBLE, Tp.YEAR):
            raise error(
                ER_PARSE, f"UNSIGNED is not allowed for column '{column}' of type {name}", position=spec.position
            )
        info.flag |= Flag.UNSIGNED | (Flag.ZEROFILL if spec.zerofill else 0)
    return info


def _integer(spec: TypeSpec, name: str, column: str) -> TypeInfo:
    if name == "BOOL":
        return TypeInfo(Tp.TINY, 0, 1, 0)
    tp, signed, unsigned = _INTEGERS[name]
    width = spec.args[0] if spec.args else (unsigned if spec.unsigned or spec.zerofill else signed)
    if width > 255 or len(spec.args) > 1:
        raise error(1439, f"Display width out of range for column '{column}' (max = 255)", position=spec.position)
    return TypeInfo(tp, 0, width, 0)


def _fsp(spec: TypeSpec, column: str) -> int:
    fsp = spec.args[0] if spec.args else 0
    if fsp > FSP_MAX:
        message = f"Too-big precision {fsp} specified for '{column}'. Maximum is {FSP_MAX}."
        raise error(1426, message, position=spec.position)
    return fsp


def _number_or_time(spec: TypeSpec, name: str, column: str) -> TypeInfo:
    if name in _TIMES:
        tp, width = _TIMES[name]
        fsp = _fsp(spec, column)
        return TypeInfo(tp, 0, width + (fsp + 1 if fsp else 0), fsp)
    if name == "DATE":
        return TypeInfo(Tp.DATE, 0, 10, 0)
    if name == "YEAR":
        if spec.args and spec.args[0] != 4:
            raise error(1818, "Supports only YEAR or YEAR(4) column.", position=spec.position)
        return TypeInfo(Tp.YEAR, Flag.UNSIGNED | Flag.ZEROFILL, 4, 0)
    if name == "JSON":
        return TypeInfo(Tp.JSON, Flag.BINARY, 4294967295, 0)
    if name == "BIT":
        width = spec.args[0] if spec.args else 1
        if not 1 <= width <= BIT_LENGTH_MAX:
            if width == 0:
                raise error(3013, f"Invalid size for column '{column}'.", position=spec.position, sqlstate="HY000")
            message = f"Display width out of range for column '{column}' (max = {BIT_LENGTH_MAX})"
            raise error(1439, message, position=spec.position)
        return TypeInfo(Tp.BIT, Flag.UNSIGNED, width, 0)
    if name == "DECIMAL":
        return _decimal(spec, column)
    return _real(spec, name, column)


def _decimal(spec: TypeSpec, column: str) -> TypeInfo:
    precision = spec.args[0] if spec.args else 10
    scale = spec.args[1] if len(spec.args) > 1 else 0
    if precision == 0:
        precision = 10
    if precision > DECIMAL_PRECISION_MAX:
        message = f"Too-big precision {precision} specified for '{column}'. Maximum is {DECIMAL_PRECISION_MAX}."
        raise error(1426, message, position=spec.position)
    _check_scale(precision, scale, column, spec.position)
    return TypeInfo(Tp.NEWDECIMAL, 0, precision, scale)


def _real(spec: TypeSpec, name: str, column: str) -> TypeInfo:
    if len(spec.args) > 1:
        return TypeInfo(Tp[name], 0, *_real_shape(spec, column))
    if name == "DOUBLE" or (spec.args and spec.args[0] > 24):
        if spec.args and spec.args[0] > 53:
            raise error(1063, f"Incorrect column specifier for column '{column}'", position=spec.position)
        return TypeInfo(Tp.DOUBLE, 0, 22, -1)
    return TypeInfo(Tp.FLOAT, 0, 12, -1)


def _real_shape(spec: TypeSpec, column: str) -> tuple[int, int]:
    """M and D of FLOAT(M,D) and DOUBLE(M,D)."""
    width, scale = spec.args[:2]
    if width > REAL_WIDTH_MAX:
        message = f"Display width out of range for column '{column}' (max = {REAL_WIDTH_MAX})"
        raise error(1439, message, position=spec.position)
    _check_scale(width, scale, column, spec.position)
    return width, scale


def _check_scale(precision: int, scale: int, column: str, position: int) -> None:
    if scale > DECIMAL_SCALE_MAX:
        message = f"Too big scale {scale} specified for column '{column}'. Maximum is {DECIMAL_SCALE_MAX}."
        raise error(1425, message, position=position)
    if scale > precision:
        message = f"For float(M,D), double(M,D) or decimal(M,D), M must be >= D (column '{column}')."
        raise error(1427, message, position=position)


def _collation(spec: TypeSpec, table_default: tuple[str, str]) -> tuple[str, str]:
    charset, collate = check_charset(spec.charset, spec.collate, table_default, position=spec.position)
    return TEXT_DEFAULT if spec.binary and charset != "binary" else (charset, collate)


def _string(spec: TypeSpec, name: str, column: str, table_default: tuple[str, str]) -> TypeInfo:
    charset, collate = _collation(spec, table_default)
    if "BINARY" in name or "BLOB" in name:
        charset = collate = "binary"
    flag = Flag.BINARY if charset == "binary" else 0
    if name in _TEXTS:
        tp, length = _TEXTS[name]
        if spec.args and name in ("TEXT", "BLOB"):
            tp, length = _blob_of_length(spec.args[0] * (4 if charset != "binary" else 1))
        return TypeInfo(tp, flag, length, 0, charset, collate)
    if name in ("CHAR", "BINARY"):
        length = spec.args[0] if spec.args else 1
        if length > CHAR_LENGTH_MAX:
            raise _too_long(column, CHAR_LENGTH_MAX, spec.position)
        return TypeInfo(Tp.STRING, flag, length, 0, charset, collate)
    if not spec.args:
        raise error(ER_PARSE, f"{name} of column '{column}' needs a length", position=spec.position)
    most = VARBINARY_LENGTH_MAX if charset == "binary" else VARCHAR_LENGTH_MAX
    if spec.args[0] > most:
        raise _too_long(column, most, spec.position)
    return TypeInfo(Tp.VARCHAR, flag, spec.args[0], 0, charset, collate)


def _too_long(column: str, most: int, position: int) -> Exception:
    message = f"Column length too big for column '{column}' (max = {most}); use BLOB or TEXT instead"
    return error(1074, message, position=position)


def _blob_of_length(size: int) -> tuple[Tp, int]:
    for name in ("TINYBLOB", "BLOB", "MEDIUMBLOB"):
        if size <= _TEXTS[name][1]:
            return _TEXTS[name]
    return _TEXTS["LONGBLOB"]


def _members(spec: TypeSpec, name: str, column: str, table_default: tuple[str, str]) -> TypeInfo:
    charset, collate = _collation(spec, table_default)
    if charset == "binary":
        charset, collate = TEXT_DEFAULT
    same = sort_key(collate)
    elems = [e.rstrip(" ") for e in spec.elems]
    if not elems:
        raise error(ER_PARSE, f"{name} of column '{column}' needs its values", position=spec.position)
    most = SET_ELEMENTS_MAX if name == "SET" else ENUM_ELEMENTS_MAX
    if len(elems) > most:
        raise error(1097, f"Too many strings for column {column} and {name}", position=spec.position)
    seen: set[bytes] = set()
    for elem in elems:
        if same(elem) in seen:
            message = f"Column '{column}' has duplicated value '{elem}' in {name}"
            raise error(1291, message, position=spec.position, sqlstate="HY000")
        if name == "SET" and "," in elem:
            raise error(1367, f"Illegal set '{elem}' value found during parsing", position=spec.position)
        seen.add(same(elem))
    if name == "SET":
        return TypeInfo(Tp.SET, 0, sum(map(len, elems)) + len(elems) - 1, 0, charset, collate, elems)
    return TypeInfo(Tp.ENUM, 0, max(map(len, elems)), 0, charset, collate, elems)


_INTEGER_NAMES = {tp: (name.lower(), signed, unsigned) for name, (tp, signed, unsigned) in _INTEGERS.items()}
_TIME_NAMES = {Tp.DATETIME: "datetime", Tp.TIMESTAMP: "timestamp", Tp.DURATION: "time"}
_BLOB_NAMES = {
    Tp.TINY_BLOB: ("tinyblob", "tinytext"),
    Tp.BLOB: ("blob", "text"),
    Tp.MEDIUM_BLOB: ("mediumblob", "mediumtext"),
    Tp.LONG_BLOB: ("longblob", "longtext"),
}
_PLAIN_NAMES = {
    Tp.DATE: "date",
    Tp.YEAR: "year",
    Tp.JSON: "json",
    Tp.FLOAT: "float",
    Tp.DOUBLE: "double",
    Tp.NULL: "null",
}


def quote_text(text: str) -> str:
    return "'" + text.translate(_ESCAPES) + "'"


_ESCAPES = str.maketrans({"\\": "\\\\", "'": "''", "\n": "\\n", "\r": "\\r", "\0": "\\0"})


def data_type(ft: FieldType) -> str:
    """The type's bare name (information_schema's DATA_TYPE)."""
    if ft.tp in _INTEGER_NAMES:
        return _INTEGER_NAMES[ft.tp][0]
    if ft.tp in BLOB_TPS:
        return _BLOB_NAMES[ft.tp][not ft.is_binary]
    if ft.tp in _TIME_NAMES:
        return _TIME_NAMES[ft.tp]
    if ft.tp in _PLAIN_NAMES:
        return _PLAIN_NAMES[ft.tp]
    if ft.tp == Tp.STRING:
        return "binary" if ft.is_binary else "char"
    if ft.tp in (Tp.VARCHAR, Tp.VAR_STRING):
        return "varbinary" if ft.is_binary else "varchar"
    return {Tp.NEWDECIMAL: "decimal", Tp.BIT: "bit", Tp.ENUM: "enum", Tp.SET: "set"}[ft.tp]


def type_text(ft: FieldType, *, zerofill: bool = False) -> str:
    """The type as SHOW COLUMNS and SHOW CREATE TABLE print it; it can be executed again."""
    name = data_type(ft)
    suffix = " unsigned" if ft.unsigned and ft.tp not in (Tp.YEAR, Tp.BIT) else ""
    suffix += " zerofill" if zerofill and ft.tp != Tp.YEAR else ""
    if ft.tp in _INTEGER_NAMES:
        shown = zerofill or (ft.tp == Tp.TINY and ft.flen == 1)
        return f"{name}({ft.flen}){suffix}" if shown else name + suffix
    if ft.tp == Tp.NEWDECIMAL:
        return f"decimal({ft.flen},{max(ft.decimal, 0)}){suffix}"
    if ft.tp in (Tp.FLOAT, Tp.DOUBLE):
        return name + (f"({ft.flen},{ft.decimal})" if ft.decimal >= 0 else "") + suffix
    if ft.tp in _TIME_NAMES:
        return f"{name}({ft.decimal})" if ft.decimal > 0 else name
    if ft.tp in (Tp.STRING, Tp.VARCHAR, Tp.VAR_STRING):
        return f"{name}({ft.flen})" if ft.flen >= 0 else name
    if ft.tp == Tp.BIT:
        return f"bit({ft.flen})"
    if ft.tp in (Tp.ENUM, Tp.SET):
        return f"{name}({','.join(quote_text(e) for e in ft.elems)})"
    return name
