"""How points are divided into lanes and batches, and what a refused size teaches."""

from collections import Counter
from itertools import chain, groupby, zip_longest

from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.delivery.batching import BatchLimits, pack, plan_lanes, round_robin
from metric_forwarder.model import Message, Point, Series

_SERIES = [Series(namespace, f"m{number}", {}) for namespace in ("a", "b") for number in range(5)]


@st.composite
def _some_points(draw: st.DrawFn) -> list[Point]:
    members = st.tuples(st.sampled_from(_SERIES), st.integers(0, 5), st.binary(min_size=1, max_size=9))
    return [
        Point(number, series, 1, None, None, Message("s", None), "", None, time_ms, wire)
        for number, (series, time_ms, wire) in enumerate(draw(st.lists(members, max_size=40)))
    ]


def _namespace(series: Series) -> str:
    return series.namespace


def _numbers(points: list[Point]) -> list[int]:
    return [point.number for point in points]


@given(_some_points(), st.integers(1, 9), st.integers(1, 5))
def test_every_lane_holds_whole_series_of_one_group_in_their_order(
    points: list[Point], most: int, concurrency: int
) -> None:
    lanes = plan_lanes(points, _namespace, most, concurrency)
    assert sorted(chain(*map(_numbers, lanes))) == _numbers(points)
    for lane in lanes:
        assert len({point.series.namespace for point in lane}) == 1
        assert _numbers(lane) == sorted(_numbers(lane))
    lanes_of_series = Counter(series for lane in lanes for series in {point.series for point in lane})
    assert set(lanes_of_series.values()) <= {1}
    assert [len(lane) for lane in lanes] == sorted(map(len, lanes), reverse=True)


