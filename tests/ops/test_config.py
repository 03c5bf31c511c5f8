"""Configuration: defaults, file, command line in this order; what cannot be meant is refused with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from kvstore.ops.config import ConfigError, described, load, setting, to_dict


@dataclass(frozen=True)
class Split:
    region_size_mib: int = setting(96, "a region is split when it is larger", 1, 1024)
    ratio: float = setting(0.5, "where", 0, 1)
    by_load: bool = setting(True, "whether load splits too")
    check_s: float = 5.0
    """How often
    it is looked at."""

    def __post_init__(self) -> None:
        if self.region_size_mib == 13:
            raise ValueError("region-size-mib: 13 is nobody's size")


@dataclass(frozen=True)
class Whole:
    name: str = setting("", "a name")
    mode: Literal["fast", "safe"] = setting("safe", "a choice")
    endpoints: tuple[str, ...] = setting((), "addresses")
    labels: Mapping[str, str] = setting({}, "where the machine stands")
    split: Split = field(default_factory=Split)


def read(tmp_path: Path, text: str, **given: object) -> Whole:
    file = tmp_path / "c.toml"
    file.write_text(text)
    return load(Whole, file, {name.replace("__", ".").replace("_", "-"): value for name, value in given.items()})


def test_defaults_then_the_file_then_the_command_line(tmp_path: Path) -> None:
    text = 'name = "a"\nmode = "fast"\n[split]\nregion-size-mib = 10\nratio = 1\n[labels]\nzone = "z1"'
    found = read(tmp_path, text, name="b", split__region_size_mib=20, endpoints=("x:1", "y:2"))
    assert found == Whole("b", "fast", ("x:1", "y:2"), {"zone": "z1"}, Split(20, 1.0, True))
    assert load(Whole, None, {}) == Whole()


def test_what_is_written_out_reads_back(tmp_path: Path) -> None:
    found = read(tmp_path, 'endpoints = ["x:1"]\n[split]\nby-load = false\n[labels]\nzone = "z1"')
    tree = to_dict(found)
    assert tree["split"] == {"region-size-mib": 96, "ratio": 0.5, "by-load": False, "check-s": 5.0}
    assert load(Whole, None, tree) == found


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nam = 1", r"c.toml: nam is not known; do you mean name\?"),
        ("[split]\nregion_size_mib = 1", r"split.region_size_mib is not known; do you mean split.region-size-mib\?"),
        ("[sprit]", "sprit is not known"),
        ("split = 5", "split is a section, not a value"),
        ("name = 5", "name = 5 is not a text"),
        ("mode = 'slow'", "mode = 'slow' is not one of fast, safe"),
        ("endpoints = 'x:1'", "endpoints = 'x:1' is not a list of texts"),
        ("[labels]\nzone = 1", "is not a table of texts"),
        ("[split]\nregion-size-mib = 0", "split.region-size-mib = 0 is not between 1 and 1024"),
        ("[split]\ncheck-s = -1", "split.check-s = -1 is not at least 0"),
        ("[split]\nregion-size-mib = true", "is not a whole number"),
        ("[split]\nregion-size-mib = 1.5", "is not a whole number"),
        ("[split]\nratio = nan", "is not a number"),
        ("[split]\nregion-size-mib = 13", "13 is nobody's size"),
        ("name =", "c.toml: is no TOML"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read(tmp_path, text)


def test_a_mistake_on_the_command_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the command line: split.region-size-mib = 9999 is not between"):
        read(tmp_path, "", split__region_size_mib=9999)
    with pytest.raises(ConfigError, match="the command line: splat is not known"):
        read(tmp_path, "", splat__x=1)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: cannot be read: No such file"):
        load(Whole, tmp_path / "none.toml", {})


def test_settings_describe_themselves() -> None:
    rows = {one.name: one for one in described(Whole)}
    assert list(rows) == [
        "name",
        "mode",
        "endpoints",
        "labels",
        "split.region-size-mib",
        "split.ratio",
        "split.by-load",
        "split.check-s",
    ]
    assert rows["split.by-load"].default == "true"
    assert rows["split.check-s"].help == "How often it is looked at."
    assert rows["split.ratio"].help == "where"
    assert rows["mode"].type == "one of fast, safe"
