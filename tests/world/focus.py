"""What needs several rare things at once: some schedules draw all of them together, and everything else as usual."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from world.scheduler import World


@dataclass(frozen=True)
class Focus:
    """What a schedule has, whatever else it draws.

    Attributes:
        settings: by name, without ``MF_``.
        faults: kind of fault → it strikes once in so many times.
        brings: what producers or the platform do, by the names that ``Schedule`` asks for.
        spares: kinds of fault that are not drawn.
        limit_s: of an invocation; 0: as drawn.
        healed_after_s: when the faults end; 0: as drawn.
        switch_one_in: how often another thread is let in, see ``World``; 0: as drawn.
        is_remote_write: whether the destination is remote write; None: as drawn.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)
    brings: frozenset[str] = frozenset()
    spares: frozenset[str] = frozenset()
    limit_s: float = 0.0
    healed_after_s: float = 0.0
    switch_one_in: int = 0
    is_remote_write: bool | None = None


_NONE = Focus()
_REDIS = {"DEDUPE": "redis://:a-password-for-redis@redis.test:6379/0"}
_FOCUSES = (
    # Answers that come when the time of their event is up.
    Focus({"UNCERTAIN": "hold", "SPOOL": ""}, {"last moment": 2}, limit_s=3.0, switch_one_in=8),
    # An event that comes again for longer than the window, now to this instance and now to another one.
    Focus(
        {**_REDIS, "DEDUPE_WINDOW_S": "90", "SPOOL": ""},
        {"poison": 1, "cold start": 3},
        healed_after_s=200.0,
        is_remote_write=False,
    ),
    # A processor on which an event takes longer to read than an invocation may last.
    Focus(
        {"BATCH_MAX_POINTS": "30", "DEDUPE": "memory:", "DEDUPE_WINDOW_S": "600", "SPOOL": ""},
        brings=frozenset({"a slow processor", "many messages"}),
        spares=frozenset({"small requests", "quota", "poison", "new settings"}),
        limit_s=10.0,
        healed_after_s=1.0,
        is_remote_write=False,
    ),
    # Settings that are changed while a store hangs.
    Focus(_REDIS, {"redis hangs": 3, "new settings": 1}, healed_after_s=100.0),
    # A replay that acknowledges one point after the other on a disk that is full for moments.
    Focus(
        {"SPOOL": "file:///mnt/spool", "BATCH_MAX_POINTS": "1", "CONCURRENCY": "1", "MAX_ATTEMPTS": "1"},
        {"disk full": 12, "unreachable": 2},
        brings=frozenset({"frequent replays"}),
        healed_after_s=200.0,
    ),
    # Readings that get the time of their message.
    Focus(brings=frozenset({"logs"}), is_remote_write=True),
    # One instance that is given several events at once.
    Focus(brings=frozenset({"several events at once", "a twin"})),
    # Records that come again in another batch, while an instance still sends them.
    Focus(_REDIS, {"slow": 3}, brings=frozenset({"other batches"})),
    # A large event of which half is refused, point by point.
    Focus(
        {"MAX_ATTEMPTS": "2", "SPOOL": ""},
        brings=frozenset({"many refused"}),
        spares=frozenset({"poison", "small requests", "quota"}),
        healed_after_s=1.0,
        is_remote_write=False,
        limit_s=60.0,
    ),
    # A pace that people set, and many requests.
    Focus({"MAX_RPS": "2", "BATCH_MAX_POINTS": "1", "DEDUPE": "memory:", "SPOOL": ""}, limit_s=30.0),
    # A point at which the destination fails, and events that come between the deliveries of its event.
    Focus(
        {"DEDUPE": "memory:", "SPOOL": "", "BATCH_MAX_POINTS": "30"},
        {"poison": 1},
        brings=frozenset({"a steady stream"}),
        spares=frozenset({"kill", "cold start", "recycle", "out of memory", "quota"}),
        healed_after_s=1.0,
        limit_s=10.0,
        is_remote_write=False,
    ),
    # Batches in which every point makes the destination fail.
    Focus(
        {"DEDUPE": "memory:", "SPOOL": "", "BATCH_MAX_POINTS": "2", "CONCURRENCY": "1"},
        brings=frozenset({"many that fail"}),
        spares=frozenset({"kill", "cold start", "recycle", "out of memory", "quota"}),
        healed_after_s=1.0,
        limit_s=10.0,
        is_remote_write=False,
    ),
    # Replies of Redis that make no sense, while two instances have the same event.
    Focus(
        {**_REDIS, "SPOOL": ""},
        {"redis garbage": 2, "delivered twice": 2, "slow": 3},
        brings=frozenset({"a twin"}),
    ),
    # A folder whose name could not be made durable, and a disk that crashes later.
    Focus(
        {"SPOOL": "file:///mnt/spool"},
        {"disk crashes": 1, "sync fails": 2, "unreachable": 1},
        spares=frozenset({"disk fails", "disk full", "disk hangs"}),
        healed_after_s=100.0,
    ),
)
_PLAIN_IN = 3


def draw_focus(world: World) -> Focus:
    """One of these for a share of the schedules, and nothing in particular for the others."""
    return world.pick(_FOCUSES) if world.one_in(_PLAIN_IN) else _NONE
