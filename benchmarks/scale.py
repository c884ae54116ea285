"""Whether a point costs the same in larger events and with more series, and whether one Redis can serve many instances."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.processes import Subject, receiver
from benchmarks.rows import Pair, Row, compare, points_a_second
from support.redis_server import RedisServer

_TURNS = 3
_SMALL, _LARGE = 100, 100_000
_KIND = "list of 100"
_INSTANCES = 8
# Short events and many turns, since the share of each process in the processors varies by a tenth from one event to the next.
_POINTS = 5_000
_STORE_TURNS = 5
_TRIES = 10
# The first events with Redis take longer, until all lanes and threads have been started and Redis has got its memory.
_WARMING_UP = 2


def rows() -> list[Row]:
    with receiver() as url:
        return [_by_size(url), *_by_series(url), *_by_store(url)]


def _against(url: str, what: str, bound: float, many: tuple[int, str], few: tuple[int, str]) -> Row:
    """Compare what a point costs in events of two kinds, each a number of points and a shape, in turns."""
    with Subject("forwarder", url=url) as ours, Subject("forwarder", url=url) as theirs:
        pair = Pair(what, bound, lambda: _cost(ours, *many), lambda: _cost(theirs, *few), _detail)
        (row,) = compare([pair], _TURNS)
    return row


def _by_size(url: str) -> Row:
    what = f"CPU a point, {_LARGE:,} points in lists of 100 against {_SMALL}"
    return _against(url, what, 1.1, (_LARGE, _KIND), (_SMALL, _KIND))


def _by_series(url: str) -> list[Row]:
    """Compare many series with few: as many as an instance remembers from one event to the next, and more than that."""
    what = "CPU a point, events of {0:,} points of as many series against 1,000 series"
    return [
        _against(url, what.format(series), bound, (series, "50,000 series"), (series, "no timestamp"))
        for series, bound in ((10_000, 1.2), (50_000, 1.8))
    ]


def _detail(ours: Sequence[float], theirs: Sequence[float]) -> str:
    return f"{median(ours):.1f} µs against {median(theirs):.1f} µs"


def _cost(subject: Subject, size: int, kind: str = _KIND) -> float:
    events = max(1, 3000 // size)
    return sum(subject.run(size, kind).cpu_s for _ in range(events)) / events / size * 1e6


def _by_store(url: str) -> list[Row]:
    what = f"wall time, {_INSTANCES} instances that share one Redis, against as many with their own memory"
    with TemporaryDirectory() as folder, RedisServer(Path(folder)) as redis, ExitStack() as stack:
        with_redis, in_memory = (
            stack.enter_context(_instances(url, store)) for store in (redis.url(), "memory:")
        )
        pool = stack.enter_context(ThreadPoolExecutor(_INSTANCES))
        pair = Pair(
            what,
            1 / 0.8,
            lambda: _wall_s(pool, with_redis),
            lambda: _wall_s(pool, in_memory),
            lambda redis_s, memory_s: points_a_second(_INSTANCES * _POINTS, redis_s, memory_s),
        )
        for _ in range(_WARMING_UP):
            pair.ours()
            pair.theirs()
        return compare([pair], _STORE_TURNS)


def _wall_s(pool: ThreadPoolExecutor, instances: list[Subject]) -> float:
    """Measure one event of each instance, all at once."""
    for _ in range(_TRIES):
        started = time.perf_counter()
        runs = list(pool.map(lambda subject: subject.run(_POINTS, _KIND), instances))
        wall_s = time.perf_counter() - started
        # An instance that Redis did not answer in time goes on with its own memory.
        if all(run.result["dedupe"] != "degraded" for run in runs):
            return wall_s
    raise RuntimeError("Redis did not answer all instances in time: measure on an idle machine")


@contextmanager
def _instances(url: str, store: str) -> Iterator[list[Subject]]:
    with ExitStack() as stack:
        subjects = [
            stack.enter_context(Subject("forwarder", url=url, DEDUPE=store)) for _ in range(_INSTANCES)
        ]
        for number, subject in enumerate(subjects):
            subject.turn = (
                1000 * number
            )  # no two instances may have the same points, which Redis would recognise
        yield subjects


if __name__ == "__main__":
    from benchmarks.page import table

    print(table(rows()))
