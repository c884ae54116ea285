"""Samples of other formats are held to the same rules as points of our own JSON."""

import json
import math
import struct
from pathlib import Path

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.formats import Format
from metric_forwarder.formats.samples import FilteredSample, InvalidSample, Reading, Sample
from metric_forwarder.intake.intake import Intake
from metric_forwarder.intake.making import make_intake
from metric_forwarder.model import Message, Outcome, Problem
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.settings.settings import Settings
from support.fakes import START, FakeClock, InProcessReceiver
from support.harness import ckafka, environ, outcomes, point, remote_write_environ, report_of

NOW_NS = int(START) * 10**9
DESTINATIONS = {"receiver": environ(), "remote-write": remote_write_environ()}


def take(settings: dict[str, str], *readings: Reading) -> tuple[Intake, Ledger]:
    ledger = Ledger()
    intake = make_intake(Settings.read(settings), FakeClock(), ledger)
    intake.take_all(Message("s", reading, "c") for reading in readings)
    return intake, ledger


def problem_of(settings: dict[str, str], reading: Reading) -> Problem:
    intake, ledger = take(settings, reading)
    assert intake.points == []
    (problem,) = ledger.problems
    return problem


@pytest.mark.parametrize("settings", DESTINATIONS.values(), ids=DESTINATIONS)
def test_a_sample_becomes_a_point_of_its_own_place(settings: dict[str, str]) -> None:
    sample = Sample("line 12", "cpu", {"host": "a"}, 0.5, NOW_NS + 1)
    intake, _ = take(settings, sample, sample._replace(where="line 13", time_ns=None))
    first, second = intake.points
    assert (first.series, first.value, first.timestamp_ns, first.pointer) == (
        second.series,
        0.5,
        NOW_NS + 1,
        "line 12",
    )
    assert (first.series.namespace, first.series.metric, first.series.dimensions) == (
        "pc",
        "cpu",
        (("host", "a"),),
    )
    assert second.message.place(second.pointer) == "c#line 13"
    assert None not in {first.identity, second.identity}
    assert first.identity != second.identity


@pytest.mark.parametrize("settings", DESTINATIONS.values(), ids=DESTINATIONS)
@pytest.mark.parametrize(
    ("sample", "rule", "text"),
    [
        (Sample("w", "a b", {}, 1), "pattern", "its name "),
        (Sample("w", "a", {"x y": "1"}, 1), "pattern", 'its label "x y" '),
        (Sample("w", "a", {f"d{n}": "x" for n in range(40)}, 1), "maxProperties", "its set of labels has 40"),
        (Sample("w", "a", {}, 10**400), "maximum", "beyond every number"),
        (Sample("w", "a", {}, 1, NOW_NS + 700 * 10**9), "maxAhead", "ahead of the forwarder's clock"),
        (
            Sample("w", "a", {}, 1, 253_402_300_800 * 10**9),
            "timestamp",
            "has a time outside the years 1 to 9999",
        ),
        (Sample("w", "a", {}, 1, -62_135_596_800 * 10**9 - 1), "timestamp", "unit"),
        (Sample("w", "a", {}, 1, 253_402_300_800 * 10**9 - 1), "maxAhead", "ahead of the forwarder's clock"),
    ],
)
def test_what_is_wrong_with_a_sample_is_said_in_its_own_terms(
    settings: dict[str, str], sample: Sample, rule: str, text: str
) -> None:
    problem = problem_of(settings, sample)
    assert (problem.outcome, problem.rule) == (Outcome.INVALID, rule)
    assert problem.pointer.startswith("w")
    assert text in problem.message


def test_a_sample_may_be_as_old_as_the_first_moment_of_the_year_1() -> None:
    first_ns = -62_135_596_800 * 10**9
    intake, _ = take(environ(), Sample("w", "a", {}, 1, first_ns))
    assert [point.timestamp_ns for point in intake.points] == [first_ns]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_the_infinities_are_valid_where_the_destination_carries_them(value: float) -> None:
    sample = Sample("line 1", "m", {}, value)
    problem = problem_of(environ(), sample)
    assert (problem.outcome, problem.rule) == (Outcome.INVALID, "not-finite")
    intake, _ = take(remote_write_environ(), sample)
    (found,) = intake.points
    assert repr(found.value) == repr(value)
    assert found.identity is not None


def test_a_delta_goes_to_a_destination_that_sums_and_to_no_other() -> None:
    sample = Sample("s", "m", {}, 1, is_delta=True)
    assert len(take(environ(), sample)[0].points) == 1
    problem = problem_of(remote_write_environ(), sample)
    assert (problem.outcome, problem.rule) == (Outcome.INVALID, "delta")
    assert "cumulative" in problem.message


def test_the_end_of_a_series_is_left_out_where_the_destination_has_none() -> None:
    (marker,) = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))
    _, ledger = take(environ(), Sample("line 1", "m", {}, marker))
    (filtered,) = ledger.filtered
    assert (filtered.pointer, filtered.rule) == ("line 1", "stale-marker")
    assert "end of a series" in filtered.message


