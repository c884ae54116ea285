"""What is a point, and what is said about one that is not."""

import json
import math
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metric_forwarder.errors import ConfigError
from metric_forwarder.formats.json_text import NotJson, decode
from metric_forwarder.intake.schema import MAX_FLOAT, SCHEMAS, PointSchema
from support.fakes import START
from support.harness import Harness, ckafka, make_harness, make_remote_write_harness, outcomes, point

DESTINATIONS = ("receiver", "remote-write")
SCHEMA_OF = {name: PointSchema(name) for name in DESTINATIONS}
PLAIN = {
    name: jsonschema.Draft7Validator(json.loads((SCHEMAS / f"{name}.json").read_text()))
    for name in DESTINATIONS
}

NAMES = st.sampled_from(
    [
        "cpu",
        "a_1",
        "9",
        "",
        "a-b",
        "a\n",
        "ä",
        "x" * 33,
        "盘",
        "\ud800",
        "__a",
        "_a",
        "a:b",
        ":",
        "x" * 1025,
        "ä" * 2049,
    ]
)
NAMES |= st.text(max_size=3)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**400), 2**64, math.inf, -math.inf, math.nan, 0.0, 1e14, 1e308, True])
)
SCALARS = (
    NUMBERS
    | NAMES
    | st.none()
    | st.booleans()
    | st.sampled_from(["2026-01-31T08:00:00Z", "2026-02-30T08:00:00Z"])
)
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(NAMES, SCALARS, max_size=7)
MEMBERS = ["metricName", "dimensions", "value", "namespace", "timestamp", "id"]
LIKELY = st.fixed_dictionaries(
    {
        "metricName": NAMES,
        "dimensions": st.dictionaries(NAMES, NAMES | SCALARS, max_size=6)
        | st.integers(4, 34).map(lambda size: {f"a{number}": "x" for number in range(size)})
        | VALUES,
        "value": NUMBERS | VALUES,
    },
    optional={"namespace": NAMES, "timestamp": SCALARS, "id": SCALARS},
)
ANYTHING = VALUES | st.dictionaries(st.sampled_from(MEMBERS) | NAMES, VALUES, max_size=6) | LIKELY


@pytest.mark.slow
@pytest.mark.parametrize("destination", DESTINATIONS)
@given(candidate=ANYTHING)
@settings(max_examples=2000)
@example(candidate=point(dimensions={"a": True}))
@example(candidate=point(dimensions={"a": 1.0}))
@example(candidate=point("1"))
@example(candidate=point(metric="a\n"))
@example(candidate=point(namespace="x" * 33))
@example(candidate=point(id=""))
@example(candidate=point(dimensions={"a": "ä\ud800"}))
@example(candidate=point(dimensions={"a": "x" * 2049}))
@example(candidate=point(dimensions={"x" * 1025: "x"}))
@example(candidate=point(metric="x" * 1025))
@example(candidate=point(value=math.nan))
@example(candidate=point(dimensions={"a": 2**64 - 1, "b": -(2**63), "c": -0.0}))
@example(candidate=point(dimensions={"a": 2**64}))
@example(candidate=point(dimensions={"a": 1e300}))
@example(candidate=point(id=0))
@example(candidate=point(id="x" * 1025))
@example(candidate=point(timestamp="1969-12-31T23:59:59Z"))
def test_a_point_is_accepted_if_and_only_if_jsonschema_finds_nothing_wrong(
    destination: str, candidate: Any
) -> None:
    accepted = SCHEMA_OF[destination].accepts(candidate)
    assert accepted == (SCHEMA_OF[destination].violations(candidate) == [])
    assert PLAIN[destination].is_valid(candidate) or not accepted


@pytest.mark.slow
@pytest.mark.parametrize("destination", DESTINATIONS)
@given(candidate=ANYTHING)
@settings(max_examples=700)
def test_whatever_jsonschema_refuses_is_explained(destination: str, candidate: Any) -> None:
    try:
        refused = not PLAIN[destination].is_valid(candidate)
    except OverflowError:
        refused = True
    violations = SCHEMA_OF[destination].violations(candidate)
    assert violations or not refused
    assert all(violation.message and len(violation.message) < 400 for _, violation in violations)


def dims(count: int) -> dict[str, str]:
    return {f"a{number}": "x" for number in range(count)}


