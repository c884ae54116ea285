"""Patterns of RE2; test_relabel_prometheus.py compares them with those of a real Prometheus."""

import random
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.intake.re2 import BadPattern, Groups, Pattern
from support.patterns import pattern


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
        ("b(?i)*", "bb", "B"),
        ("b(?i){2}a", "bbA", "bA"),
        (r"\B", "", "a"),
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
        if compiled._longest < 0:
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
    "text", ["(a+)+b", "(a|a)*b", "(a*)*b", "a?" * 40 + "a" * 40 + "b", "(.*)(.*)(.*)(.*)b", "(?:.*|x)(?:.*|x)(?:.*|x)(?:.*|x)b", "((a?){5}){5}b", "(a|aa)+b"]
)  # fmt: skip
def test_no_pattern_takes_more_than_time_in_proportion_to_the_text(text: str) -> None:
    compiled = Pattern(text)

    def cpu_seconds(length: int) -> float:
        began = time.process_time()
        assert compiled.fullmatch("a" * length + "c") is None
        return time.process_time() - began

    # Sixteen times the text.
    assert cpu_seconds(1600) < 64 * max(cpu_seconds(100), 0.001) + 0.1


def matches(compiled: Pattern, text: str) -> Groups | None:
    """Match in both ways: one after the other, and all at once."""
    match = compiled._match(text)
    found = None if match is None else (match[0], *match.groups())
    assert compiled._follow(text) == compiled.fullmatch(text) == found
    return found


@pytest.mark.parametrize(
    ("text", "matching", "groups"),
    [
        ("(a+)(a*)", "aaa", ("aaa", "")),
        ("(a+?)(a*)", "aaa", ("a", "aa")),
        ("(a*)(a*)", "aa", ("aa", "")),
        ("(a*?)(a*)", "aa", ("", "aa")),
        ("(a?)(a*)", "aa", ("a", "a")),
        ("(a??)(a*)", "aa", ("", "aa")),
        ("(a{2})(a*)", "aaa", ("aa", "a")),
        ("(a{1,2})(a*)", "aaa", ("aa", "a")),
        ("(a{1,2}?)(a*)", "aaa", ("a", "aa")),
        ("(a{2,})(a*)", "aaaa", ("aaaa", "")),
        ("(a{2,}?)(a*)", "aaaa", ("aa", "aa")),
        ("(a{0,2})(b)", "b", ("", "b")),
        ("(a|ab)(c|bcd)(d*)", "abcd", ("a", "bcd", "")),
        ("(a)(b)?(c)?(d)", "ad", ("a", None, None, "d")),
        ("((a)(b))(c)", "abc", ("ab", "a", "b", "c")),
        ("(?:a)(b)", "ab", ("b",)),
        ("(?:(a)|b)*", "aab", ("a",)),
        ("(a|b|c|)d", "cd", ("c",)),
        ("(a|b|c|)d", "d", ("",)),
        ("(a)*", "aa", ("a",)),
    ],
)
def test_groups_hold_what_they_hold_in_re2(text: str, matching: str, groups: tuple[str | None, ...]) -> None:
    assert matches(Pattern(text), matching) == (matching, *groups)


@pytest.mark.parametrize(
    ("text", "matching", "groups"),
    [
        ("(a|b*)*", "ab", ("b",)),
        ("(a?)*", "a", ("a",)),
        ("(a?b?)+", "ab", ("ab",)),
        ("((a|b){0,1})*", "ab", ("b", "b")),
        ("((a)|b?)*", "ab", ("b", "a")),
        (r"(\b|a)*", "a", ("a",)),
        ("(a??){0,2}", "a", ("a",)),
        ("(|a){0,3}", "aa", ("a",)),
        (r"(\b|a){0,2}", "a", ("a",)),
    ],
)
def test_a_repetition_that_matches_nothing_the_last_time_leaves_its_group_as_it_was(
    text: str, matching: str, groups: tuple[str, ...]
) -> None:
    assert Pattern(text).fullmatch(matching) == (matching, *groups)


def test_groups_can_be_named_in_both_ways() -> None:
    compiled = Pattern("(?P<first>.)(.)(?<third_3>.)")
    assert compiled.names == {"first": 1, "third_3": 3}
    assert matches(compiled, "abc") == ("abc", "a", "b", "c")


