"""The series that an instance keeps from one event to the next."""

import json

from metric_forwarder.intake.series import SeriesCache
from metric_forwarder.model import Series
from support.harness import environ, point
from support.roads import Roads


def filled(cache: SeriesCache, count: int) -> list[Series]:
    """So many series, each offered once."""
    found = [Series("pc", "m", {"host": str(number)}) for number in range(count)]
    for series in found:
        cache.add(series)
    return found


def test_a_full_cache_keeps_the_series_that_came_first() -> None:
    cache = SeriesCache(max_bytes=3000)
    first, *_ = filled(cache, 20)
    assert cache.known[first.parts] is first
    assert len(cache.known) < 20
    assert cache.size < 3000 + 300


def test_a_full_cache_begins_anew_once_its_series_come_no_more() -> None:
    cache = SeriesCache(max_bytes=3000)
    old = filled(cache, 20)
    new = Series("pc", "m", {"pod": "7"})
    while old[0].parts in cache.known:
        cache.add(new)
    cache.add(new)
    assert list(cache.known) == [new.parts]


def test_a_full_cache_begins_anew_after_four_points_of_others_for_each_of_its_series_and_then_fills_again() -> (
    None
):
    cache = SeriesCache(max_bytes=1)
    for generation in range(2):
        own, other = Series("pc", f"own{generation}", {}), Series("pc", "other", {})
        cache.add(own)
        for _ in range(4):
            cache.add(other)
        assert list(cache.known) == [own.parts]
        cache.add(other)
        assert list(cache.known) == []
        assert cache.size == 0


def test_a_series_takes_as_much_as_its_dimensions_and_two_copies_of_its_text() -> None:
    cache = SeriesCache(max_bytes=3000)
    series = [Series("pc", "m", {f"d{number}": "1" for number in range(count)}) for count in (0, 1, 3)]
    for one in series:
        one.encoded_prefix = b"x" * 10
    assert [cache.add(one) for one in series] == [245, 245 + 66, 245 + 3 * 66]
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
