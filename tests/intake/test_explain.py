"""What is said about a value that breaks a rule."""

import json
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.intake.schema import PointSchema
from support.fakes import START
from support.harness import make_harness, outcomes, point


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
    file = tmp_path / "schema.json"
    file.write_text(json.dumps({"properties": {"value": rule}}), "utf-8")
    assert said(PointSchema("receiver", str(file)), point(1)) == [words]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"timestamp": "yesterday"}, '"yesterday" is not a time'),
        ({"metricName": "a b"}, '"a b" has a character that is not allowed'),
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


@pytest.mark.parametrize("timestamp", [0, 0.5])
def test_a_time_may_be_as_early_as_1970(timestamp: float) -> None:
    harness = make_harness(MAX_AGE_S="0")
    assert outcomes(harness.handle(point(1, timestamp=timestamp))) == {"delivered": 1}


def test_an_old_point_is_stale_by_the_rule_of_its_age(tmp_path: Path) -> None:
    harness = make_harness(SPOOL=tmp_path.as_uri())
    report = harness.handle(point(1, timestamp=START - 301))
    assert outcomes(report) == {"stale": 1}
    assert [(error["rule"], error["pointer"]) for error in report["errors"]] == [("maxAge", "/timestamp")]