@pytest.mark.parametrize(
    ("text", "matching", "others"),
    [
        ("a{2}", ["aa"], ["a", "aaa"]),
        ("a{2,}", ["aa", "aaaa"], ["a"]),
        ("a{2,3}", ["aa", "aaa"], ["a", "aaaa"]),
        ("a{0}", [""], ["a"]),
        ("a{0,1}b", ["b", "ab"], ["aab"]),
        ("(?:ab)*", ["", "ab", "abab"], ["b", "aba"]),
        ("(?:||a)b", ["b", "ab"], ["a"]),
        ("aX", ["aX"], ["a", "aXX"]),
        # Flags hold until the end of their group, in each of its choices.
        ("(?i)a|b", ["A", "B"], ["c"]),
        ("(a(?i)b)c", ["aBc"], ["ABc", "aBC"]),
        ("(?:a(?i)b|c)d", ["aBd", "Cd"], ["CD"]),
        ("(?i)a(?-i)b", ["Ab"], ["AB"]),
        ("(?i)(?-i:a)b", ["aB"], ["AB"]),
        ("(?i-s)a.", ["Ab"], ["A\n"]),
        ("(?s-i:a.)", ["a\n"], ["A\n"]),
        ("(?is)a.", ["A\n"], ["b\n"]),
        ("(?i)[a-c]", ["B", "b"], ["D"]),
        ("(?i)[^a]", ["b", "\n"], ["a", "A"]),
        ("(?i)ß", ["ß", "ẞ"], ["SS"]),
        ("(?i)stra\u017f\u017fe", ["strasse", "STRA\u017fSE"], ["straße"]),
        ("(?i)[k-l]", ["\u212a", "\u212a", "L"], ["\u0131"]),
        ("(?i)i", ["I"], ["\u0131", "\u0130"]),
        ("a{01}", ["a{01}"], ["a"]),
        ("(?m)a$\n^b", ["a\nb"], ["ab"]),
        ("a\n^b", [], ["a\nb"]),
        ("a$\nb", [], ["a\nb"]),
        ("^a$", ["a"], ["a\n"]),
        # Places.
        (r"\Aa\b-\B", ["a-"], ["--"]),
        (r"-\Aa", [], ["-a"]),
        (r"a\zb", [], ["ab"]),
        (r"é\B-", ["é-"], []),
        (r"a\Bb", ["ab"], []),
        (r"a\bb", [], ["ab"]),
        # Classes of characters.
        ("[a-cx]", ["b", "x"], ["d"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[-a]", ["a", "-"], ["b"]),
        ("[a-a]", ["a"], ["b"]),
        ("[^a-c]", ["d", "\n"], ["b"]),
        ("[^c-da-b]", ["e", "\0", "\U0010ffff"], ["a", "d"]),
        ("[^a-db-c]", ["e"], ["d"]),
        ("[^b]", ["a", "c"], ["b"]),
        (r"[^\x{0}-\x{10fffe}]", ["\U0010ffff"], ["\U0010fffe"]),
        (r"[^\x{0}-\x{10ffff}]", [], ["a", "\0", "\U0010ffff"]),
        (r"[\]\\]", ["]", "\\"], ["a"]),
        (r"[\d\-z]", ["5", "-", "z"], ["a"]),
        (r"[\x41-\x43]", ["B"], ["D"]),
        ("[[:alpha:]1]", ["a", "1"], ["2"]),
        ("[^[:alpha:]]", ["1"], ["a"]),
        (r"\D\W\S", ["a-b"], ["1-b", "aab", "a- "]),
        (r"\a\f\t\n\r\v", ["\a\f\t\n\r\v"], ["afTnrv"]),
        (r"\x{10FFFF}\x7e", ["\U0010ffff~"], []),
        (r"\Qa+", ["a+"], ["aa"]),
        (r"\Qé(1\Eb*", ["é(1bb"], ["é(1b*"]),
        (r"\\Q", ["\\Q"], ["Q"]),
    ],
)
def test_a_pattern_matches_what_it_matches_in_re2(text: str, matching: list[str], others: list[str]) -> None:
    compiled = Pattern(text)
    assert [matches(compiled, each) for each in others] == [None] * len(others)
    assert all(matches(compiled, each) for each in matching)


ASCII = [chr(code) for code in range(128)]


@pytest.mark.parametrize(
    ("name", "characters"),
    [
        ("alnum", string.ascii_letters + string.digits),
        ("alpha", string.ascii_letters),
        ("ascii", "".join(ASCII)),
        ("blank", "\t "),
        ("cntrl", "".join(ASCII[:32]) + "\x7f"),
        ("digit", string.digits),
        ("graph", string.ascii_letters + string.digits + string.punctuation),
        ("lower", string.ascii_lowercase),
        ("print", string.ascii_letters + string.digits + string.punctuation + " "),
        ("punct", string.punctuation),
        ("space", string.whitespace),
        ("upper", string.ascii_uppercase),
        ("word", string.ascii_letters + string.digits + "_"),
        ("xdigit", string.hexdigits),
    ],
)
def test_a_class_with_a_name_has_exactly_its_characters(name: str, characters: str) -> None:
    compiled = Pattern(f"[[:{name}:]]")
    assert {each for each in [*ASCII, "é", "\x80"] if compiled.fullmatch(each)} == set(characters)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a)", "a closing parenthesis too many"),
        ("(a", "a group without an end"),
        ("(?=a)", "a group that RE2 does not know"),
        ("(?!a)", "a group that RE2 does not know"),
        ("(?<=a)", "a group that RE2 does not know"),
        ("(?<!a)", "a group that RE2 does not know"),
        ("(?>a)", "a group that RE2 does not know"),
        ("(a)(?P=a)", "a group that RE2 does not know"),
        ("(?U)a", "a group that RE2 does not know"),
        ("(?<a>.)(?P<a>.)", "names a group twice"),
        ("+a", "repeats nothing"),
        ("{2}", "repeats nothing"),
        ("a|{0,2}", "repeats nothing"),
        ("(?i){1,}", "repeats nothing"),
        ("(?:.{0,1000}|b)*", "too large"),
        ("a**", "repeats a repetition"),
        ("a*+", "repeats a repetition"),
        ("a++", "repeats a repetition"),
        ("a{2}{3}", "repeats a repetition"),
        ("a*{2}", "repeats a repetition"),
        ("a{1001}", "a repetition that is no"),
        ("a{0,1001}", "a repetition that is no"),
        ("a{2,1}", "a repetition that is no"),
        ("(a{100}){100}", "too large"),
        ("(?:a|b{60}){60}", "too large"),
        ("[a", "a class without an end"),
        ("[", "a class without an end"),
        ("[a-", "a class without an end"),
        ("[b-a]", "a range of characters that is none"),
        (r"[!-\d]", "a range of characters that is none"),
        (r"[a-\d]", "a range of characters that is none"),
        ("[[:no:]]", "a class of characters that is not known"),
        ("[[:alpha]", "a class of characters that is not known"),
        (r"\x4", r"an escape that is not known here: \x"),
        (r"\x{110000}", r"an escape that is not known here: \x"),
        (r"\é", r"an escape that is not known here: \é"),
        (r"(a)\1", r"an escape that is not known here: \1"),
        (r"\p{L}", r"an escape that is not known here: \p"),
        (r"\Z", r"an escape that is not known here: \Z"),
        (r"\C", r"an escape that is not known here: \C"),
        (r"\y", r"an escape that is not known here: \y"),
        ("a\\", "an escape that is not known here"),
        ("(" * 100 + "a" + ")" * 100, "nested too deeply"),
        ("((a)" * 100 + ")" * 100, "nested too deeply"),
    ],
)
def test_a_pattern_that_re2_refuses_or_that_is_not_known_is_refused_with_what_is_wrong(
    text: str, words: str
) -> None:
    with pytest.raises(BadPattern) as refusal:
        Pattern(text)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "matching"),
    [
        ("a{1000}", "a" * 1000),
        ("a{1,999}", "a"),
        ("a{1000,}", "a" * 1000),
        ("a{0,1000}", "a" * 1000),
        ("(?:ab){0,1000}", "ab" * 1000),
        ("(?:a{3}){150}", "a" * 450),
        ("(" * 99 + "a" + ")" * 99, "a"),
        ("(a)" * 150, "a" * 150),
    ],
)
def test_a_large_pattern_within_the_bounds_is_taken(text: str, matching: str) -> None:
    assert matches(Pattern(text), matching)
    assert not matches(Pattern(text), matching + "b")