def test_a_long_label_is_named_by_its_beginning() -> None:
    problem = problem_of(environ(), Sample("w", "a", {"é" * 61: "1"}, 1))
    assert f'its label "{"é" * 60}" ' in problem.message


def test_a_user_s_schema_judges_the_value_of_a_sample_too(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"properties": {"value": {"maximum": 10}}}', "utf-8")
    settings = environ(SCHEMA=str(schema))
    assert problem_of(settings, Sample("w", "a", {}, 11.5)).rule == "maximum"
    assert len(take(settings, Sample("w", "a", {}, 9.5))[0].points) == 1


DELTA = json.dumps(
    {
        "resourceMetrics": [
            {
                "scopeMetrics": [
                    {
                        "metrics": [
                            {
                                "name": "m",
                                "sum": {
                                    "aggregationTemporality": 1,
                                    "isMonotonic": True,
                                    "dataPoints": [
                                        {
                                            "asInt": "1",
                                            "timeUnixNano": str(NOW_NS),
                                            "attributes": [{"key": "a", "value": {"stringValue": "b"}}],
                                        }
                                    ],
                                },
                            }
                        ]
                    }
                ]
            }
        ]
    }
)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ('m{a="b"} NaN', environ()),
        ('m{a="b"} 1 999999999999999999', remote_write_environ()),
        (DELTA, remote_write_environ()),
    ],
    ids=["not a number", "a time beyond all years", "a delta"],
)
def test_a_sample_that_no_destination_can_carry_is_kept_as_a_dead_letter(
    text: str, settings: dict[str, str], tmp_path: Path
) -> None:
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    settings = {
        **settings,
        "MF_SPOOL": tmp_path.as_uri(),
        "MF_REMOTE_WRITE_CHECK": "off",
    }
    report = report_of(Application(settings, clock, lambda: receiver), ckafka(text))
    assert outcomes(report) == {"invalid": 1}
    (kept,) = [path.read_text("utf-8") for path in tmp_path.glob("*.jsonl")]
    assert '"a"' in kept.replace("\\", "")


def test_what_a_format_cannot_read_is_invalid_and_what_it_leaves_out_is_filtered() -> None:
    _, ledger = take(
        environ(),
        InvalidSample("line 2", "json", "is no line", "x"),
        FilteredSample("line 3", "text", "is text"),
    )
    counts = {outcome: count for outcome, count in ledger.outcomes().items() if count}
    assert counts == {Outcome.INVALID: 1, Outcome.FILTERED: 1}
    assert [problem.pointer for problem in ledger.problems] == ["line 2"]
    assert [filtered.pointer for filtered in ledger.filtered] == ["line 3"]


def test_a_message_of_a_named_format_is_read_by_its_decoder() -> None:
    body = 'cpu{host="a"} 0.5\nbroken {\n'
    ledger = Ledger()
    intake = make_intake(Settings.read(environ()), FakeClock(), ledger)
    intake.take_all([Message("s", body, "c", format=Format.PROMETHEUS_TEXT)])
    (found,) = intake.points
    assert (found.series.metric, found.value) == ("cpu", 0.5)
    assert ledger.received == 2


def test_a_message_without_a_named_format_is_detected_by_its_shape() -> None:
    bodies = [
        'cpu{host="a"} 0.5',
        '{"name":"cpu","fields":{"usage":1},"tags":{},"timestamp":1767225600}',
        "cpu,host=a usage=1",
    ]
    for body in bodies:
        ledger = Ledger()
        intake = make_intake(Settings.read(environ()), FakeClock(), ledger)
        intake.take_all([Message("s", json.dumps(point()), "c"), Message("s", body, "d")])
        assert (len(intake.points), ledger.problems) == (2, []), body


def test_a_setting_names_the_format_of_a_topic() -> None:
    ledger = Ledger()
    intake = make_intake(Settings.read(environ()), FakeClock(), ledger)
    rules = intake._rules._replace(format_of=lambda source: Format.INFLUX if source == "t" else None)
    intake._rules = rules
    intake.take_all(
        [
            Message("t", json.dumps(point()), "c"),
            Message("t", "cpu a=1", "c"),
            Message("s", json.dumps(point()), "d"),
        ]
    )
    assert [found.series.metric for found in intake.points] == ["cpu_a", "diskusage"]
    assert ledger.received == 3


def test_a_sample_with_a_namespace_belongs_to_another_series_than_one_without() -> None:
    sample = Sample("line 1", "cpu", {"host": "a"}, 0.5)
    intake, _ = take(environ(), sample, sample._replace(namespace="other"), sample)
    assert [found.series.namespace for found in intake.points] == ["pc", "other", "pc"]


def test_a_rule_changes_a_sample_whose_new_name_is_that_of_another() -> None:
    rules = [
        {"source_labels": ["__name__"], "regex": old, "target_label": "__name__", "replacement": new}
        for old, new in (("b", "c"), ("a", "b"))
    ]
    samples = [Sample(f"line {n}", name, {}, 0.5) for n, name in enumerate("aba")]
    intake, _ = take(remote_write_environ(NAMESPACE="", RELABEL=json.dumps(rules)), *samples)
    assert [found.series.metric for found in intake.points] == ["b", "c", "b"]
