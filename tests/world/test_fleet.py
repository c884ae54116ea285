"""A fleet: hundreds of instances of the function, one Redis, and one receiver with a quota; nothing is lost, and nothing waits long."""

import contextlib
from collections import Counter
from functools import partial
from typing import Any

import pytest

from world import oracles
from world.book import Event, Made
from world.cloud import Platform, Triggers
from world.receivers import Receiver
from world.schedule import _REDIS, Deployment, Schedule, _ckafka
from world.scheduler import World

_QUOTA = 50.0
_REQUESTS = 10
# Some of them are killed, stand still, or lose their way to Redis.
_FAULTS = {"kill": 40, "pause": 40, "recycle": 40, "cut off from redis": 2000, "delivered twice": 40}


class PlainWorld(World):
    """Its first choices are the plain ones, as if its tape were empty; it keeps no trace."""

    is_plain = True

    def choose(self, count: int) -> int:
        return 0 if self.is_plain else super().choose(count)

    def note(self, line: str) -> None:
        """Hundreds of instances would fill the memory with what they do."""


class FleetDeployment(Deployment):
    settings = {"MF_DEDUPE": _REDIS, "MF_BATCH_MAX_POINTS": "1", "MF_LOG_LEVEL": "INFO"}  # noqa: RUF012 - not changed


class Fleet(Schedule):
    """As many instances as partitions; each partition has one event of ten requests."""

    def __init__(self, instances: int, faults: dict[str, int]) -> None:
        world = PlainWorld(instances)
        super().__init__(world, FleetDeployment())
        world.is_plain = False
        world.most_steps = 20_000_000
        assert isinstance(self.server, Receiver)
        self.server.quota = _QUOTA
        self.faults.rates.update(faults)
        self.limit_s = 60.0
        self.platform = Platform(
            world,
            self.book,
            self.faults,
            make=self._make,
            settings=lambda: self.settings,
            limit_s=self.limit_s,
            watch=self._watch,
        )
        self.platform.most_idle = instances
        self.triggers = Triggers(world, self.platform, self.faults, retries=1000)
        self._instances = instances
        self.drained_s = 0.0

    def run(self) -> None:
        for partition in range(self._instances):
            self.triggers.start(f"partition {partition}", partial(self._deliver, self._flood(partition)))
        while self.triggers.open:
            self.world.sleep(1.0)
        self.drained_s = self.world.now
        self._heal()
        oracles.check_at_rest(self.book)

    def _deliver(self, event: Event) -> None:
        self.world.sleep(0.1 * self.world.choose(10) / 10)
        self.triggers.deliver_in_order(event)

    def _flood(self, partition: int) -> Event:
        points = [self._good(f"p{partition}") for _ in range(_REQUESTS)]
        event = Event(partition + 1, "ckafka", _ckafka(partition, 1, [points]), points)
        self.book.events.append(event)
        return event

    def _good(self, series: str) -> Made:
        self._numbers += 1
        body: dict[str, Any] = {"metricName": "m_0", "dimensions": {"ip": series}, "value": self._numbers}
        made = Made(self._numbers, "good", series, has_id=False, has_time=False, body=body)
        self.book.points[made.number] = made
        return made


@pytest.mark.slow
@pytest.mark.parametrize("faults", [{}, _FAULTS], ids=["nothing fails", "instances fail"])
@pytest.mark.parametrize("instances", [100, 1000])
def test_instances_that_share_a_quota_and_a_redis_deliver_everything_soon(
    instances: int, faults: dict[str, int]
) -> None:
    fleet = Fleet(instances, faults)
    with contextlib.redirect_stdout(fleet):
        fleet.world.run(fleet.run)
    codes = Counter(request.refused for request in fleet.book.requests)
    assert sorted(fleet.book.arrivals) == sorted(fleet.book.points)
    least_s = instances * _REQUESTS / _QUOTA
    # What an event of a minute leaves over comes again a minute later; after a kill it also waits for the leases of before.
    assert fleet.drained_s <= 2 * least_s + (150 if faults else 20)
    # The receiver takes the requests of a second at once before it refuses the first one.
    assert codes["1006"] <= 100 + 0.03 * len(fleet.book.requests)
