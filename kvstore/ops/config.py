"""Configuration as typed dataclasses: defaults in the code, then a TOML file, then the command line.

A section is a frozen dataclass whose fields are made by `setting(default, what it is, bounds)`; a file is a dataclass
of sections. Names in files are written with hyphens (`region-split-mib` is `region_split_mib`), and carry their unit.
What is not known, of another type or out of bounds is refused with its place: nothing is silently ignored.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import itertools
import math
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, TypeVar, cast, get_args, get_origin, get_type_hints

FILE_BYTES_MAX = 1 << 20


class ConfigError(Exception):
    """The configuration cannot be meant; the message says which name, and where it was given."""


class Section(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


T = TypeVar("T", bound=Section)


@dataclass(frozen=True, slots=True)
class Described:
    """One setting, for the documentation: `section.name`, its type, default and meaning."""

    name: str
    type: str
    default: str
    help: str


def setting(default: Any, help: str, low: float | None = None, high: float | None = None) -> Any:
    """A field with its meaning and the bounds of its value, both inclusive; without a lower one it is 0."""
    metadata = {"help": help, "low": low, "high": high}
    if isinstance(default, Mapping):
        return field(default_factory=lambda: MappingProxyType(dict(default)), metadata=metadata)
    return field(default=default, metadata=metadata)


def load(shape: type[T], file: Path | None, given: Mapping[str, object]) -> T:
    """Builds `shape` from its defaults, a TOML file, and what the command line gave by `section.name`.

    Raises ConfigError.
    """
    tree: dict[str, object] = {}
    source = "the command line"
    if file is not None:
        tree = _read(file)
        source = str(file)
    built = build(shape, tree, source)
    if not given:
        return built
    overrides: dict[str, Any] = {}
    for name, value in given.items():
        section, _, leaf = name.rpartition(".")
        (overrides.setdefault(section, {}) if section else overrides)[leaf] = value
    merged = {**to_dict(built)}
    for name, value in overrides.items():
        merged[name] = (
            {**cast(Mapping[str, object], merged.get(name, {})), **value} if isinstance(value, dict) else value
        )
    return build(shape, merged, "the command line")


def _read(file: Path) -> dict[str, object]:
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError(f"{file}: a configuration has at most {FILE_BYTES_MAX} bytes")
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is no TOML: {error}") from error


def build(shape: type[T], tree: Mapping[str, object], source: str, at: str = "") -> T:
    """A dataclass from a tree of plain values with hyphenated names. Raises ConfigError."""
    hints = get_type_hints(shape)
    known = {_written(one.name): one for one in fields(shape)}
    values: dict[str, object] = {}
    for name, value in tree.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; do you mean {at}{close[0]}?" if close else ""
            raise ConfigError(f"{source}: {at}{name} is not known{hint}")
        one = known[name]
        values[one.name] = _value(hints[one.name], one, value, source, f"{at}{name}")
    try:
        return shape(**values)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error


def _value(hint: Any, one: Field[Any], value: object, source: str, at: str) -> object:
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{source}: {at} is a section, not a value")
        return build(cast(type[Section], hint), cast(Mapping[str, object], value), source, f"{at}.")
    found = _typed(hint, value)
    if found is None:
        raise ConfigError(f"{source}: {at} = {value!r} is not {_type_name(hint)}")
    low, high = one.metadata.get("low"), one.metadata.get("high")
    # a component's settings are counts, sizes and times
    low = 0 if low is None else low
    if isinstance(found, (int, float)) and (found < low or (high is not None and found > high)):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ConfigError(f"{source}: {at} = {value!r} is not {bounds}")
    return found


def _typed(hint: Any, value: object) -> object | None:
    """The value as the field's type, or None when it isn't one."""
    if get_origin(hint) is Literal:
        return value if value in get_args(hint) else None
    if hint is bool:
        return value if isinstance(value, bool) else None
    if hint is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    if hint is float:
        ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        return float(cast(float, value)) if ok else None
    if hint is str:
        return value if isinstance(value, str) else None
    if get_origin(hint) is tuple:
        ok = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        return tuple(cast(list[str], value)) if ok else None
    ok = isinstance(value, Mapping) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())
    return MappingProxyType(dict(cast(Mapping[str, str], value))) if ok else None


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return "a list of texts"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(
        hint, "a table of texts"
    )


def to_dict(config: Section) -> dict[str, object]:
    """The configuration as a file would hold it, for `/config`."""
    tree: dict[str, object] = {}
    for one in fields(config):
        value = getattr(config, one.name)
        if is_dataclass(value):
            value = to_dict(cast(Section, value))
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, Mapping):
            value = dict(value)
        tree[_written(one.name)] = value
    return tree


def described(shape: type[Section], at: str = "") -> Iterator[Described]:
    """All settings of a configuration in the order of the code."""
    hints, notes = get_type_hints(shape), _notes(shape)
    for one in fields(shape):
        hint = hints[one.name]
        if is_dataclass(hint):
            yield from described(cast(type[Section], hint), f"{at}{_written(one.name)}.")
            continue
        default = one.default if one.default is not MISSING else "{}"
        shown = str(default).lower() if isinstance(default, bool) else str(list(default) if default == () else default)
        help = str(one.metadata.get("help") or notes.get(one.name, ""))
        yield Described(f"{at}{_written(one.name)}", _type_name(hint), shown, help)


def _notes(shape: type[Section]) -> dict[str, str]:
    """The string under each field in the class' source: how components describe theirs."""
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(shape))).body
    assert isinstance(found, ast.ClassDef)
    notes: dict[str, str] = {}
    for field_, note in itertools.pairwise(found.body):
        if isinstance(field_, ast.AnnAssign) and isinstance(note, ast.Expr) and isinstance(field_.target, ast.Name):
            notes[field_.target.id] = " ".join(str(ast.literal_eval(note.value)).split())
    return notes


def _written(name: str) -> str:
    return name.replace("_", "-")