# A destination, the last that it takes, and the first that it does not.
EDGES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "the largest number": ("receiver", {"value": MAX_FLOAT}, {"value": 2**1024}),
    "the least number": ("receiver", {"value": -MAX_FLOAT}, {"value": -(2**1024)}),
    "a namespace": ("receiver", {"namespace": "x" * 32}, {"namespace": "x" * 33}),
    "a metric": ("remote-write", {"metricName": "x" * 1024}, {"metricName": "x" * 1025}),
    "dimensions of the receiver": ("receiver", {"dimensions": dims(5)}, {"dimensions": dims(6)}),
    "dimensions of remote write": ("remote-write", {"dimensions": dims(32)}, {"dimensions": dims(33)}),
    "a name": ("remote-write", {"dimensions": {"x" * 1024: "x"}}, {"dimensions": {"x" * 1025: "x"}}),
    "a text": ("remote-write", {"dimensions": {"a": "x" * 2048}}, {"dimensions": {"a": "x" * 2049}}),
    "a text beyond ASCII": ("remote-write", {"dimensions": {"a": "ä" * 2048}}, {"dimensions": {"a": "ä" * 2049}}),
    "an empty text": ("receiver", {"dimensions": {"a": ""}}, {"dimensions": {"a": None}}),
    "a large whole number": ("receiver", {"dimensions": {"a": 2**64 - 1}}, {"dimensions": {"a": 2**64}}),
    "a small whole number": ("receiver", {"dimensions": {"a": -(2**63)}}, {"dimensions": {"a": -(2**63) - 1}}),
    "a short id": ("receiver", {"id": "x"}, {"id": ""}),
    "a long id": ("receiver", {"id": "x" * 1024}, {"id": "x" * 1025}),
    "a large id": ("receiver", {"id": 2**64 - 1}, {"id": 2**64}),
    "a small id": ("receiver", {"id": -(2**63)}, {"id": -(2**63) - 1}),
    "an id that is whole": ("receiver", {"id": 1.0}, {"id": 1.5}),
    "a destination without bounds": ("stdout", {"dimensions": {"x" * 5000: "x" * 5000, **dims(99)}}, {"dimensions": []}),
    "a name that is text": ("stdout", {"dimensions": {"1": "x"}}, {"dimensions": {1: "x"}}),
}  # fmt: skip


@pytest.mark.parametrize(("destination", "last", "next_one"), EDGES.values(), ids=EDGES)
def test_a_point_is_accepted_up_to_what_the_schema_says_and_no_further(
    destination: str, last: dict[str, Any], next_one: dict[str, Any]
) -> None:
    schema = PointSchema(destination)
    assert schema.accepts(point() | last)
    assert schema.violations(point() | last) == []
    assert not schema.accepts(point() | next_one)
    assert schema.violations(point() | next_one)


def test_what_is_remembered_of_valid_names_is_bounded_however_many_and_long_they_are() -> None:
    accepts = PointSchema("receiver").accepts
    tracemalloc.start()
    try:
        for number in range(5000):
            assert accepts(point(metric=f"m{number}_" + "x" * 80))
            assert accepts(point(metric=f"m{number}_" + "x" * 10_000))
            assert not accepts(point(metric=f"m{number} " + "x" * 80))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 300_000


@pytest.mark.parametrize(
    "ids",
    [
        ["x", "x" * 1024], ["x", ""], ["x", "x" * 1025], ["x", None], [None, 2**64 - 1], [None, 2**64], ["", None],
        ["x" * 1025, None], [-(2**63) - 1, "x"], [1.0], [1.5], [True], [[]],
    ],
)  # fmt: skip
@pytest.mark.parametrize("users", [False, True])
def test_many_ids_are_right_if_each_of_them_is(ids: list[Any], tmp_path: Path, *, users: bool) -> None:
    path = tmp_path / "own.json"
    path.write_text("{}")
    schema = PointSchema("receiver", str(path) if users else "")
    assert schema.accepts_ids(ids) == all(key is None or schema.accepts(point(id=key)) for key in ids)


@pytest.mark.parametrize(
    "make",
    [make_harness, lambda: make_remote_write_harness(NAMESPACE="")],
    ids=["receiver", "remote-write without a namespace"],
)
@pytest.mark.parametrize(
    "wrong",
    [
        {"unit": "s"},
        {"unit": "s", "id": "a"},
        {"namespace": ""},
        {"namespace": "", "id": "a"},
        {"id": ""},
        {"id": "x" * 1025},
        {"id": True},
        {"timestamp": "noon"},
    ],
    ids=str,
)
def test_a_wrong_member_of_a_point_whose_series_is_known_is_found(make: Any, wrong: dict[str, Any]) -> None:
    harness = make()
    assert outcomes(harness.handle([point(1), point(2, "other")])) == {"delivered": 2}
    assert outcomes(harness.handle([point(3), point(4, "other", **wrong)])) == {"delivered": 1, "invalid": 1}


