"""Instances that share a pace, in virtual time: their pacers are the real ones, Redis is the model of the simulated world."""

import random
import re

from metric_forwarder.clients.redis import RedisUnavailable, Script
from metric_forwarder.dedupe.shared_pace import SharedPacer
from metric_forwarder.delivery.pacing import Pacer
from support.fakes import START, machine_of
from support.shared_quota import Crowd, Limiter, VirtualClock
from world.redis_model import RedisModel


class ModelLine:
    """A ``Line`` that replies at once.

    Attributes:
        redis: what it asks.
        commands: how often it was asked.
        is_up: whether it replies.
    """

    def __init__(self, redis: RedisModel) -> None:
        self.redis = redis
        self.commands = 0
        self.is_up = True

    def ask(
        self, form: re.Pattern[bytes], script: Script, key: bytes, *arguments: int
    ) -> re.Match[bytes] | None:
        self.commands += 1
        if not self.is_up:
            return None
        try:
            reply: bytes = self.redis.run(script, [key], *arguments)
        except RedisUnavailable:
            return None
        return form.fullmatch(reply)


class SharedCrowd(Crowd):
    """Instances that have more to send than the quota allows, and one Redis.

    Attributes:
        line: what all of them ask.
        redis_ahead_s: how far its clock is ahead.
    """

    def __init__(
        self,
        instances: int,
        limiter: Limiter,
        *,
        lanes: int = 4,
        backlog: int | None = None,
        max_rate: float | None = None,
        event_s: float = 60.0,
        pause_s: float = 0.0,
        seed: int = 1,
    ) -> None:
        clock, chance = VirtualClock(), random.Random(instances)
        machine = machine_of(clock, lambda ceiling: chance.uniform(0, ceiling))
        self.redis_ahead_s = 0.0
        self.line = ModelLine(RedisModel(lambda: (START + clock.now + self.redis_ahead_s) * 1000))
        pacers = [
            SharedPacer(Pacer(machine, max_rate), self.line, "receiver", machine) for _ in range(instances)
        ]
        super().__init__(
            pacers, limiter, clock, seed=seed, lanes=lanes, event_s=event_s, backlog=backlog, pause_s=pause_s
        )

    @property
    def commands_a_request(self) -> float:
        """Commands for Redis, for each request that was sent."""
        return self.line.commands / max(1, sum(self.accepted) + self.refused)
