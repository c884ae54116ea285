"""The examples of docs/formats.md are what becomes of them."""

import re

import pytest

from metric_forwarder.formats import Format, read
from metric_forwarder.formats.detect import detect
from metric_forwarder.formats.mapping import read_mapping
from metric_forwarder.formats.samples import FormatHint, Reading, Sample
from support.harness import ROOT

TEXT = (ROOT / "docs" / "formats.md").read_text("utf-8")
EXAMPLES = re.findall(
    r"<!-- example: ([a-z-]+)(, by MF_FORMAT)? -->\n```\w+\n(.*?)```\n\n```text\n(.*?)```", TEXT, re.DOTALL
)
HINT = FormatHint()
MAPPING = read_mapping(re.findall(r"<!-- mapping -->\n```json\n(.*?)```", TEXT, re.DOTALL)[0])


def _shown(reading: Reading) -> str:
    if not isinstance(reading, Sample):
        return f"{type(reading).__name__.removesuffix('Sample').lower()}: {reading.rule}"
    labels = ",".join(f'{name}="{value}"' for name, value in sorted(reading.dimensions.items()))
    time = "" if reading.time_ns is None else f" @ {reading.time_ns // 10**6} ms"
    return f"{reading.metric}{{{labels}}} {reading.value:g}{time}"


@pytest.mark.parametrize(
    ("name", "by_setting", "body", "expected"), EXAMPLES, ids=[example[0] for example in EXAMPLES]
)
def test_an_example_becomes_what_the_document_shows(
    name: str, by_setting: str, body: str, expected: str
) -> None:
    assert (detect(body, HINT, has_mapping=name == "mapping") is Format(name)) is not bool(by_setting)
    found = [
        re.sub(r"\s+", " ", f"{reading.where or '(message)'} {_shown(reading)}")
        for reading in read(Format(name), body, HINT, MAPPING)
    ]
    assert found == [re.sub(r"\s+", " ", line) for line in expected.splitlines()]


def test_every_format_that_is_text_has_an_example_and_every_format_a_row() -> None:
    assert {example[0] for example in EXAMPLES} == set(Format) - {
        Format.JSON,
        Format.OTLP_PROTOBUF,
        Format.PROMETHEUS_PROTOBUF,
        Format.REMOTE_WRITE,
    }
    assert all(f"`{name.value}`" in TEXT for name in Format)
