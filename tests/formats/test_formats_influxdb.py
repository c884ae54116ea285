"""Line protocol means here what it means to InfluxDB 1, which the differences that docs/formats.md names leave out."""

import os
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.formats import Format, read
from metric_forwarder.formats.samples import FilteredSample, FormatHint, InvalidSample, Sample
from support.influxdb_server import InfluxDbServer, StoredField

pytestmark = pytest.mark.slow

# The figure of the promise is reached with FORMAT_CASES=10000.
CASES = int(os.environ.get("FORMAT_CASES", "2000"))
NOW_NS = time.time_ns()
# Beside what their format needs escaped: what it does not, and what looks like a part of a line.
VALUES = (
    "a",
    "b c",
    "x,y",
    "k=v",
    "é 北京",
    '"q"',
    "C:\\dir",
    "a\\\\b",
    "10.0.0.1:9100",
    "-",
    "{}",
    "#",
    "'",
)
MEASUREMENTS = ("cpu", "disk io", "net,if", "k=v", "sys.load", "x-y", "é")
# Each has one kind of value, as InfluxDB asks of it.
FIELDS: dict[str, Callable[[random.Random], str]] = {
    "idle": lambda chance: repr(chance.randrange(-(10**6), 10**6) / 8),
    "user_1": lambda chance: chance.choice(("0", "-2", "1e3", "1E-3", "7.", ".5", "-.5", "01", "1234567")),
    "n": lambda chance: f"{chance.randrange(-(10**9), 10**9)}i",
    "up": lambda chance: chance.choice(
        ("t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE")
    ),
    "value": lambda chance: repr(chance.random()),
    "os": lambda chance: chance.choice(
        ('"plain"', '"a, b=c"', '"q \\"x\\" \\\\"', '""', '"two\nlines"', '"# no"')
    ),
    "f x": lambda _: "1",
}
# Of one field each: InfluxDB refuses a whole line, the function one field.
BAD_LINES = (
    "bad idle=high",
    "bad idle=1.2.3",
    "bad idle=+1",
    "bad idle=NaN",
    "bad n=9223372036854775808i",
    "bad idle=1e400",
    "bad",
    "bad idle=",
    "bad,host= idle=1",
    "bad,host=a,host=b idle=1",
    "bad idle=1 soon",
    "bad idle=1 1.5",
    'bad os="open',
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxDbServer]:
    folder: Path = tmp_path_factory.mktemp("influxdb")
    with InfluxDbServer(folder) as running:
        yield running


def _escaped(text: str, special: str) -> str:
    return "".join(f"\\{character}" if character in special else character for character in text)


def _line(chance: random.Random, number: int) -> str:
    head = _escaped(chance.choice(MEASUREMENTS), ", ")
    for tag in chance.sample(("host", "dc", "t 1", "Zone", "cpu=name"), chance.randrange(4)):
        head += f",{_escaped(tag, ',= ')}={_escaped(chance.choice(VALUES), ',= ')}"
    fields = chance.sample(list(FIELDS), chance.randint(1, 3))
    written = ",".join(f"{_escaped(field, ',= ')}={FIELDS[field](chance)}" for field in fields)
    return f"{head} {written} {NOW_NS - number * 1_000_003}"


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", text)


def _as_read(stored: dict[StoredField, Any]) -> dict[tuple[str, tuple[tuple[str, str], ...], int], Any]:
    """What InfluxDB holds, named as here; texts are left out."""
    return {
        (
            _name(field.measurement if field.field == "value" else f"{field.measurement}_{field.field}"),
            tuple(sorted((_name(name), text) for name, text in field.tags)),
            field.time_ns,
        ): value
        for field, value in stored.items()
        if not isinstance(value, str)
    }


def test_lines_become_the_same_series_times_and_values_to_the_nanosecond(server: InfluxDbServer) -> None:
    chance = random.Random(4)
    lines: list[str] = []
    bad = 0
    for number in range(CASES):
        if chance.random() < 0.02:
            lines.append("# a comment")
        lines.append(_line(chance, number))
    for line in BAD_LINES[:-1]:
        lines.insert(chance.randrange(1, len(lines)), line)
        bad += 1
    # A text that never ends takes the rest of what is written with it.
    lines.append(BAD_LINES[-1])
    bad += 1
    for start in range(0, len(lines), 1000):
        server.write("\n".join(lines[start : start + 1000]))
    read_here: dict[tuple[str, tuple[tuple[str, str], ...], int], Any] = {}
    kinds = {FilteredSample: 0, InvalidSample: 0}
    for start in range(0, len(lines), 1000):
        for reading in read(Format.INFLUX, "\n".join(lines[start : start + 1000]), FormatHint()):
            if isinstance(reading, Sample):
                assert reading.time_ns is not None
                key = (reading.metric, tuple(sorted(reading.dimensions.items())), reading.time_ns)
                read_here[key] = reading.value
            else:
                kinds[type(reading)] += 1
    stored = server.fields()
    wanted = _as_read(stored)
    assert len(wanted) > CASES
    assert read_here.keys() == wanted.keys()
    for key, value in wanted.items():
        assert read_here[key] == value, key
    assert kinds == {FilteredSample: len(stored) - len(wanted), InvalidSample: bad}