def test_an_id_that_is_a_whole_number_is_the_same_as_its_text() -> None:
    harness = make_harness()
    assert outcomes(harness.handle([point(1), point(2, "other")])) == {"delivered": 2}
    assert outcomes(harness.handle([point(3, id="a"), point(4, "other", id=5.0)])) == {"delivered": 2}
    assert outcomes(harness.handle([point(3, id="a"), point(4, "other", id="5")])) == {"duplicate": 2}


def test_under_a_users_schema_an_id_identifies_and_each_reading_of_a_moment_has_a_time_of_its_own(
    tmp_path: Path,
) -> None:
    path = tmp_path / "own.json"
    path.write_text("{}")
    harness = make_harness(SCHEMA=str(path))
    for outcome in ("delivered", "duplicate"):
        assert outcomes(harness.handle(point(1, id="a"))) == {outcome: 1}
    remote_write = make_remote_write_harness(SCHEMA=str(path))
    points = [point(1, timestamp=START - 60), point(2), point(3), point(4)]
    assert outcomes(remote_write.handle(points)) == {"delivered": 4}
    (samples,) = remote_write.prometheus.samples.values()
    assert len(samples) == 4
    assert min(samples)[0] == (START - 60) * 1000


def test_a_point_that_comes_again_is_not_judged_again_by_a_users_schema(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text('{"properties": {"value": {"maximum": 5}}}')
    schema = PointSchema("receiver", str(path))
    assert [_validates(schema, value) for value in (1, 1, 7, 7, 1)] == [
        (True, True),
        (True, False),
        (False, True),
        (False, False),
        (True, False),
    ]


def _validates(schema: PointSchema, value: int) -> tuple[bool, bool]:
    """Whether a point is accepted, and whether a validator ran for that."""
    files: set[str] = set()
    sys.setprofile(lambda frame, _event, _argument: files.add(frame.f_code.co_filename))
    try:
        is_accepted = schema.accepts(point(value))
    finally:
        sys.setprofile(None)
    return is_accepted, any("jsonschema" in file for file in files)


WRONG: dict[str, tuple[Any, str, str, str]] = {
    "value as text": (point("12"), "/value", "type", '"12" is not a number'),
    "value as boolean": (point(value=True), "/value", "type", "true is not a number"),
    "value too large": (point(10**400), "/value", "maximum", "beyond every number"),
    "no metric name": ({"dimensions": {}, "value": 1}, "/metricName", "required", 'add "metricName"'),
    "misspelt member": (point(1, timestmp=1), "/timestmp", "additionalProperties", 'did you mean "timestamp"?'),
    "illegal metric name": (point(metric="disk-usage"), "/metricName", "pattern", "letters, digits and underscores"),
    "six dimensions": (point(dimensions=dict.fromkeys("abcdef", "x")), "/dimensions", "maxProperties", "at most 5"),
    "illegal dimension name": (point(dimensions={"a/b~": "x"}), "/dimensions/a~1b~0", "pattern", "letters, digits"),
    "dimension as float": (point(dimensions={"a": 1.5}), "/dimensions/a", "type", "1.5 is not a string or an integer"),
    "dimension as boolean": (point(dimensions={"a": True}), "/dimensions/a", "type", "true is not"),
    "half a character": (point(dimensions={"a": "\ud800"}), "/dimensions/a", "pattern", "half of a surrogate pair"),
    "no such day": (point(timestamp="2026-02-30T00:00:00Z"), "/timestamp", "format", "is not a time"),
    "microseconds": (point(timestamp=1767225600000000), "/timestamp", "exclusiveMaximum", "out of range"),
    "namespace too long": (point(namespace="n" * 33), "/namespace", "maxLength", "longer than 32"),
    "no object": ([1], "/0", "type", "1 is not an object"),
    "null": ([None], "/0", "type", "null is not an object"),
}  # fmt: skip


@pytest.mark.parametrize(("payload", "pointer", "rule", "text"), WRONG.values(), ids=WRONG)
def test_an_error_says_where_which_rule_and_what_would_be_right(
    payload: Any, pointer: str, rule: str, text: str
) -> None:
    error = make_harness().handle([*payload] if isinstance(payload, list) else payload)["errors"][0]
    assert (error["pointer"], error["rule"]) == (pointer, rule)
    assert text in error["message"]


def test_all_errors_of_a_point_are_reported_and_good_points_of_the_message_still_go() -> None:
    harness = make_harness()
    bad = {"metricName": "a b", "dimensions": {"x": None, "y-": "1"}, "value": "1", "extra": 1}
    report = harness.handle(ckafka({"namespace": "pc", "points": [point(1), bad, point(2)]}, topic="demo"))
    assert outcomes(report) == {"delivered": 2, "invalid": 1}
    assert {(error["source"], error["pointer"]) for error in report["errors"]} == {
        ("demo/0@0", f"/points/1/{member}")
        for member in ("metricName", "dimensions/x", "dimensions/y-", "value", "extra")
    }


def test_an_inherited_member_is_pointed_at_where_it_stands() -> None:
    envelope = {"namespace": "not legal", "dimensions": {"a": 1.5}, "points": [point(1)]}
    report = make_harness().handle(envelope)
    assert {error["pointer"] for error in report["errors"]} == {"/namespace", "/dimensions/a"}


UNREADABLE = {
    "NaN": '{"metricName":"m","dimensions":{},"value":NaN}',
    "Infinity": '{"metricName":"m","dimensions":{},"value":-Infinity}',
    "a float beyond range": '{"metricName":"m","dimensions":{},"value":1e999}',
    "an integer of 5000 digits": '{"metricName":"m","dimensions":{},"value":' + "9" * 5000 + "}",
    "duplicate keys": '{"metricName":"m","dimensions":{},"value":1,"value":2}',
    "duplicate keys in an envelope": '{"points":[],"points":[]}',
    "a depth bomb": "[" * 100_000,
    "a depth bomb that closes": "[" * 50_000 + "]" * 50_000,
    "a deep point": '{"metricName":"m","dimensions":{},"value":' + "[" * 500 + "]" * 500 + "}",
    "a string of 10 MB": '{"metricName":"' + "m" * 10_000_000 + '","dimensions":{},"value":1}',
    "10 MB of text": "x" * 10_000_000,
    "no JSON": "12 cpu",
    "nothing": "",
    "UTF-16": '{"metricName":"m"}'.encode("utf-16").decode("latin-1"),
    "encoded three times": json.dumps(json.dumps(json.dumps(point()))),
    "an unknown member around the points": '{"points":[{"metricName":"m","dimensions":{},"value":1}],"namespce":"pc"}',
    "an unknown member around no points": '{"points":[],"value":1}',
    "points that are no list": '{"points":{}}',
    "a number": "12",
    "true": "true",
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_a_message_that_cannot_be_read_is_one_invalid_point(body: str) -> None:
    report = make_harness().handle(ckafka(body))
    assert outcomes(report) == {"invalid": 1}
    assert len(json.dumps(report)) < 4000


def test_a_point_that_is_not_json_does_not_affect_its_neighbours() -> None:
    body = '[{"metricName":"m","dimensions":{},"value":NaN},{"metricName":"m","dimensions":{},"value":1}]'
    report = make_harness().handle(ckafka(body))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    assert report["errors"][0]["pointer"] == "/0/value"


def test_a_point_after_a_byte_order_mark_is_valid() -> None:
    assert outcomes(make_harness().handle(ckafka("\ufeff" + json.dumps(point())))) == {"delivered": 1}


def test_bytes_that_are_not_utf_8_are_invalid() -> None:
    report = make_harness().handle({"Records": [{"Ckafka": {"msgBody": b'{"metricName":"\xff"}'}}]})
    assert outcomes(report) == {"invalid": 1}
    assert report["errors"][0]["rule"] == "encoding"


@pytest.mark.slow
def test_ten_thousand_invalid_points_make_a_small_report() -> None:
    report = make_harness().handle(ckafka(*[{"value": "x" * 1000, "y" * 500: 1}] * 10_000))
    assert outcomes(report) == {"invalid": 10_000}
    assert len(report["errors"]) == 20
    # Four things are wrong with each; from the 101st on it is only said that something is.
    assert report["errorsOmitted"] == 4 * 100 + 9_900 - 20
    assert len(json.dumps(report)) < 65_536


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: [1] * 100_000, id="no points"),
        pytest.param(lambda: [point(dimensions={"a": [1]})] * 20_000, id="points with a mistake"),
        pytest.param(lambda: {"points": [1] * 2000} | {f"a{n}": 1 for n in range(2000)}, id="an envelope"),
        pytest.param(lambda: point(1) | {f"a{n}": 1 for n in range(50_000)}, id="members"),
        pytest.param(lambda: point(dimensions={f"a{n}": "x" for n in range(50_000)}), id="dimensions"),
        pytest.param(lambda: point(list(range(200_000))), id="a list for a value"),
        pytest.param(
            lambda: {"dimensions": {f"a{n}": "x" for n in range(100)}, "points": [{}] * 50_000},
            id="defaults for many points",
        ),
    ],
)
def test_a_bad_message_of_any_kind_costs_little_more_than_reading_it(make: Callable[[], Any]) -> None:
    body = json.dumps(make())
    harness = make_harness()
    harness.handle(point("1"))  # what is needed to explain is loaded
    assert _seconds(harness, body) < 10 * _seconds(harness, json.dumps([point(n) for n in range(20_000)]))
    tracemalloc.start()
    try:
        assert harness.handle(ckafka(body))["status"] == "failed"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(body) + 5_000_000


