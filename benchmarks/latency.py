"""Wall time when each reply takes 20 ms, which shows whether four requests really are sent in parallel."""

from statistics import median

from benchmarks.processes import Subject, receiver
from benchmarks.rows import Row

RUNS = 3
_DELAY_S = 0.02
_POINTS, _BATCH, _CONCURRENCY = 10_000, 30, 4


def rows() -> list[Row]:
    settings = {"BATCH_MAX_POINTS": str(_BATCH), "CONCURRENCY": str(_CONCURRENCY)}
    with receiver(_DELAY_S) as url, Subject("forwarder", url=url, **settings) as forwarder:
        walls = [forwarder.run(_POINTS).wall_s for _ in range(RUNS)]
    requests = -(-_POINTS // _BATCH)
    ideal = requests / _CONCURRENCY * _DELAY_S
    detail = f"{median(walls):.2f} s; {requests} requests of 20 ms, four at once, are {ideal:.2f} s"
    return [
        Row(
            "wall time, 10,000 points, answers after 20 ms, against batches / 4 × 20 ms",
            1.3,
            median(walls) / ideal,
            "×",
            RUNS,
            detail,
        )
    ]
