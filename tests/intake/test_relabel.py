"""Relabel rules and static labels; test_relabel_prometheus.py compares them with a real Prometheus."""

import random
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.intake.re2 import _TOO_MANY, BadPattern, Pattern
from metric_forwarder.intake.relabel import BadRule, Relabelled, Relabeller
from support.patterns import pattern


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


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"action": "rename"}, "/0/action must be one of replace"),
        ({"target_labels": "a"}, "/0/target_labels is no member"),
        ({"source_labels": "a", "target_label": "b"}, "/0/source_labels"),
        ({"source_labels": ["a-b"], "target_label": "b"}, "/0/source_labels"),
        ({"action": "replace"}, "/0/target_label is needed"),
        ({"target_label": "a-b"}, "/0/target_label is no name"),
        ({"target_label": "1a"}, "/0/target_label is no name"),
        ({"action": "lowercase", "target_label": "$1"}, "/0/target_label is no name"),
        ({"action": "hashmod", "target_label": "a"}, "/0/modulus"),
        ({"action": "hashmod", "target_label": "a", "modulus": -1}, "/0/modulus"),
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


@pytest.mark.parametrize(
    "text",
    ["(?=a)", "(?!a)", "(?<=a)", "(?<!a)", r"(a)\1", "(?P=a)", "a**", "a*+", "a++", "*", "a{2}{3}", "a{1001}", "a{3,2}",
     "(a", "a)", "[a", "[b-a]", "[[:no:]]", r"\p{L}", r"\Z", r"\C", "(?U)a", "(?>a)", "\\", "(?P<a>.)(?P<a>.)", "(" * 200,
     "(a{100}){100}"],
)  # fmt: skip
def test_a_pattern_that_re2_refuses_or_that_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(BadPattern):
        Pattern(text)


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [
        ("a.c", "abc", "a\nc"),
        ("(?s)a.c", "a\nc", "abcd"),
        ("a$", "a", "a\n"),
        (r"\d", "7", "٣"),
        (r"\s", "\t", "\v"),
        (r"a\z", "a", "b"),
        (r"\Qa.b\E+", "a.bb", "aab"),
        ("a{,2}", "a{,2}", "aa"),
        ("a{x}", "a{x}", "a"),
        ("[]a]", "]", "b"),
        ("[^]a]", "b", "]"),
        ("[a&&b|~]", "&", "c"),
        ("[[:^digit:]]", "a", "1"),
        (r"[\d-]", "-", "a"),
        (r"\x41\x{e9}", "Aé", "A"),
        ("(?i)É", "é", "e"),
        ("(?i:a)B", "AB", "ab"),
        ("(?-i:a)", "a", "A"),
        ("a|", "", "b"),
    ],
)  # fmt: skip
def test_a_pattern_means_what_it_means_to_re2(text: str, matching: str, other: str) -> None:
    compiled = Pattern(text)
    for match in (compiled.fullmatch, compiled._follow):
        assert match(matching) is not None
        assert match(other) is None


@pytest.mark.slow
def test_following_all_ways_at_once_finds_the_same_groups_as_trying_one_after_the_other() -> None:
    chance = random.Random(7)
    alphabet = "abcP-;:. 1éodr"
    matched = 0
    for _ in range(600):
        compiled = Pattern(pattern(chance))
        if compiled._ways(8) == _TOO_MANY:
            # Never tried one after the other: the two differ where a repeated group is empty.
            continue
        for _ in range(25):
            text = "".join(chance.choice(alphabet) for _ in range(chance.randrange(7)))
            match = compiled._match(text)
            expected = None if match is None else (match[0], *match.groups())
            assert compiled._follow(text) == expected
            matched += expected is not None
    assert matched > 500


@given(st.text(max_size=12) | st.text(alphabet="ab()[]{}*+?|\\^$.:=!<>P12,-di", max_size=14))
def test_whatever_the_pattern_it_is_compiled_or_refused(text: str) -> None:
    try:
        compiled = Pattern(text)
    except BadPattern:
        return
    compiled.fullmatch("ab")


@pytest.mark.parametrize(
    "text", ["(a+)+b", "(a|a)*b", "(a*)*b", "a?" * 40 + "a" * 40 + "b", "(.*)(.*)(.*)(.*)b", "((a?){5}){5}b", "(a|aa)+b"]
)  # fmt: skip
def test_no_pattern_takes_more_than_time_in_proportion_to_the_text(text: str) -> None:
    compiled = Pattern(text)

    def cpu_seconds(length: int) -> float:
        began = time.process_time()
        assert compiled.fullmatch("a" * length + "c") is None
        return time.process_time() - began

    # Sixteen times the text.
    assert cpu_seconds(1600) < 64 * max(cpu_seconds(100), 0.001) + 0.1