def _seconds(harness: Harness, body: str) -> float:
    began = time.process_time()
    harness.handle(ckafka(body))
    return time.process_time() - began


class _Pairs(list[tuple[str, Any]]):
    """An object whose names may stand twice."""


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=4) | st.sampled_from([":", '":', '\\":']),
        lambda inside: (
            st.lists(inside, max_size=3)
            | st.lists(st.tuples(st.sampled_from(["a", "b", ":", '"']), inside), max_size=4).map(_Pairs)
        ),
        max_leaves=8,
    ),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :")]),
)
@settings(max_examples=2000)
def test_no_name_that_stands_twice_is_dropped_in_silence(value: Any, separators: tuple[str, str]) -> None:
    # In a list: what is text alone would be decoded once more.
    text = _write([value], separators)
    assert _holds_refusal(decode(text)) == _has_a_name_twice_or_no_number(value)


def _write(value: Any, separators: tuple[str, str]) -> str:
    comma, colon = separators
    if isinstance(value, _Pairs):
        return "{" + comma.join(json.dumps(n) + colon + _write(v, separators) for n, v in value) + "}"
    if isinstance(value, list):
        return "[" + comma.join(_write(member, separators) for member in value) + "]"
    return json.dumps(value)


def _has_a_name_twice_or_no_number(value: Any) -> bool:
    if isinstance(value, _Pairs):
        names = [name for name, _ in value]
        return len(set(names)) < len(names) or any(_has_a_name_twice_or_no_number(v) for _, v in value)
    if isinstance(value, list):
        return any(map(_has_a_name_twice_or_no_number, value))
    return isinstance(value, float) and not math.isfinite(value)


