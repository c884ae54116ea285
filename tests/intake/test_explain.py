"""What is said about a value that breaks a rule."""

import json
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.errors import ConfigError
from metric_forwarder.intake.schema import PointSchema
from metric_forwarder.times import NUMBERS_BELOW
from support.fakes import START
from support.harness import make_harness, outcomes, point


def user_schema(members: dict[str, Any], folder: Path) -> PointSchema:
    file = folder / "schema.json"
    file.write_text(json.dumps(members), "utf-8")
    return PointSchema("receiver", str(file))


def said(schema: PointSchema, value: Any) -> list[str]:
    return [violation.message for _, violation in schema.violations(value)]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"minimum": 3}, "1 is out of range"),
        ({"const": 2}, "breaks the rule const 2"),
        ({"enum": [2, 3]}, "breaks the rule enum"),
        ({"type": "string"}, "1 is not a string"),
        ({"type": ["array", "string"]}, "1 is not an array or a string"),
        ({"not": {}}, "breaks the rule not"),
    ],
    ids=str,
)
def test_a_rule_of_a_user_s_schema_is_named_with_its_limit_if_that_is_short(
    rule: dict[str, Any], words: str, tmp_path: Path
) -> None:
    assert said(user_schema({"properties": {"value": rule}}, tmp_path), point(1)) == [words]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"timestamp": "yesterday"}, '"yesterday" is not a time'),
        ({"metricName": "a b"}, '"a b" is not allowed'),
        ({"dimensions": {"a": "\ud800"}}, '"\\ud800" holds half of a surrogate pair: it must be a string'),
        (
            {"dimensions": {"a": "\udce9"}},
            '"\\udce9" holds a byte that is not UTF-8, or half of a surrogate pair: it must be a string',
        ),
        ({"metricname": "a"}, 'is no member of a point: did you mean "metricName"?'),
        ({"fields": "a"}, "is no member of a point: remove it"),
        ({"value": "12"}, '"12" is not a number'),
        ({"value": "x" * 33}, "a string of 33 characters is not a number"),
        ({"value": [1, 2]}, "an array of 2 is not a number"),
        ({"value": {"a": 1}}, "an object of 1 is not a number"),
        ({"value": None}, "null is not a number"),
        ({"value": True}, "true is not a number"),
    ],
    ids=str,
)
def test_a_point_is_told_what_is_wrong_and_what_would_be_right(members: dict[str, Any], words: str) -> None:
    (message,) = said(PointSchema("receiver"), point(1) | members)
    assert message.startswith(words)


def test_a_rule_for_members_whose_names_match_a_pattern_judges_those_and_names_the_place(
    tmp_path: Path,
) -> None:
    rules = {"dimensions": {"patternProperties": {"^ip": {"pattern": "^10[.]"}}}}
    schema = user_schema({"properties": rules}, tmp_path)
    good = point(1, dimensions={"ip": "10.0.0.1", "host": "a"})
    assert schema.accepts(good)
    ((path, violation),) = schema.violations(good | {"dimensions": {"ip6": "::1", "host": "a"}})
    assert (path, violation.rule) == (("dimensions", "ip6"), "pattern")
    # What is no object is the matter of another rule.
    assert [path for path, _ in schema.violations(good | {"dimensions": 5})] == [("dimensions",)]


@pytest.mark.parametrize("word", ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependencies"])
def test_a_schema_that_leads_back_to_itself_for_the_same_value_is_refused(word: str, tmp_path: Path) -> None:
    back: dict[str, Any] = {"$ref": "#/definitions/a"}
    inner: Any = [back] if word.endswith("Of") else {"x": back} if word == "dependencies" else back
    with pytest.raises(ConfigError, match="leads back to itself"):
        user_schema({"definitions": {"a": {word: inner}}, "$ref": "#/definitions/a"}, tmp_path)


def test_a_schema_that_names_a_member_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text('{"properties":{"value":{"maximum":1}},"properties":{}}')
    with pytest.raises(ConfigError, match="names a member of an object twice: keep one"):
        PointSchema("receiver", str(file))


def test_a_replayed_point_is_judged_by_its_structure_and_not_again_by_a_user_s_schema(tmp_path: Path) -> None:
    schema = user_schema({"properties": {"value": {"maximum": 10}}}, tmp_path)
    assert not schema.accepts(point(11))
    assert schema.accepts_replayed(point(11))
    assert not schema.accepts_replayed(point("11"))
    assert not schema.accepts_replayed(point(10**400))


@pytest.mark.parametrize(
    ("timestamp", "is_valid"), [(NUMBERS_BELOW, False), (NUMBERS_BELOW - 1, True), (-1, False)]
)
def test_a_time_as_a_number_has_bounds(timestamp: int, *, is_valid: bool) -> None:
    assert PointSchema("receiver").accepts(point(1, timestamp=timestamp)) == is_valid


@pytest.mark.parametrize("timestamp", [0, 0.5])
def test_a_time_may_be_as_early_as_1970(timestamp: float) -> None:
    harness = make_harness(MAX_AGE_S="0")
    assert outcomes(harness.handle(point(1, timestamp=timestamp))) == {"delivered": 1}


def test_an_old_point_is_stale_by_the_rule_of_its_age(tmp_path: Path) -> None:
    harness = make_harness(SPOOL=tmp_path.as_uri())
    report = harness.handle(point(1, timestamp=START - 301))
    assert outcomes(report) == {"stale": 1}
    assert [(error["rule"], error["pointer"]) for error in report["errors"]] == [("maxAge", "/timestamp")]