@given(
    points=_some_points(),
    most=st.integers(1, 9),
    concurrency=st.integers(1, 5),
    one_per_series=st.booleans(),
)
def test_a_group_has_as_many_lanes_as_it_fills_with_batches_and_none_is_longer_than_needed(
    points: list[Point], most: int, concurrency: int, *, one_per_series: bool
) -> None:
    lanes = plan_lanes(points, _namespace, most, concurrency, one_per_series=one_per_series)
    by_group = groupby(
        sorted(lanes, key=lambda lane: lane[0].series.namespace), lambda lane: lane[0].series.namespace
    )
    for namespace, group in by_group:
        lengths = [len(lane) for lane in group]
        series = Counter(point.series for point in points if point.series.namespace == namespace)
        in_a_turn = len(series) if one_per_series else sum(lengths)
        assert len(lengths) == min(concurrency, -(-in_a_turn // most), len(series))
        # The longest series went first, each to the emptiest lane.
        assert max(lengths) <= min(lengths) + max(series.values())


def test_the_longest_series_are_placed_first() -> None:
    (small, other, large) = _SERIES[:3]
    order = [small, other, *[large] * 4, small, other]
    points = [Point(n, s, 1, None, None, Message("s", None), "", None, 0, b"x") for n, s in enumerate(order)]
    assert [len(lane) for lane in plan_lanes(points, _namespace, 1, 2)] == [4, 4]


def test_each_series_goes_to_the_lane_that_is_emptiest_so_far() -> None:
    order = [series for series, length in zip(_SERIES, (3, 3, 2, 2), strict=False) for _ in range(length)]
    assert [len(lane) for lane in plan_lanes(_of_five_bytes(order), _namespace, 1, 2)] == [5, 5]


def test_a_batch_may_have_exactly_as_many_bytes_as_the_limit() -> None:
    assert [len(batch) for batch in pack(_of_five_bytes(_SERIES[:5]), BatchLimits(9, 10))] == [2, 2, 1]


def _of_five_bytes(series: list[Series]) -> list[Point]:
    return [
        Point(n, s, 1, None, None, Message("s", None), "", None, 0, b"12345") for n, s in enumerate(series)
    ]


@given(_some_points())
def test_a_round_takes_one_point_of_each_series_and_older_points_come_first(points: list[Point]) -> None:
    seen: Counter[Series] = Counter()
    rounds = {}
    for point in sorted(points, key=lambda point: point.time_ms):
        rounds[point.number] = seen[point.series]
        seen[point.series] += 1
    expected = sorted(points, key=lambda point: (rounds[point.number], point.time_ms, point.number))
    assert _numbers(round_robin(points)) == _numbers(expected)


@given(_some_points(), st.integers(1, 9), st.integers(1, 40))
def test_a_batch_is_as_large_as_both_limits_allow_and_a_larger_point_goes_alone(
    points: list[Point], most: int, most_bytes: int
) -> None:
    batches = list(pack(points, BatchLimits(most, most_bytes)))
    assert list(chain(*batches)) == points
    for batch, following in zip_longest(batches, batches[1:]):
        size = sum(len(point.wire) for point in batch)
        assert len(batch) == 1 or (len(batch) <= most and size <= most_bytes)
        if following is not None:
            assert len(batch) == most or size + len(following[0].wire) > most_bytes


@given(_some_points(), st.integers(1, 9))
def test_a_batch_ends_before_a_series_returns_where_each_may_come_once(
    points: list[Point], most: int
) -> None:
    batches = list(pack(points, BatchLimits(most, 10_000), one_per_series=True))
    assert list(chain(*batches)) == points
    for batch, following in zip_longest(batches, batches[1:]):
        series = {point.series for point in batch}
        assert len(series) == len(batch) <= most
        if following is not None:
            assert len(batch) == most or following[0].series in series


def test_a_limit_is_learned_from_a_refused_size_that_was_never_taken() -> None:
    limits = BatchLimits(64, 10_000)
    limits.accept(8)
    limits.refuse(9)
    limits.learn_points(4, now=0)
    assert limits.max_points == 4


def test_two_points_refused_together_are_too_many_and_one_point_alone_never_is() -> None:
    limits = BatchLimits(64, 10_000)
    limits.refuse(2)
    limits.learn_points(1, now=0)
    assert limits.max_points == 1
    limits = BatchLimits(64, 10_000)
    limits.refuse(1)
    limits.learn_points(1, now=0)
    assert limits.max_points == 64


def test_a_period_stays_full_for_the_whole_event() -> None:
    limits = BatchLimits(64, 10_000)
    limits.accept(8)
    limits.refuse(8)
    limits.refuse(32)
    limits.learn_points(4, now=0)
    assert limits.max_points == 64
    limits.begin(now=0)
    limits.learn_points(4, now=0)
    assert limits.max_points == 4


def test_the_next_event_begins_with_half_of_a_refused_size_until_a_request_is_taken() -> None:
    limits = BatchLimits(64, 10_000)
    limits.refuse(30)
    limits.begin(now=0)
    assert limits.max_points == 15
    limits = BatchLimits(64, 10_000)
    limits.refuse(30)
    limits.accept(1)
    limits.begin(now=0)
    assert limits.max_points == 64


def test_learned_limits_double_with_each_minute_up_to_the_first_ones() -> None:
    limits = BatchLimits(64, 10_000)
    limits.learn_points(4, now=100)
    limits.learn_bytes(1000, now=100)
    learned = []
    for now in (159, 160, 219, 280, 340, 400, 4000):
        limits.begin(now)
        learned.append((limits.max_points, limits.max_bytes))
    # 219 and 280: 59 and 120 seconds after the limits grew last.
    assert learned == [(4, 1000), (8, 2000), (8, 2000), (32, 8000), (64, 10_000), (64, 10_000), (64, 10_000)]
    # Three minutes without a refusal are three doublings.
    limits.learn_points(4, now=5000)
    limits.begin(now=5180)
    assert limits.max_points == 32


def test_a_size_taken_before_the_limits_grew_says_nothing_about_the_period() -> None:
    limits = BatchLimits(64, 10_000)
    limits.accept(30)
    limits.begin(now=60)
    limits.refuse(30)
    limits.learn_points(15, now=60)
    assert limits.max_points == 15