def _holds_refusal(decoded: Any) -> bool:
    if isinstance(decoded, dict):
        return any(map(_holds_refusal, decoded.values()))
    if isinstance(decoded, list):
        return any(map(_holds_refusal, decoded))
    return isinstance(decoded, NotJson)


def test_a_schema_of_the_users_own_decides_in_place_of_ours(tmp_path: Path) -> None:
    schema = tmp_path / "own.json"
    schema.write_text(
        json.dumps({"type": "object", "properties": {"value": {"minimum": 10, "description": "at least 10"}}})
    )
    harness = make_harness(SCHEMA=str(schema))
    six = dict.fromkeys("abcdef", "x")
    report = harness.handle([point(10, unit="percent"), point(9), point(11, dimensions=1), {"value": 12}])
    assert outcomes(report) == {"delivered": 1, "invalid": 3}
    assert [error["pointer"] for error in report["errors"]] == [
        "/1/value",
        "/2/dimensions",
        "/3/metricName",
        "/3/dimensions",
    ]
    assert "at least 10" in report["errors"][0]["message"]
    # What the receiver cannot take is then the receiver's to refuse.
    assert outcomes(harness.handle(point(12, dimensions=six))) == {"rejected": 1}


UNUSABLE: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "name a file that can be read (No such file or directory)"),
    "bytes": (b"\xff", "its file must hold JSON in UTF-8"),
    "no JSON": (b"{", "its file must hold JSON in UTF-8"),
    "no schema": (
        b'{"properties": {"value": {"minLength": "x"}}}',
        'its file is not a draft-07 schema at properties/value/minLength: that must be type "integer"',
    ),
    "no schema where a reference leads": (
        b'{"title": "t", "not": {"$ref": "#/title"}}',
        'its file is not a draft-07 schema at its top: that must be type ["object", "boolean"]',
    ),
    "a list": (b"[]", "its file must hold a JSON object"),
}


