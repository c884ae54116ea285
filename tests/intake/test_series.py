"""The series that an instance keeps from one event to the next."""

import json

from metric_forwarder.intake.series import SeriesCache
from metric_forwarder.model import Series
from support.harness import environ, point
from support.roads import Roads

# As many as a cache of 3,000 bytes has room for, and more.
_FULL = 20


def series(count: int, name: str = "host") -> list[Series]:
    return [Series("pc", "m", {name: str(number)}) for number in range(count)]


def full_cache() -> tuple[SeriesCache, list[Series]]:
    """A cache that has no more room, and its series in the order in which they came."""
    cache = SeriesCache(max_bytes=3000)
    come(cache, series(_FULL))
    return cache, list(cache.known.values())


def come(cache: SeriesCache, coming: list[Series]) -> int:
    """Offer a point of each series; return how many of them were known."""
    unknown = [one for one in coming if one.parts not in cache.known]
    for one in unknown:
        cache.add(one)
    return len(coming) - len(unknown)


def test_a_full_cache_keeps_the_series_that_came_first() -> None:
    cache, (first, *_) = full_cache()
    come(cache, series(1000, "pod"))
    assert cache.known[first.parts] is first
    assert len(cache.known) < _FULL
    assert cache.size < 3000 + 300


def test_series_that_come_again_and_again_are_soon_known_after_a_flood_of_others() -> None:
    cache = SeriesCache(max_bytes=300_000)
    come(cache, series(3000, "pod"))
    usual = series(500)
    assert [come(cache, usual) for _ in range(4)][-1] == 500


def test_series_that_come_in_turn_and_are_more_than_there_is_room_for_are_known_in_part() -> None:
    cache = SeriesCache(max_bytes=1_500_000)
    usual = series(12_000)
    come(cache, usual)
    room = len(cache.known)
    assert room < 6000
    assert sum(come(cache, usual) for _ in range(10)) > 10 * room / 2


def test_a_full_cache_begins_anew_bit_by_bit_once_its_series_come_no_more() -> None:
    cache, old = full_cache()
    come(cache, series(100_000, "pod"))
    assert not {one.parts for one in old} & {*cache.known}
    assert cache.size < 3000 + 300


def test_a_cache_that_has_no_room_for_two_series_takes_the_one_that_comes_again() -> None:
    cache = SeriesCache(max_bytes=1)
    own, other = series(2)
    assert [come(cache, [one]) for one in (own, other, own, other, other)] == [0, 0, 1, 0, 1]
    assert cache.size == SeriesCache().add(other)


def test_a_series_takes_as_much_as_its_dimensions_and_two_copies_of_its_text() -> None:
    cache = SeriesCache(max_bytes=3000)
    some = [Series("pc", "m", {f"d{number}": "1" for number in range(count)}) for count in (0, 1, 3)]
    for one in some:
        one.encoded_prefix = b"x" * 10
    assert [cache.add(one) for one in some] == [245, 245 + 66, 245 + 3 * 66]
    assert cache.size == 3 * 245 + 4 * 66


def test_points_of_a_series_that_a_full_cache_does_not_hold_are_taken_all_the_same() -> None:
    texts = [json.dumps(point(number, dimensions={"host": str(number % 3)})) for number in range(9)]
    usual, full = Roads(environ()), Roads(environ(), series_bytes=0)
    assert full.fast(texts) == usual.fast(texts)
    assert full.fast(texts) == full.careful(texts)


def test_an_empty_namespace_is_not_taken_for_the_default_one() -> None:
    roads = Roads(environ(NAMESPACE=""))
    texts = [json.dumps(point(namespace="pc")), json.dumps(point(namespace="")), json.dumps(point())]
    assert roads.fast(texts) == roads.careful(texts)


def test_the_order_of_dimensions_makes_no_other_series() -> None:
    one, other = Series("pc", "m", {"a": "1", "b": "2"}), Series("pc", "m", {"b": "2", "a": "1"})
    assert one.digest == other.digest
    assert one.dimensions == other.dimensions == (("a", "1"), ("b", "2"))
