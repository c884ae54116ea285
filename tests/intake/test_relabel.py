"""Relabel rules and static labels; test_relabel_prometheus.py compares them with a real Prometheus."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.errors import ConfigError
from metric_forwarder.intake.relabel import BadRule, Relabelled, Relabeller, read_relabeller
from support.harness import make_harness, make_remote_write_harness, outcomes, point


def relabel(*rules: dict[str, Any], static: dict[str, str] | None = None, **labels: str) -> Relabelled | None:
    return Relabeller(list(rules), static or {}).apply("ns", "up", labels)


def test_static_labels_are_added_unless_a_point_has_a_label_of_that_name() -> None:
    assert relabel(static={"env": "prod", "a": "b"}, env="dev") == ("ns", "up", {"env": "dev", "a": "b"})


def test_a_rule_may_change_the_name_and_the_namespace() -> None:
    rules = (
        {"source_labels": ["__name__"], "target_label": "__name__", "replacement": "my_$1"},
        {"source_labels": ["team"], "target_label": "__namespace__"},
        {"source_labels": ["team"], "target_label": "__tmp"},
    )
    assert relabel(*rules, team="web") == ("web", "my_up", {"team": "web"})


def test_what_a_rule_drops_is_none() -> None:
    drop = {"action": "drop", "source_labels": ["__name__"], "regex": "u."}
    assert relabel(drop) is None
    assert relabel({**drop, "regex": "u"}) is not None
    assert relabel({"action": "labeldrop", "regex": ".*"}) is None


def test_results_are_remembered_within_bounds_and_are_the_same() -> None:
    rules = [{"source_labels": ["a"], "target_label": "b", "regex": "(.)(.*)", "replacement": "$2$1"}]
    relabeller = Relabeller(rules, {})
    for _ in range(2):
        for number in range(9_000):
            result = relabeller.apply("", "m", {"a": f"x{number}"})
            assert result == ("", "m", {"a": f"x{number}", "b": f"{number}x"})


LABELS = {"a": "One", "b": "two"}
RULES: list[tuple[dict[str, Any], dict[str, str] | None]] = [
    ({"source_labels": ["a", "b"], "target_label": "c"}, {**LABELS, "c": "One;two"}),
    ({"source_labels": ["a", "b"], "separator": "-", "target_label": "c"}, {**LABELS, "c": "One-two"}),
    (
        {"source_labels": ["a"], "regex": "O(.*)", "target_label": "c", "replacement": "${1}x"},
        {**LABELS, "c": "nex"},
    ),
    ({"source_labels": ["a"], "regex": "On", "target_label": "c"}, LABELS),
    ({"source_labels": ["missing"], "target_label": "a"}, {"b": "two"}),
    ({"source_labels": ["a"], "target_label": "${1}_x"}, {**LABELS, "One_x": "One"}),
    ({"action": "keep", "source_labels": ["a"], "regex": "O.*"}, LABELS),
    ({"action": "keep", "source_labels": ["a"], "regex": "O"}, None),
    ({"action": "drop", "source_labels": ["a"], "regex": "O.*"}, None),
    ({"action": "drop", "source_labels": ["a"], "regex": "O"}, LABELS),
    ({"action": "keepequal", "source_labels": ["a"], "target_label": "a"}, LABELS),
    ({"action": "keepequal", "source_labels": ["a"], "target_label": "b"}, None),
    ({"action": "dropequal", "source_labels": ["a"], "target_label": "a"}, None),
    ({"action": "dropequal", "source_labels": ["a"], "target_label": "b"}, LABELS),
    ({"action": "keepequal", "source_labels": ["missing"], "target_label": "missing"}, LABELS),
    ({"action": "lowercase", "source_labels": ["a"], "target_label": "c"}, {**LABELS, "c": "one"}),
    ({"action": "uppercase", "source_labels": ["a"], "target_label": "a"}, {**LABELS, "a": "ONE"}),
    ({"action": "DROP", "source_labels": ["a"], "regex": "O.*"}, None),
    # The last eight bytes of the MD5 of "One", as a whole number.
    (
        {"action": "hashmod", "source_labels": ["a"], "modulus": 1000, "target_label": "c"},
        {**LABELS, "c": "573"},
    ),
    ({"action": "labelmap", "regex": "(.)", "replacement": "x_$1"}, {**LABELS, "x_a": "One", "x_b": "two"}),
    ({"action": "labelmap", "regex": "a", "replacement": "b"}, {"a": "One", "b": "One"}),
    ({"action": "labeldrop", "regex": "a"}, {"b": "two"}),
    ({"action": "labelkeep", "regex": "a|__name__"}, {"a": "One"}),
]


@pytest.mark.parametrize(("rule", "labels"), RULES, ids=str)
def test_each_action_does_what_prometheus_does_and_the_next_rule_follows(
    rule: dict[str, Any], labels: dict[str, str] | None
) -> None:
    rules = [rule, {"target_label": "last", "replacement": "yes"}]
    result = Relabeller(rules, {}).apply("ns", "up", LABELS)
    assert (None if result is None else result.labels) == (
        None if labels is None else {**labels, "last": "yes"}
    )


@pytest.mark.parametrize(
    ("replacement", "value"),
    [
        ("$1|$2|$3", "|O|ne"),
        ("${2}x$2x", "Ox"),
        ("${rest}-$rest-$none", "ne-ne-"),
        ("$0", "One"),
        ("$4", ""),
        ("$123456789", ""),
        ("$²", ""),
        ("$$2", "$2"),
        ("$-", "$-"),
    ],
)
def test_a_replacement_refers_to_groups_as_in_go_and_to_one_that_is_not_there_as_nothing(
    replacement: str, value: str
) -> None:
    rule = {
        "source_labels": ["a"],
        "regex": "(x)?(.)(?P<rest>.*)",
        "target_label": "a",
        "replacement": replacement,
    }
    result = relabel(rule, a="One", b="two")
    assert result is not None
    assert result.labels == ({"a": value} if value else {}) | {"b": "two"}


def test_an_empty_replacement_removes_the_label_of_the_name_as_it_is_written_and_of_no_other() -> None:
    rule = {"source_labels": ["a"], "target_label": "$1", "replacement": ""}
    assert relabel(rule, a="b", b="two") == ("ns", "up", {"a": "b", "b": "two"})
    assert relabel({**rule, "target_label": "b"}, a="b", b="two") == ("ns", "up", {"a": "b"})


def test_for_a_rule_a_label_with_an_empty_value_is_none_and_the_point_keeps_it() -> None:
    assert relabel(static={"a": "b"}, a="", c="d") == ("ns", "up", {"a": "", "c": "d"})
    assert relabel({"action": "labelmap", "regex": "(a)", "replacement": "c"}, a="", c="d") == (
        "ns",
        "up",
        {"a": "", "c": "d"},
    )
    assert relabel({"action": "labeldrop", "regex": "a"}, a="", c="d") == ("ns", "up", {"c": "d"})


def test_rules_do_not_mix_series_that_differ_by_an_empty_dimension() -> None:
    two = [point(1, dimensions={"ip": "1", "disk": ""}), point(2, dimensions={"ip": "1"})]
    for settings in ({}, {"LABELS": "env=prod"}):
        report = make_remote_write_harness(is_partial=False, **settings).handle(two)
        assert outcomes(report) == {"delivered": 1, "invalid": 1}
        assert report["errors"][0]["rule"] == "collision"
    receiver = make_harness(LABELS="env=prod")
    receiver.handle(two)
    assert [stored["dimensions"] for _, stored in receiver.receiver.points] == [
        {"ip": "1", "disk": "", "env": "prod"},
        {"ip": "1", "env": "prod"},
    ]


def test_rules_apply_to_a_point_whose_dimension_is_a_whole_number_with_a_fraction_of_zero() -> None:
    harness = make_harness(
        LABELS="env=prod", RELABEL='[{"action":"drop","source_labels":["port"],"regex":"9100"}]'
    )
    ports = [point(dimensions={"port": port}) for port in (9100.0, 9200.0, 9100)]
    assert outcomes(harness.handle(ports)) == {"delivered": 1, "filtered": 2}
    assert [stored["dimensions"] for _, stored in harness.receiver.points] == [
        {"port": "9200", "env": "prod"}
    ]


@pytest.mark.parametrize("rules", ["", "[]", '[{"action":"labeldrop","regex":"x"}]'])
def test_a_point_without_anything_is_invalid_and_no_rule_has_left_it_out(rules: str) -> None:
    nothing = {"metricName": "", "dimensions": {}, "value": 1}
    assert outcomes(make_harness(RELABEL=rules, NAMESPACE="").handle(nothing)) == {"invalid": 1}


def test_a_rule_that_names_a_member_twice_is_refused() -> None:
    twice = '[{"source_labels":["a"],"regex":"b","action":"keep","action":"drop"}]'
    with pytest.raises(ConfigError, match="MF_RELABEL names a member of an object twice: keep one"):
        read_relabeller(twice, ())


@pytest.mark.parametrize(
    ("action", "text", "expected"),
    [
        ("uppercase", "straße ﬁ i", "STRAßE ﬁ I"),
        ("lowercase", "ΑΣ \u0130I", "\u03b1\u03c3 ii"),
    ],
)  # fmt: skip
def test_cases_are_changed_character_by_character_as_go_does(action: str, text: str, expected: str) -> None:
    rule = {"action": action, "source_labels": ["a"], "target_label": "a"}
    assert relabel(rule, a=text) == ("ns", "up", {"a": expected})


def test_a_label_is_mapped_from_what_it_was_before_the_rule() -> None:
    rule = {"action": "labelmap", "regex": "(?:kubernetes_)?(.+)"}
    assert relabel(rule, kubernetes_pod="a", pod="b") == ("ns", "up", {"kubernetes_pod": "a", "pod": "b"})


def test_a_name_that_is_no_label_s_changes_nothing() -> None:
    rule = {"source_labels": ["a"], "target_label": "${1}"}
    assert relabel(rule, a="not-a-name") == ("ns", "up", {"a": "not-a-name"})


def test_the_same_labels_of_another_metric_or_namespace_have_a_result_of_their_own() -> None:
    relabeller = Relabeller([{"action": "drop", "source_labels": ["__name__"], "regex": "m"}], {})
    assert relabeller.apply("x", "m", {"a": "b"}) is None
    assert relabeller.apply("x", "n", {"a": "b"}) == ("x", "n", {"a": "b"})
    assert relabeller.apply("y", "n", {"a": "b"}) == ("y", "n", {"a": "b"})


def test_a_metric_whose_name_was_removed_has_an_empty_one() -> None:
    assert relabel({"target_label": "__name__", "replacement": ""}, a="b") == ("ns", "", {"a": "b"})


def test_there_are_a_thousand_rules_at_most() -> None:
    rule = {"action": "labeldrop", "regex": "x"}
    assert relabel(*[rule] * 1_000, a="b") == ("ns", "up", {"a": "b"})
    with pytest.raises(BadRule, match="is not a list of at most 1000 rules"):
        relabel(*[rule] * 1_001, a="b")


def test_half_of_a_surrogate_pair_has_a_hash_too() -> None:
    assert relabel(
        {"action": "hashmod", "source_labels": ["a"], "modulus": 1, "target_label": "c"}, a="\ud800"
    ) == (
        "ns",
        "up",
        {"a": "\ud800", "c": "0"},
    )


def test_rules_see_and_change_every_part_of_a_point_that_is_sent() -> None:
    rules = [
        {"source_labels": ["__namespace__", "n"], "separator": "/", "target_label": "seen"},
        {
            "source_labels": ["__namespace__"],
            "regex": "x",
            "target_label": "__namespace__",
            "replacement": "y",
        },
    ]
    harness = make_harness(RELABEL=json.dumps(rules), LABELS="env=prod")
    points = [point(1, namespace="x", dimensions={"n": 7}), point(2, dimensions={"n": "a"})]
    assert outcomes(harness.handle(points)) == {"delivered": 2}
    sent = {wire["value"]: (namespace, wire["dimensions"]) for namespace, wire in harness.receiver.points}
    assert sent[1] == ("y", {"n": "7", "seen": "x/7", "env": "prod"})
    assert sent[2] == ("pc", {"n": "a", "seen": "pc/a", "env": "prod"})


@pytest.mark.parametrize(
    ("broken", "pointer"),
    [
        (point(1, metricName=5), "/metricName"),
        (point(1, dimensions=[]), "/dimensions"),
        (point(1, dimensions={"n": [1]}), "/dimensions/n"),
        (point(1, namespace=5), "/namespace"),
        (5, ""),
    ],
    ids=str,
)
def test_rules_leave_an_invalid_point_as_it_is_for_the_report(broken: Any, pointer: str) -> None:
    harness = make_harness(RELABEL='[{"target_label": "a", "replacement": "b"}]')
    report = harness.handle([broken, point(2)])
    assert outcomes(report) == {"invalid": 1, "delivered": 1}
    assert report["errors"][0]["pointer"] == f"/0{pointer}"


def test_rules_come_from_a_file_too_which_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text('\ufeff[{"target_label": "a", "replacement": "é"}]', "utf-8")
    found = read_relabeller(f" {file}\n", [("env", "prod")]).apply("", "m", {})
    assert found == ("", "m", {"a": "é", "env": "prod"})
    assert read_relabeller(" ", [("env", "prod")]).apply("", "m", {}) == ("", "m", {"env": "prod"})


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        (
            "/no/such/file",
            "cannot be read (FileNotFoundError): name a JSON file of the package, or write JSON",
        ),
        ('[{"action": "drop"', "holds no JSON: it must be a list of rules"),
        ('[{"action": "rename"}]', "/0/action must be one of replace"),
        ('{"action": "drop"}', "see docs/formats.md, relabel rules"),
    ],
)
def test_what_is_wrong_with_the_setting_is_said(rules: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"MF_RELABEL .*{re.escape(problem)}"):
        read_relabeller(rules, [])


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"action": "rename"}, "/0/action must be one of replace, keep, drop, "),
        ({"target_labels": "a"}, "/0/target_labels is no member of a rule: it may have action, modulus, "),
        ({"source_labels": "a", "target_label": "b"}, "/0/source_labels"),
        ({"source_labels": ["a-b"], "target_label": "b"}, "/0/source_labels"),
        ({"action": "replace"}, "/0/target_label is needed"),
        ({"target_label": "a-b"}, "/0/target_label is no name"),
        ({"target_label": "1a"}, "/0/target_label is no name"),
        ({"action": "lowercase", "target_label": "$1"}, "/0/target_label is no name"),
        ({"action": "hashmod", "target_label": "a"}, "/0/modulus"),
        ({"action": "hashmod", "target_label": "a", "modulus": -1}, "/0/modulus"),
        ({"action": "hashmod", "target_label": "a", "modulus": 2**64}, "/0/modulus"),
        ({"action": "hashmod", "target_label": "a", "modulus": True}, "/0/modulus"),
        ({"action": "hashmod", "modulus": 1}, "/0/target_label is needed by hashmod"),
        ({"action": "uppercase"}, "/0/target_label is needed by uppercase"),
        ({"action": "dropequal"}, "/0/target_label is needed by dropequal"),
        ({"action": "uppercase", "target_label": "a", "replacement": "b"}, "/0/replacement has no meaning"),
        ({"action": "dropequal", "target_label": "a", "separator": ","}, "/0/separator has no meaning"),
        ({"action": "labelkeep", "regex": "a", "modulus": 1}, "/0/modulus has no meaning"),
        ({"action": "labelmap", "regex": "a", "replacement": "-"}, "/0/replacement"),
        ({"action": "labeldrop", "regex": "a", "source_labels": ["a"]}, "/0/source_labels has no meaning"),
        ({"action": "keepequal", "target_label": "a", "regex": "a"}, "/0/regex has no meaning"),
        ({"target_label": "a", "regex": "(?=x)"}, "/0/regex has a group that RE2 does not know"),
        ({"target_label": "a", "regex": 7}, "/0/regex is not a text"),
        ("drop", "/0 is not an object"),
    ],
)
def test_a_rule_that_prometheus_refuses_is_refused_with_its_place(rule: Any, words: str) -> None:
    with pytest.raises(BadRule, match=re.escape(words)):
        Relabeller([rule], {})
