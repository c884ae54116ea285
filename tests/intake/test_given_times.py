"""Which times are right, and which time a point gets that has none: the wanted one, or the next that its series has not yet."""

import pytest

from metric_forwarder.intake.given_times import MAX_MOVED_MS, EventTimes, GivenTimes
from metric_forwarder.model import Message, Point, Series

NOW_MS = 1_767_225_600_000
A, B, C = (Series("pc", name, {}) for name in "abc")


def delivered(series: Series, time_ms: int) -> Point:
    return Point(0, series, 1, None, None, Message("s", None), "", None, time_ms, b"")


def next_ms(given: GivenTimes, wanted_ms: int, now_ms: int = NOW_MS) -> int:
    """The time of a point of the first series in an event of its own."""
    (time_ms,) = EventTimes(given, now_ms).next_ms([A], [wanted_ms])
    return time_ms


def given_once(time_ms: int) -> GivenTimes:
    given = GivenTimes()
    given.remember([delivered(A, time_ms)])
    return given


def test_a_time_that_its_series_has_already_is_moved_to_a_millisecond_after_the_last() -> None:
    times = EventTimes(GivenTimes(), NOW_MS)
    assert times.next_ms([A, A, B, A, A], [5, 5, 5, 3, 9]) == [5, 6, 5, 7, 9]
    assert times.next_ms([A], [9]) == [10]


def test_a_time_given_by_an_earlier_event_is_not_given_again() -> None:
    assert next_ms(given_once(NOW_MS), NOW_MS) == NOW_MS + 1
    assert next_ms(given_once(NOW_MS), NOW_MS + 1) == NOW_MS + 1


def test_a_time_is_moved_by_ten_minutes_at_most_and_otherwise_left_as_it_is() -> None:
    wanted_ms = NOW_MS - 10 * MAX_MOVED_MS
    assert next_ms(given_once(wanted_ms + MAX_MOVED_MS - 1), wanted_ms) == wanted_ms + MAX_MOVED_MS
    assert next_ms(given_once(wanted_ms + MAX_MOVED_MS), wanted_ms) == wanted_ms


def test_no_time_is_moved_further_than_ten_minutes_ahead_of_the_clock() -> None:
    wanted_ms = NOW_MS + MAX_MOVED_MS - 5
    assert next_ms(given_once(NOW_MS + MAX_MOVED_MS - 1), wanted_ms) == NOW_MS + MAX_MOVED_MS
    assert next_ms(given_once(NOW_MS + MAX_MOVED_MS), wanted_ms) == wanted_ms


def test_an_older_time_of_a_replay_does_not_replace_a_later_one_unless_that_came_from_a_wrong_clock() -> None:
    given = given_once(NOW_MS + MAX_MOVED_MS - 1)
    given.remember([delivered(A, NOW_MS)])
    assert given.last_ms(A) == NOW_MS + MAX_MOVED_MS - 1
    given = given_once(NOW_MS + MAX_MOVED_MS)
    given.remember([delivered(A, NOW_MS)])
    assert given.last_ms(A) == NOW_MS


def test_of_more_series_than_are_remembered_the_one_given_longest_ago_is_forgotten() -> None:
    given = GivenTimes(max_remembered=2)
    given.remember([delivered(A, 1), delivered(B, 2), delivered(A, 3), delivered(C, 4)])
    assert [given.last_ms(series) for series in (A, B, C)] == [3, None, 4]


def test_how_far_a_time_is_from_now_is_told_in_words() -> None:
    times = EventTimes(GivenTimes(), NOW_MS)
    assert times.from_now(NOW_MS * 10**6 - 90 * 10**9) == "90 s"
    assert times.from_now(NOW_MS * 10**6 + 180 * 10**9) == "3 minutes"


@pytest.mark.parametrize("offset_s", [0.0, 1.5, -1.5])
def test_a_time_is_right_from_the_greatest_age_to_the_greatest_lead_by_the_clock_that_judges(
    offset_s: float,
) -> None:
    times = EventTimes(GivenTimes(), NOW_MS, 300, 600, lambda _: offset_s)
    now_ns = NOW_MS * 10**6 + round(offset_s * 10**9)
    oldest_ns, latest_ns = now_ns - 300 * 10**9, now_ns + 600 * 10**9
    assert not times.has(oldest_ns - 1)
    assert times.has(oldest_ns)
    assert times.has(latest_ns)
    assert not times.has(latest_ns + 1)
    assert times.latest_ms == latest_ns / 10**6


def test_without_a_greatest_age_or_lead_every_time_is_right() -> None:
    times = EventTimes(GivenTimes(), NOW_MS)
    assert times.has(0)
    assert times.has(2**63)


def test_another_clock_is_asked_only_until_it_is_known_by_how_much_it_is_ahead() -> None:
    answers: list[float | None] = [None, None, 1.5]
    asked: list[bool] = []

    def find(may_ask: bool) -> float | None:  # noqa: FBT001 - as it is called
        asked.append(may_ask)
        return answers.pop(0)

    times = EventTimes(GivenTimes(), NOW_MS, find_offset_s=find)
    assert [times.make_sure() for _ in range(3)] == [False, True, True]
    assert asked == [False, True, True]


def test_a_clock_that_is_known_is_not_asked() -> None:
    asked: list[bool] = []

    def find(may_ask: bool) -> float:  # noqa: FBT001 - as it is called
        asked.append(may_ask)
        return 0.0

    assert EventTimes(GivenTimes(), NOW_MS, find_offset_s=find).make_sure()
    assert asked == [False]


@pytest.mark.parametrize(
    ("offset_s", "words"),
    [
        (0.0, "the forwarder's clock"),
        (3600.0, "the destination's clock, which is 60 minutes ahead of the forwarder's (one of the two is wrong)"),
        (-3600.0, "the destination's clock, which is 60 minutes behind the forwarder's (one of the two is wrong)"),
    ],
)  # fmt: skip
def test_the_clock_by_which_a_time_was_judged_is_told(offset_s: float, words: str) -> None:
    assert EventTimes(GivenTimes(), NOW_MS, find_offset_s=lambda _: offset_s).clock_in_words == words
