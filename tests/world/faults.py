"""Faults by swarm: each seed draws a few kinds of fault and how often each strikes, until the world is healed.

With every kind at once nothing would get far enough to meet the rare one; with few kinds each is met in depth.
"""

from collections.abc import Collection, Mapping, Sequence

from world.scheduler import World

# What may happen to a request. ``before``: the destination does not act; ``after``: it does, and its answer is lost or changed.
OF_REQUESTS = (
    "unreachable",
    "stale connection",
    "reset before",
    "reset after",
    "hang before",
    "hang after",
    "garbage before",
    "garbage after",
    "slow",
    "late",
    "last moment",
    "name server hangs",
    "status before",
    "status after",
    "retry-after",
)
# What a receiver may answer; it does not act then.
OF_RECEIVERS = ("code", "code in a row")
# What may happen to an instance.
OF_INSTANCES = ("kill", "out of memory", "pause", "recycle", "cold start", "no threads", "busy", "log fails")
# What may happen to what instances share.
OF_STORES = (
    "redis down",
    "redis hangs",
    "redis loses",
    "redis read-only",
    "redis full",
    "redis resets",
    "redis garbage",
    "cut off from redis",
    "killed at redis",
)
OF_SECRETS = ("secret fails", "secret hangs")
OF_DISKS = (
    "disk full",
    "disk hangs",
    "disk fails",
    "sync fails",
    "disk crashes",
    "reads fail",
    "files stay",
    "killed at a file",
)
OF_SPOOLS = ("odd entries",)
# What may happen to a spool in Redis.
OF_REDIS_SPOOLS = ("small redis",)
OF_TRIGGERS = ("delivered twice",)
OF_WORLDS = (
    "clock jump",
    "receiver clock",
    "outage",
    "quota",
    "small requests",
    "key changed",
    "new settings",
    "impostor",
    "poison",
)
KINDS = (
    *OF_REQUESTS,
    *OF_RECEIVERS,
    *OF_INSTANCES,
    *OF_STORES,
    *OF_SECRETS,
    *OF_DISKS,
    *OF_SPOOLS,
    *OF_REDIS_SPOOLS,
    *OF_TRIGGERS,
    *OF_WORLDS,
)

# Kinds that are drawn more often: what the laws are about.
_OFTEN = (
    "kill",
    "kill",
    "kill",
    "kill",
    "pause",
    "recycle",
    "cold start",
    "redis loses",
    "redis down",
    "cut off from redis",
)
_RATES = (8, 3, 2, 20)
_MOST_KINDS = 5


class Faults:
    """The kinds of this seed and their rates.

    Attributes:
        healed: from then on nothing fails.
        rates: kind → it strikes once in so many times.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.healed = False
        self.rates: dict[str, int] = {}
        self._of_requests: list[tuple[str, int]] = []

    def draw(
        self, left_out: Collection[str] = (), in_focus: Sequence[tuple[Sequence[str], Sequence[int]]] = ()
    ) -> None:
        """Draw the kinds of this seed and their rates, but none of those that could not strike here.

        Args:
            left_out: kinds that could not strike.
            in_focus: groups of kinds, each with rates; one kind and one rate of each group are drawn besides.
        """
        world = self._world
        kinds = [kind for kind in (*KINDS, *_OFTEN) if kind not in left_out]
        for _ in range(world.choose(_MOST_KINDS + 1)):
            kind = kinds[world.choose(len(kinds))]
            self.rates[kind] = _RATES[world.choose(len(_RATES))]
        for group, rates in in_focus:
            self.rates[world.pick(group)] = world.pick(rates)
        self._of_requests = [(kind, self.rates[kind]) for kind in OF_REQUESTS if kind in self.rates]

    def add(self, rates: Mapping[str, int]) -> None:
        """Let these kinds strike, too, each once in so many times."""
        self.rates.update(rates)
        self._of_requests = [(kind, self.rates[kind]) for kind in OF_REQUESTS if kind in self.rates]

    @property
    def of_requests(self) -> bool:
        """Whether requests meet faults in this seed."""
        return bool(self._of_requests)

    @property
    def kinds(self) -> Mapping[str, int]:
        return self.rates

    def has(self, kind: str) -> bool:
        """Whether this seed has the kind at all."""
        return kind in self.rates

    def strikes(self, kind: str) -> bool:
        """Whether a fault of this kind happens now."""
        rate = self.rates.get(kind)
        if rate is None or self.healed or not self._world.one_in(rate):
            return False
        self._world.note(f"fault: {kind}")
        self._world.met(f"fault: {kind}")
        return True

    def begins(self, kind: str) -> bool:
        """Whether a fault of this kind, which lasts, begins with the schedule: if this seed has it."""
        if kind in self.rates:
            self._world.note(f"fault: {kind}")
            self._world.met(f"fault: {kind}")
        return kind in self.rates

    def of_request(self) -> str:
        """The fault that the next request meets; empty: none."""
        if self.healed:
            return ""
        for kind, rate in self._of_requests:
            if self._world.one_in(rate):
                self._world.note(f"fault: {kind}")
                self._world.met(f"fault: {kind}")
                return kind
        return ""

    def heal(self) -> None:
        """Let nothing fail from now on."""
        self.healed = True
        self._world.note("healed")
