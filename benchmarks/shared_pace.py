"""The tables of docs/scale.md about instances with one Redis, in virtual time.

``PYTHONPATH=tests python -m benchmarks.shared_pace`` writes them again.
"""

import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.shared_quota import IN_CHINESE, put_rows
from support.shared_pace import SharedCrowd
from support.shared_quota import LIMITERS

_SECONDS = 600
_QUOTA = 50
_INSTANCES = (1, 10, 100, 1000)
_OTHER_QUOTAS = (5, 500)
# What the receiver takes in a request, unless a setting says otherwise.
_POINTS = 30


class Measured(NamedTuple):
    """What so many instances achieved, and what they asked of Redis."""

    used: float
    refused: float
    fairness: float
    commands_a_request: float
    commands_a_second: float

    def shown(self) -> list[str]:
        a_point = self.commands_a_request / _POINTS
        return [
            f"{self.used:.0%}",
            f"{self.refused:.1%}",
            f"{self.fairness:.2f}",
            f"{self.commands_a_request:.2f}",
            f"{a_point:.4f}",
            f"{self.commands_a_second:.0f}",
        ]


def measure(limiter: str, allowed: int, instances: int) -> Measured:
    # One instance with four lanes could not use 500 requests a second.
    lanes = 16 if allowed > _QUOTA and instances == 1 else 4
    crowd = SharedCrowd(instances, LIMITERS[limiter](allowed), lanes=lanes)
    used, refused, fairness, _ = crowd.run(_SECONDS, allowed)
    return Measured(used, refused, fairness, crowd.commands_a_request, crowd.line.commands / _SECONDS)


def worst(allowed: int, instances: int) -> Measured:
    """Each measure with the limiter at which it is worst."""
    found = [measure(limiter, allowed, instances) for limiter in LIMITERS]
    return Measured(
        min(each.used for each in found),
        max(each.refused for each in found),
        min(each.fairness for each in found),
        max(each.commands_a_request for each in found),
        max(each.commands_a_second for each in found),
    )


def main() -> int:
    docs = Path(__file__).parents[1] / "docs"
    rows = [
        [limiter, f"{instances:,}", *measure(limiter, _QUOTA, instances).shown()]
        for limiter in LIMITERS
        for instances in _INSTANCES
    ]
    others = [
        [str(allowed), f"{instances:,}", *worst(allowed, instances).shown()]
        for allowed in _OTHER_QUOTAS
        for instances in _INSTANCES
    ]
    put_rows(docs / "scale.md", "limiter with Redis", rows)
    put_rows(
        docs / "zh" / "scale.md", "有 Redis 时的限流器", [[IN_CHINESE[row[0]], *row[1:]] for row in rows]
    )
    put_rows(docs / "scale.md", "requests a second allowed", others)
    put_rows(docs / "zh" / "scale.md", "每秒允许的请求数", others)
    return 0


if __name__ == "__main__":
    sys.exit(main())
