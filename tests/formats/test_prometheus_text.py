"""What the text formats of Prometheus become; see docs/formats.md."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.formats.prometheus_text import decode
from metric_forwarder.formats.samples import FilteredSample, FormatHint, InvalidSample, Reading, Sample

HINT = FormatHint()


def readings(text: str | bytes, hint: FormatHint = HINT) -> list[Reading]:
    return list(decode(text, hint))


def the_sample(text: str) -> Sample:
    (found,) = readings(text)
    assert isinstance(found, Sample), found
    return found


@pytest.mark.parametrize(
    ("line", "metric", "labels", "value", "time_ns"),
    [
        ("up 1", "up", {}, 1.0, None),
        ("\tup\t1\t", "up", {}, 1.0, None),
        ("up 1\r", "up", {}, 1.0, None),
        ("up{} 1.5e3 -7", "up", {}, 1500.0, -7_000_000),
        ("job:rate:sum -.5 1700000000123", "job:rate:sum", {}, -0.5, 1_700_000_000_123_000_000),
        ('disk{path="C:\\\\dir",note="a \\"b\\"\\nc"} 3', "disk", {"path": "C:\\dir", "note": 'a "b"\nc'}, 3.0, None),
        ('disk {  path = "/" , } 3', "disk", {"path": "/"}, 3.0, None),
        ('disk{path="}#,= "}3', "disk", {"path": "}#,= "}, 3.0, None),
        ('disk{path=""} 3', "disk", {}, 3.0, None),
        ('{"disk.free",path="/"} 3', "disk_free", {"path": "/"}, 3.0, None),
        ('disk{"mount.point"="/"} 3', "disk", {"mount_point": "/"}, 3.0, None),
        ('disk{"mount.point"="/","mount_point"="/a"} 3', "disk", {"mount_point": "/;/a"}, 3.0, None),
        ("up +Inf", "up", {}, math.inf, None),
        ("up -inf", "up", {}, -math.inf, None),
        ('up{zone="北京"} 1', "up", {"zone": "北京"}, 1.0, None),
    ],
)  # fmt: skip
def test_a_line_becomes_a_sample(
    line: str, metric: str, labels: dict[str, str], value: float, time_ns: int | None
) -> None:
    assert the_sample(line)[1:5] == (metric, labels, value, time_ns)


def test_not_a_number_is_a_value() -> None:
    assert math.isnan(the_sample("up NaN").value)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("up 1 2 3", "syntax"),
        ('up 7 # {trace="x"} 0.43', "syntax"),
        ("up 1 1.5", "timestamp"),
        ("up 1 99999999999999999999", "timestamp"),
        ("up 1_000", "syntax"),
        ("up 0x1p3", "syntax"),
        ("up 1e999", "value"),
        ("up true", "syntax"),
        ("up", "syntax"),
        ("up{a='b'} 1", "syntax"),
        ('up{a="b" 1', "syntax"),
        ('up{a="b"c="d"} 1', "syntax"),
        ('up{a="b",,} 1', "syntax"),
        ('up{="b"} 1', "syntax"),
        ("up{a} 1", "syntax"),
        ('up{a="1",a="2"} 1', "duplicate-label"),
        ('up{"a"="1",a="2"} 1', "duplicate-label"),
        ('{a="b"} 1', "name"),
        ('up{"down"} 1', "name"),
        ('{""} 1', "name"),
        ('up{""} 1', "name"),
        ('up{"",a="b"} 1', "name"),
        ('up{""="b"} 1', "name"),
        ('up{a="\ud800"} 1', "encoding"),
        ("up٣ 1", "syntax"),
        ("up ٣", "syntax"),
        ("<html>", "syntax"),
    ],
)
def test_a_line_that_breaks_the_format_costs_one_sample_and_says_why(line: str, rule: str) -> None:
    before, found, after = readings(f"a 1\n{line}\nb 2\n")
    assert isinstance(before, Sample)
    assert isinstance(after, Sample)
    assert isinstance(found, InvalidSample)
    assert (found.where, found.rule, found.raw) == ("line 2", rule, line)


def test_bytes_that_are_no_utf_8_cost_their_own_line_alone() -> None:
    first, second = readings(b'a{b="\xff"} 1\na{b="\xc3\xa9"} 2')
    assert isinstance(first, InvalidSample)
    assert first.rule == "encoding"
    assert isinstance(second, Sample)
    assert second.dimensions == {"b": "é"}


def test_comments_and_metadata_are_not_samples() -> None:
    assert readings("# HELP up Whether it is up.\n# TYPE up gauge\n#\n  # note\n\n \n") == []


def test_open_metrics_has_seconds_exemplars_and_an_end() -> None:
    text = 'a_total 1 1700000000.123456789\nb_bucket{le="1"} 2 # {trace="x"} 0.4 1.5\na_created 17e8\n# EOF\n'
    first, second, exemplar, third = readings(text)
    assert isinstance(first, Sample)
    assert first.time_ns == 1_700_000_000_123_456_789
    assert isinstance(second, Sample)
    assert (second.time_ns, second.value) == (None, 2.0)
    assert isinstance(exemplar, FilteredSample)
    assert isinstance(third, Sample)


def test_open_metrics_that_was_cut_off_gives_what_came_and_says_so() -> None:
    hint = FormatHint(content_type="application/openmetrics-text; version=1.0.0")
    sample, cut = readings("a 1 2.5\n", hint)
    assert isinstance(sample, Sample)
    assert sample.time_ns == 2_500_000_000
    assert isinstance(cut, InvalidSample)
    assert cut.rule == "eof"


def test_what_stands_behind_the_end_of_open_metrics_is_invalid() -> None:
    found = readings("a 1\n# EOF\nb 2\n# EOF\n")
    assert [type(reading) for reading in found] == [Sample, InvalidSample]


def test_labels_of_the_path_win_over_those_of_a_line() -> None:
    (found,) = readings('up{job="inside",a="b"} 1', FormatHint(labels={"job": "path"}))
    assert isinstance(found, Sample)
    assert found.dimensions == {"job": "path", "a": "b"}


@given(st.text(alphabet='ab1{}=",\\n #\t.+-eINfa\n\r\x00é\ud800', max_size=60))
def test_whatever_the_text_every_line_has_its_reading_and_nothing_raises(text: str) -> None:
    found = [reading for reading in readings(text) if not isinstance(reading, FilteredSample)]
    assert len(found) <= text.count("\n") + 1


def _cpu_seconds(text: str) -> float:
    began = time.process_time()
    for _ in decode(text, HINT):
        pass
    return time.process_time() - began


@pytest.mark.parametrize(
    "piece",
    ['a{b="', '"', "a{", 'a="b",', "\\", "{", "#", "a 1\n", "#\n", " ", '{"', 'a{a="b",'],
)
def test_reading_takes_time_in_proportion_to_the_text(piece: str) -> None:
    small, large = piece * (20_000 // len(piece)), piece * (320_000 // len(piece))
    # Sixteen times the text; a quadratic reader would take 256 times as long.
    fastest = min(_cpu_seconds(small) for _ in range(3))
    assert _cpu_seconds(large) < 64 * fastest + 0.05


def test_more_text_than_any_message_holds_is_refused_without_reading_it() -> None:
    for text in ("#" * 17_000_000, "#\n" * 1_000_001):
        began = time.process_time()
        (found,) = readings(text)
        assert isinstance(found, InvalidSample)
        assert found.rule == "size"
        assert time.process_time() - began < 1
