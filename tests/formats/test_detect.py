"""Which format a message is taken for; see docs/formats.md."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.formats import Format, read
from metric_forwarder.formats.detect import FormatRules, detect, detect_decoding, read_rules
from metric_forwarder.formats.samples import MAX_SAMPLES, FormatHint, InvalidSample, Reading, Sample
from support.harness import ROOT

HINT = FormatHint()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"metricName":"a","dimensions":{},"value":1}', Format.JSON),
        ('{"points":[]}', Format.JSON),
        ('{"Namespace":"a","Data":[]}', Format.JSON),
        ('"{\\"metricName\\":\\"a\\"}"', Format.JSON),
        ("[]", Format.JSON),
        ("", Format.JSON),
        ("{broken", Format.JSON),
        ('{"fields":{"a":1},"name":"x","tags":{}}', Format.TELEGRAF_JSON),
        ('\ufeff \n{"metrics":[{"fields":{"a":1},"name":"x"}]}', Format.TELEGRAF_JSON),
        ('{"fields":{"a":1},"name":"x"}\n{"fields":{"a":1},"name":"x"}', Format.TELEGRAF_JSON),
        ('{broken\n{"fields":{"a":1},"name":"x"}', Format.TELEGRAF_JSON),
        ('{"resourceMetrics":[],"unknown":1}', Format.OTLP_JSON),
        ('{"labels":{"__name__":"a"},"value":"1"}', Format.KAFKA_ADAPTER),
        ('{"labels":{"__name__":"a"},"__value":"1"}', Format.KAFKA_ADAPTER),
        ("up 1", Format.PROMETHEUS_TEXT),
        ('\n\tup{a="b"} NaN 5', Format.PROMETHEUS_TEXT),
        ('{"a.b",c="d"} 1', Format.PROMETHEUS_TEXT),
        ("# HELP up Whether.", Format.PROMETHEUS_TEXT),
        ("# TYPE a counter\na_total 1\n# EOF\n", Format.PROMETHEUS_TEXT),
        ('m{a="x y=1"} 3', Format.PROMETHEUS_TEXT),
        ("cpu usage=1", Format.INFLUX),
        ("# a comment\ncpu,host=a\\ b usage=1i,b=t 1556813561098000000", Format.INFLUX),
        ('cpu message="a, b c"', Format.INFLUX),
        ("not a line of any format\ncpu usage=1\n", Format.INFLUX),
        ("cpu usage=abc", Format.INFLUX),
    ],
)
def test_a_message_is_taken_for_what_it_is(body: str, expected: Format) -> None:
    assert detect(body, HINT) is expected
    assert detect(body.encode(), HINT) is expected


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", Format.PROMETHEUS_TEXT),
        ("text/plain; version=0.0.4", Format.PROMETHEUS_TEXT),
        ("text/plain; charset=utf-8", Format.INFLUX),
    ],
)
def test_a_content_type_that_names_a_format_is_believed(content_type: str, expected: Format) -> None:
    assert detect("cpu usage=1", FormatHint(content_type=content_type)) is expected


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"metrics": [{"name": "a"}]}, 'looks like telegraf-json, but none of its first "metrics" has a'),
        ({"fields": {"a": 1}}, 'looks like telegraf-json, but it has no "name"'),
        ({"name": "a", "tags": {}}, 'looks like telegraf-json, but it has no "fields"'),
        ({"resource_metrics": []}, "looks like otlp-json, but its members are not in lowerCamelCase"),
        ({"resourceSpans": []}, "looks like otlp-json, but it holds traces or logs"),
        ({"labels": {"a": "b"}, "value": "1"}, 'looks like kafka-adapter, but its "labels" have no "__name__"'),
        ({"labels": {"__name__": "b"}}, 'looks like kafka-adapter, but it has no "value"'),
        ({"labels": {"__name__": "b"}, "value": 1, "name": "b", "fields": {}}, "may be telegraf-json or kafka-adapter: set MF_FORMAT"),
        ({"points": [], "resourceMetrics": []}, "may be otlp-json or json: set MF_FORMAT"),
    ],
)  # fmt: skip
def test_json_that_almost_fits_or_fits_twice_says_so(body: Any, words: str) -> None:
    for form in (body, [body], json.dumps(body)):
        found = detect(form, HINT)
        assert isinstance(found, InvalidSample)
        assert words in found.message


TELEGRAF = '{"name":"disk","fields":{"used":1},"tags":{},"timestamp":1767225600}'
OTLP = '{"resourceMetrics":[]}'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"name":"cpu","tags":{}}\n' + TELEGRAF, Format.TELEGRAF_JSON),
        ('{"message":"started"}\n' + TELEGRAF, Format.TELEGRAF_JSON),
        ('[{"name":"cpu","tags":{}},' + TELEGRAF + "]", Format.TELEGRAF_JSON),
        ('{"metrics":[{"name":"cpu","tags":{}},' + TELEGRAF + "]}", Format.TELEGRAF_JSON),
        ('{"resourceSpans":[]}\n' + OTLP, Format.OTLP_JSON),
        ('{"metricName":"m"}\n' + TELEGRAF, Format.JSON),
    ],
)  # fmt: skip
def test_an_odd_value_at_the_beginning_does_not_hide_what_the_others_are(body: str, expected: Format) -> None:
    for form in (body, body.encode()):
        assert detect(form, HINT) is expected


def test_of_values_of_which_none_fits_all_are_kept() -> None:
    body = '{"name":"cpu","tags":{}}{"name":"mem","tags":{}}'
    found = detect(body, HINT)
    assert isinstance(found, InvalidSample)
    assert found.raw == body


@pytest.mark.parametrize("body", ["servers.a.load 1 1700000000", "hello world", "<html>", b"\x0a\x0b\x00"])
def test_what_fits_no_format_says_what_to_set(body: str | bytes) -> None:
    found = detect(body, HINT)
    assert isinstance(found, InvalidSample)
    assert "set MF_FORMAT" in found.message


def test_compressed_data_that_nobody_announced_is_called_so_and_not_a_format() -> None:
    for body in (gzip.compress(b"a 1"), gzip.compress(gzip.compress(b"a 1")), b"\x28\xb5\x2f\xfd\x04\x00"):
        found = detect(body, HINT)
        assert isinstance(found, InvalidSample)
        assert "is compressed" in found.message


@pytest.mark.parametrize(
    "text",
    ["Summary:\nErrors: 3\nWarnings: 10", "\n# TYPE x counter\n", "m v=1\nx=1", "\\\nup 1\n", '\\"\r\nup 1'],
)
def test_what_the_lines_of_a_text_look_like_does_not_hide_that_the_message_is_influx(text: str) -> None:
    body = f'syslog,host=a message="{text}",severity_code=3i 1767225600000000000'
    assert detect(body, HINT) is Format.INFLUX
    filtered, sample = read(Format.INFLUX, body, HINT)
    assert filtered.where == "line 1 field message"
    assert isinstance(sample, Sample)
    assert (sample.metric, sample.value) == ("syslog_severity_code", 3)


@pytest.mark.parametrize(
    "body", ['syslog message="cut off\nup 1', 'a b="x\nup{a="b"} 1', 'm{a="x y="} 3\nm 4']
)
def test_a_quote_that_closes_no_text_of_influx_does_not_make_a_message_influx(body: str) -> None:
    assert detect(body, HINT) is Format.PROMETHEUS_TEXT


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("# c\n" * 150 + "m v=1 5", Format.INFLUX),
        ("# c\n" * 150 + "m 1", Format.PROMETHEUS_TEXT),
        ("\n" * 1_200 + "up 1", Format.PROMETHEUS_TEXT),
        ("\n" * 1_200 + TELEGRAF, Format.TELEGRAF_JSON),
        ('{"a\\"b"} 1', Format.PROMETHEUS_TEXT),
        ("1" + " " * 300 + "x", None),
    ],
)
def test_comments_blank_lines_and_escapes_do_not_hide_a_format(body: str, expected: Format | None) -> None:
    for form in (body, body.encode()):
        found = detect(form, HINT)
        assert found is expected if expected else isinstance(found, InvalidSample)


@pytest.mark.parametrize("lines", ["m,a=b v=1 5\nm v=2 6", "# TYPE a gauge\na 1\n"])
def test_lines_that_are_json_encoded_once_more_are_read_as_what_they_are(lines: str) -> None:
    for form in (json.dumps(lines), json.dumps(lines).encode()):
        assert detect_decoding(form, HINT) == (detect(lines, HINT), lines)
    assert detect(json.dumps("hello"), HINT) is Format.JSON


@pytest.mark.parametrize(
    ("body", "expected", "where"),
    [
        ('{"name":"m","fields":{"a":1,"a":2}}', Format.TELEGRAF_JSON, "/fields"),
        ('{"metrics":[{"name":"m","fields":{"a":1},"tags":{"a":"x","a":"x"}}]}', Format.TELEGRAF_JSON, "/metrics/0/tags"),
        ('{"labels":{"__name__":"m","a":"x","a":"x"},"value":"1"}', Format.KAFKA_ADAPTER, "/labels"),
    ],
)  # fmt: skip
def test_a_name_that_an_object_has_twice_is_said_to_be_so(body: str, expected: Format, where: str) -> None:
    assert detect(body, HINT) is expected
    (found,) = read(expected, body, HINT)
    assert isinstance(found, InvalidSample)
    assert (found.where, found.rule, found.message) == (
        where,
        "duplicate-key",
        'holds the name "a" twice: keep one',
    )
    assert isinstance(found.raw, dict)


def test_json_that_only_resembles_a_format_is_told_of_the_mapping() -> None:
    found = detect({"name": "m", "tags": {}, "kind": "absolute", "gauge": {"value": 1}}, HINT)
    assert isinstance(found, InvalidSample)
    assert found.message.endswith("JSON of another format needs MF_MAPPING")


@given(st.text() | st.binary() | st.text(alphabet='ab{}[]=",\\ #1\n'))
def test_whatever_the_message_detection_ends_with_an_answer(body: str | bytes) -> None:
    assert isinstance(detect(body, HINT), (Format, InvalidSample))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", FormatRules()),
        ("influx", FormatRules((), Format.INFLUX)),
        (
            "a=influx, b*=otlp-json,auto",
            FormatRules((("a", Format.INFLUX), ("b*", Format.OTLP_JSON)), None),
        ),
        ("a=auto,json", FormatRules((("a", None),), Format.JSON)),
    ],
)
def test_a_setting_names_one_format_or_one_for_each_topic(text: str, expected: FormatRules) -> None:
    assert read_rules(text) == expected


@pytest.mark.parametrize("text", ["", "xml", "=influx", "a=", "influx,json", "a=influx,,auto"])
def test_a_setting_that_names_no_format_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be auto"):
        read_rules(text)


@pytest.mark.parametrize("text", ["a=influx,a=auto", "a=auto,b=json,a=auto,json", "a*=json, a* =influx"])
def test_a_topic_is_named_by_one_rule_since_the_second_would_never_count(text: str) -> None:
    with pytest.raises(ValueError, match="must be rules that name each topic once"):
        read_rules(text)


def test_the_rule_of_a_topic_is_found_by_the_source_of_its_message() -> None:
    rules = read_rules("metrics=influx,otel-*=otlp-json,json")
    influx = ("metrics/0@37", "metrics/path/of/an/object", "metrics#5", "metrics log 3", "metrics event 7")
    assert [rules.find(source) for source in influx] == [Format.INFLUX] * 5
    assert rules.find("otel-prod/1@2") is Format.OTLP_JSON
    assert [rules.find(source) for source in ("metrics-2/0@1", "body", "event 7")] == [Format.JSON] * 3


@pytest.mark.slow
def test_the_samples_before_too_many_are_taken_and_one_invalid_stands_for_the_others() -> None:
    body = "m 1\n" * (MAX_SAMPLES + 2)
    *taken, last = read(Format.PROMETHEUS_TEXT, body, HINT)
    assert len(taken) == MAX_SAMPLES
    assert isinstance(last, InvalidSample)
    assert (last.where, last.rule) == (f"line {MAX_SAMPLES + 1}", "size")


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["", " # {} 1"], ids=["a sample", "an exemplar"])
def test_of_too_many_lines_those_that_were_not_taken_are_kept(ending: str) -> None:
    lines = [f'm{{of="é{number}"}} 1' for number in range(MAX_SAMPLES + 2)]
    # The first one that is not read is the last sample, or the exemplar of the one before.
    lines[MAX_SAMPLES - 1] += ending
    body = "# TYPE m gauge\n" + "\n".join([*lines, "# EOF\n"])
    for text in (body, body.encode()):
        *_, last = read(Format.PROMETHEUS_TEXT, text, HINT)
        assert isinstance(last, InvalidSample)
        assert "the others are not read" in last.message
        rest = [
            reading.dimensions["of"]
            for reading in read(Format.PROMETHEUS_TEXT, last.raw, HINT)
            if isinstance(reading, Sample)
        ]
        assert rest == [f"é{MAX_SAMPLES}", f"é{MAX_SAMPLES + 1}"]


@pytest.mark.slow
def test_of_too_many_samples_without_lines_none_is_kept_and_the_error_says_so() -> None:
    body = json.dumps({"name": "m", "fields": {f"f{number}": 1 for number in range(MAX_SAMPLES + 1)}})
    *taken, last = read(Format.TELEGRAF_JSON, body, HINT)
    assert len(taken) == MAX_SAMPLES
    assert isinstance(last, InvalidSample)
    assert last.raw is None
    assert "neither read nor kept" in last.message


@pytest.mark.slow
def test_an_influx_message_of_too_many_samples_is_invalid_as_a_whole() -> None:
    # A line that is not read may replace one that was.
    body = "\n".join(f"a b={n}" for n in range(MAX_SAMPLES + 1))
    (found,) = read(Format.INFLUX, body, HINT)
    assert isinstance(found, InvalidSample)
    assert (found.rule, found.raw) == ("size", body)


def test_a_sample_is_handed_over_before_the_next_one_is_read() -> None:
    taken: list[Reading] = []

    def decode(body: str | bytes, hint: FormatHint) -> Iterator[Reading]:  # noqa: ARG001 - a ``Decoder``
        for number in range(3):
            assert len(taken) == number
            yield Sample(str(number), "m", {}, number)

    taken.extend(read(Format.MAPPING, "", HINT, decode))
    assert len(taken) == 3


LOADED = """
import sys
from metric_forwarder.formats import Format, read
from metric_forwarder.formats.detect import detect
from metric_forwarder.formats.samples import MAX_SAMPLES, FormatHint
known = {"formats", "formats.samples", "formats.detect", "formats.payload", "formats.json_text", "formats.json_values"}
def loaded():
    names = {name.removeprefix("metric_forwarder.") for name in sys.modules if name.startswith("metric_forwarder.formats")}
    return sorted(names - known)
print(loaded())
list(read(detect("cpu usage=1", FormatHint()), "cpu usage=1", FormatHint()))
print(loaded())
"""


def test_the_module_of_a_format_is_loaded_with_its_first_message() -> None:
    told = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "src")}
    )  # fmt: skip
    assert told.stdout.split("\n")[:2] == ["[]", "['formats.influx', 'formats.lines', 'formats.names']"]


@pytest.mark.parametrize("body", ["null", "true", "1", "-2.5e3"])
def test_json_that_is_not_an_object_is_still_reported_as_json(body: str) -> None:
    assert detect(body, FormatHint()) is Format.JSON


def test_an_empty_batch_of_telegraf_holds_nothing() -> None:
    assert detect('{"metrics": []}', FormatHint()) is Format.TELEGRAF_JSON
    assert list(read(Format.TELEGRAF_JSON, '{"metrics": []}', FormatHint())) == []