@pytest.mark.parametrize(("content", "told"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_schema_that_cannot_be_used_is_a_configuration_error_that_says_why(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    path = tmp_path / "own.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        make_harness(SCHEMA=str(path)).handle(point())
    assert f"MF_SCHEMA cannot be used: {told}" in str(raised.value)


def test_the_error_for_a_file_that_is_not_a_schema_quotes_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text('{"type": "sEcret", "required": "sEcret"}')
    with pytest.raises(ConfigError) as raised:
        make_harness(SCHEMA=str(path)).handle(point())
    assert "sEcret" not in str(raised.value)
    assert "is not a draft-07 schema at" in str(raised.value)


UNFOLLOWABLE = {
    "nowhere": ({"$ref": "#/definitions/nope"}, '"#/definitions/nope" in its file leads nowhere'),
    "nowhere, for some points": ({"properties": {"a": {"$ref": "#b"}}}, '"#b" in its file leads nowhere'),
    "nowhere, by way of another": (
        {"items": {"$ref": "#/x"}, "x": {"$ref": "#/y"}},
        '"#/y" in its file leads nowhere',
    ),
    "another file": ({"allOf": [{"$ref": "defs.json"}]}, "leads out of it"),
    "another place": ({"not": {"$ref": "http://127.0.0.1:1/x"}}, "leads out of it"),
    "no URL": ({"not": {"$ref": "http://[/x"}}, "leads out of it"),
    "no schema": ({"title": "t", "not": {"$ref": "#/title"}}, "not a draft-07 schema"),
    "a bad schema": ({"x": {"type": "thing"}, "not": {"$ref": "#/x"}}, "not a draft-07 schema at type"),
    "itself": ({"$ref": "#"}, "leads back to itself"),
    "itself, in all": ({"allOf": [{"$ref": "#"}]}, "leads back to itself"),
    "itself, for some points": (
        {"properties": {"a": {"if": {"const": 1}, "then": {"$ref": "#/properties/a"}}}},
        "leads back to itself",
    ),
    "each other": (
        {
            "dependencies": {"a": {"$ref": "#/definitions/b"}},
            "definitions": {"b": {"oneOf": [{"not": {"$ref": "#"}}]}},
        },
        "leads back to itself",
    ),
}


@pytest.mark.parametrize(("schema", "told"), UNFOLLOWABLE.values(), ids=UNFOLLOWABLE)
def test_a_reference_that_cannot_be_followed_is_a_configuration_error_before_any_point(
    tmp_path: Path, schema: dict[str, Any], told: str
) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(schema))
    with pytest.raises(ConfigError, match="MF_SCHEMA cannot be used") as raised:
        make_harness(SCHEMA=str(path)).handle([])
    assert told in str(raised.value)


def test_references_that_can_be_followed_are(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    schema = {
        "$id": "http://example.org/root",
        "definitions": {
            "low": {"$id": "#low", "maximum": 9},
            "tree": {"$id": "deep/tree", "additionalProperties": {"$ref": "tree"}},
        },
        "properties": {
            "value": {"allOf": [{"$ref": "#low"}, {"$ref": "#/definitions/low"}, True]},
            "more": {"$ref": "deep/tree"},
            "$ref": {"$ref": "http://json-schema.org/draft-07/schema#"},
        },
    }
    path.write_text(json.dumps(schema))
    harness = make_harness(SCHEMA=str(path))
    good = point(1, more={"a": {"b": {}}}) | {"$ref": {"type": "string"}}
    report = harness.handle([good, point(10), point(1) | {"$ref": {"type": "thing"}}])
    assert outcomes(report) == {"delivered": 1, "invalid": 2}


def test_a_point_too_deep_for_a_schema_of_many_steps_is_invalid(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    steps = {str(n): {"allOf": [{"$ref": f"#/definitions/{n + 1}"}]} for n in range(40)}
    schema = {
        "$ref": "#/definitions/0",
        "definitions": {**steps, "40": {"additionalProperties": {"$ref": "#"}}},
    }
    path.write_text(json.dumps(schema))
    deep: dict[str, Any] = {}
    for _ in range(25):
        deep = {"a": deep}
    report = make_harness(SCHEMA=str(path)).handle([point(1, more=deep), point(2)])
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    assert report["errors"][0]["rule"] == "depth"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "broken",
    [
        {"namespace": "\ud800"},
        {"metric": "\ud800"},
        {"dimensions": {"a": "\ud800"}},
        {"dimensions": {"\ud800": "a"}},
        {"value": 2**1024 - 1},
    ],
    ids=["namespace", "metric", "dimension", "name", "a number beyond floats"],
)
def test_what_cannot_be_sent_is_invalid_even_by_a_schema_that_allows_everything(
    tmp_path: Path, method: str, broken: dict[str, Any]
) -> None:
    path = tmp_path / "own.json"
    path.write_text('{"properties": {"value": {"multipleOf": 0.5}}}')
    report = make_harness(SCHEMA=str(path), RECEIVER_METHOD=method).handle([point(**broken), point(id=1)])
    assert outcomes(report) == {"delivered": 1, "invalid": 1}


def with_schema(folder: Path, schema: Any, *points: Any) -> dict[str, Any]:
    path = folder / "own.json"
    path.write_text(schema if isinstance(schema, str) else json.dumps(schema), encoding="utf-8")
    report: dict[str, Any] = make_harness(SCHEMA=str(path)).handle(list(points))
    return report


REFUSED_SCHEMAS: dict[str, tuple[Any, str]] = {
    "2020-12": ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, "only draft-07 is supported"),
    "draft-04": ({"$schema": "http://json-schema.org/draft-04/schema#"}, "draft-04/schema#), and only"),
    "no standard": ({"$schema": "sEcret"}, "names another standard, and only draft-07 is supported"),
    "no text": ({"$schema": 7}, "names another standard, and only draft-07 is supported"),
    "2020-12 in a part": (
        {"properties": {"value": {"$schema": "https://json-schema.org/draft/2020-12/schema"}}},
        "only draft-07 is supported",
    ),
    "a word of a later draft": (
        {"unevaluatedProperties": False},
        '"unevaluatedProperties" is a word of a later',
    ),
    "one in a part": (
        {"properties": {"dimensions": {"dependentRequired": {}}}},
        "is a word of a later draft",
    ),
    "a pattern without an end": ({"properties": {"id": {"pattern": "(a"}}}, 'the pattern "(a" in its file'),
    "one between parts that are true": (
        {"properties": {"a": True, "id": {"pattern": "(a"}, "z": True}},
        'the pattern "(a" in its file',
    ),
    "a pattern for names without an end": ({"patternProperties": {"[a": True}}, "cannot be used"),
    "a pattern of Unicode properties": ({"properties": {"id": {"pattern": r"\p{L}"}}}, "cannot be used"),
    "NaN": ('{"properties": {"value": {"maximum": NaN}}}', "holds NaN, which is not a JSON number"),
    "a number beyond all": ('{"properties": {"value": {"multipleOf": 1e999}}}', "no 64-bit float holds"),
}


@pytest.mark.parametrize(("schema", "told"), REFUSED_SCHEMAS.values(), ids=REFUSED_SCHEMAS)
def test_a_schema_whose_rules_would_not_be_judged_as_written_is_a_configuration_error(
    tmp_path: Path, schema: Any, told: str
) -> None:
    with pytest.raises(ConfigError, match="MF_SCHEMA") as raised:
        with_schema(tmp_path, schema)
    assert told in str(raised.value)
    assert "sEcret" not in str(raised.value)


# What a schema says of a value: what it accepts, and what it does not.
JUDGED: dict[str, tuple[dict[str, Any], list[Any], list[Any]]] = {
    "multiples in decimal": ({"multipleOf": 0.01}, [19.99, 1.1, 0.07, -0.29, 1e300, 0], [0.001, 19.999]),
    "multiples of a tiny number": ({"multipleOf": 5e-324}, [0.1, 1.7e308, 3], []),
    "integers": ({"type": "integer"}, [1, 1.0, -0.0, 1e15], [1.5]),
    "words beside a reference are ignored": ({"$ref": "#/definitions/any", "maximum": 1}, [7], []),
    "words of a later draft, where draft-07 is named": (
        {"minContains": 2, "unevaluatedProperties": False, "maximum": 8},
        [7],
        [9],
    ),
    "formats that are not checked": ({"format": "ipv4"}, [7], []),
    "true is no 1": ({"enum": [1]}, [1, 1.0], [2]),
}


@pytest.mark.parametrize(("rule", "good", "bad"), JUDGED.values(), ids=JUDGED)
def test_a_schema_of_the_users_own_is_judged_as_its_standard_says(
    tmp_path: Path, rule: dict[str, Any], good: list[Any], bad: list[Any]
) -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema",
        "properties": {"value": rule},
        "definitions": {"any": {}},
    }
    report = with_schema(tmp_path, schema, *map(point, good), *map(point, bad))
    refused = [error["pointer"] for error in report["errors"]]
    assert refused == [f"/{number}/value" for number in range(len(good), len(good) + len(bad))]


PATTERNS: dict[str, tuple[str, list[str], list[str]]] = {
    "an end is no line break before it": ("^[a-z]+$", ["ab"], ["ab\n"]),
    "digits are ASCII": (r"^\d+$", ["12"], ["١٢"]),
    "letters are ASCII": (r"^\w+$", ["ab_1"], ["盘"]),
    "spaces are all of Unicode": (r"^\s$", [" ", "\u00a0", "\u3000"], ["a"]),
    "in a class as well": (r"^[\s\d$.]+$", ["\u3000", "1", "$."], ["a", "\u0661"]),
    "no space": (r"^\S$", ["a"], ["\u3000"]),
    "a named group": (r"^(?<pair>a|b)\k<pair>$", ["aa", "bb"], ["ab"]),
    "a code point": (r"^\u{1F600}\cA$", ["\U0001f600\x01"], ["u"]),
    "a slash, and what is nothing special": (r"^\/\A\Z$", ["/AZ"], ["/"]),
    "anything, nothing": (r"^[^]$|[]", ["\n", "a"], ["ab"]),
    "a class that holds an opening bracket": (r"^[a[]$", ["a", "["], ["b", "X", "\\"]),
    "a dot is no line end": ("^.$", ["a"], ["\n", "\r", "\u2028"]),
}


@pytest.mark.parametrize(("pattern", "good", "bad"), PATTERNS.values(), ids=PATTERNS)
def test_a_pattern_means_what_it_means_in_ecma_262(
    tmp_path: Path, pattern: str, good: list[str], bad: list[str]
) -> None:
    for place in (
        {"properties": {"id": {"pattern": pattern}}},
        {"properties": {"dimensions": {"propertyNames": {"pattern": pattern}}}},
        {"properties": {"dimensions": {"patternProperties": {pattern: True}, "additionalProperties": False}}},
    ):
        report = with_schema(
            tmp_path, place, *(point(1, id=text, dimensions={text: "x"}) for text in (*good, *bad))
        )
        assert {
            error["pointer"].split("/")[1] for error in report["errors"] if error["outcome"] == "invalid"
        } == {str(number) for number in range(len(good), len(good) + len(bad))}


def test_the_format_of_a_time_is_asked_of_texts_only(tmp_path: Path) -> None:
    schema = {"properties": {"dimensions": {"format": "date-time"}, "id": {"format": "date-time"}}}
    report = with_schema(tmp_path, schema, point(1), point(2, id="2026-01-01T00:00:00Z"), point(3, id="noon"))
    assert [(error["pointer"], error["rule"]) for error in report["errors"]] == [("/2/id", "format")]


def test_a_byte_order_mark_before_a_schema_is_read(tmp_path: Path) -> None:
    report = with_schema(tmp_path, '\ufeff{"properties": {"value": {"maximum": 5}}}', point(1), point(7))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}


