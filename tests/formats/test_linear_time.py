"""However a producer repeats itself, reading takes time in proportion to what it wrote."""

import time
from collections.abc import Callable
from itertools import product

import pytest

from metric_forwarder.formats import Format, read
from metric_forwarder.formats.detect import detect
from metric_forwarder.formats.samples import FormatHint

HINT = FormatHint()
PREFIXES = ("", "a", "a ", "a{", 'a{b="', "a 1", "a,b=", "a b=", 'a b="', '{"a', '[{"')
FILLERS = (
    " ",
    "1",
    "a",
    '"',
    "\\",
    "\\ ",
    "\\,",
    ",",
    "=",
    "{",
    "}",
    'a="b",',
    "a=1,",
    ".",
    "é",
    "\t",
    '"" ',
)
SUFFIXES = ("", "x\n")


def _read(name: Format) -> Callable[[str], object]:
    return lambda text: list(read(name, text, HINT))


READERS: dict[str, Callable[[str], object]] = {
    "detection": lambda text: detect(text, HINT),
    **{
        name.value: _read(name)
        for name in (Format.INFLUX, Format.PROMETHEUS_TEXT, Format.TELEGRAF_JSON, Format.KAFKA_ADAPTER)
    },
}


def _cpu_seconds(reader: Callable[[str], object], text: str) -> float:
    began = time.process_time()
    reader(text)
    return time.process_time() - began


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_line_of_one_thing_repeated_takes_time_in_proportion_to_its_length(
    reader: Callable[[str], object],
) -> None:
    for prefix, filler, suffix in product(PREFIXES, FILLERS, SUFFIXES):
        small, large = (prefix + filler * (length // len(filler)) + suffix for length in (1_500, 48_000))
        # Thirty-two times the text; a quadratic reader would take a thousand times as long.
        if (taken := _cpu_seconds(reader, large)) > 0.02:
            again = min(taken, _cpu_seconds(reader, large))
            assert again < 200 * _cpu_seconds(reader, small) + 0.02, (prefix, filler, suffix)