def test_members_that_a_users_pattern_names_are_known(tmp_path: Path) -> None:
    schema = {
        "properties": {"metricName": {}, "value": {}, "dimensions": {}},
        "patternProperties": {"^x_": {"type": "string"}},
        "additionalProperties": False,
    }
    report = with_schema(tmp_path, schema, point(1, x_a="b"), point(2, y_a="b", x_a="b"))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    assert [error["pointer"] for error in report["errors"]] == ["/1/y_a"]


SAID: dict[str, tuple[Any, str]] = {
    "no object": (
        5,
        "5 is not an object: it must be an object with the members metricName, dimensions and value",
    ),
    "an infinity that a parser made": (
        point(float("inf")),
        "is beyond every number that can be sent: the largest is 1.7976931348623157e308",
    ),
    "NaN that a parser made": (
        point(float("nan")),
        "is not a number (NaN): send a finite number, or no point",
    ),
}


@pytest.mark.parametrize("destination", DESTINATIONS)
@pytest.mark.parametrize(("bad", "said"), SAID.values(), ids=SAID)
def test_an_errors_words_fit(destination: str, bad: Any, said: str) -> None:
    ((_, violation),) = SCHEMA_OF[destination].violations(bad)
    assert violation.message == said


def test_a_description_of_the_users_own_is_quoted(tmp_path: Path) -> None:
    rule = {"maximum": 1, "description": "A share of {one}. Never more."}
    report = with_schema(tmp_path, {"properties": {"value": rule}}, point(5))
    (error,) = report["errors"]
    assert error["message"] == '5 is out of range: MF_SCHEMA says of it "A share of {one}. Never more."'
