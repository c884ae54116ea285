"""Verdicts on replies: what a destination's reply means for the batch that it answers, and what to do about it.

Each action is declared once, with its text for the documents and its effects. ``retry`` decides how long to wait after it.
Only ``ACCEPT`` makes a point delivered. Each destination has its own tables of rules.
"""

from enum import Enum, Flag, auto
from typing import NamedTuple


class Effect(Flag):
    """What the sender does because of an action."""

    NONE = 0
    HALVES = auto()  # a batch of several points is halved, down to those at fault
    REJECTS = auto()  # the points at fault are rejected in the end, not undelivered
    LEARNS_BYTES = auto()  # if both halves are taken, the batch was too large in bytes
    LEARNS_POINTS = auto()  # if both halves are taken, it had too many points
    MAY_HAVE_ARRIVED = auto()  # the request was sent, and its fate is unknown
    STOPS = auto()  # nothing more is sent, by this event and for a while by later ones


class Action(Enum):
    """What to do with a batch, seen from the batch."""

    ACCEPT = ("delivered", Effect.NONE)
    RETRY = ("try again with backoff", Effect.NONE)
    SLOW_DOWN = ("slow down, then try again", Effect.NONE)
    HOLD_OFF = (
        "try again with backoff; if it lasts, send nothing more for the rest of the event",
        Effect.NONE,
    )
    RECONNECT = ("send again at once, once, on a new connection", Effect.MAY_HAVE_ARRIVED)
    RESEND = ("sent, but no reply: send again, or hold (`MF_UNCERTAIN`)", Effect.MAY_HAVE_ARRIVED)
    SPLIT = (
        "halve the batch down to the points at fault, which are rejected",
        Effect.HALVES | Effect.REJECTS,
    )
    SHRINK = (
        "halve the batch and remember the size that worked; a single point is rejected",
        Effect.HALVES | Effect.REJECTS | Effect.LEARNS_BYTES,
    )
    THIN_OUT = (
        "slow down and halve the batch, remember the size that worked",
        Effect.HALVES | Effect.LEARNS_POINTS,
    )
    REJECT_GROUP = ("reject every point of this namespace, go on with the others", Effect.REJECTS)
    REAUTHENTICATE = ("read the secret again and sign once more; then stop", Effect.STOPS)
    SET_CLOCK = ("take the time from the reply and sign once more; then stop", Effect.STOPS)
    STOP = ("stop: nothing can be delivered until a person changes something", Effect.STOPS)

    def __init__(self, text: str, effects: Effect) -> None:
        self.text = text
        self.effects = effects

    def has(self, effect: Effect) -> bool:
        return bool(self.effects & effect)


class Concern(Enum):
    """Which points the refusal of a single point concerns."""

    POINT = "this point alone"
    NAMES = "its metric and the names of its dimensions, which other points share"


class Rule(NamedTuple):
    """What to do, what the user should do, and which points the reason concerns."""

    action: Action
    remedy: str
    concern: Concern = Concern.POINT


class Verdict(NamedTuple):
    """A judged reply.

    Attributes:
        label: how the report counts it: a return code, ``http 503``, ``no answer``, …
        code: the destination's own code, or its HTTP status, when it gave one.
        reason: what the reply says and what the user should do; holds nothing of the reply's body.
        retry_after_s: how long the destination asked not to be sent anything.
        server_time: its time, Unix seconds, if its reply said it.
        concern: which points the reason concerns, if this one is refused.
    """

    action: Action
    label: str
    reason: str
    code: int | None = None
    retry_after_s: float | None = None
    server_time: float | None = None
    concern: Concern = Concern.POINT


def asked_to_wait(seconds: float) -> Verdict:
    """Return the verdict on points that are not sent because the destination asked for a pause that is too long."""
    return Verdict(
        Action.HOLD_OFF,
        "retry-after",
        f"the destination asked for a pause of another {seconds:.0f} s (Retry-After), longer than this event can wait: check "
        "its health and its limits; the points can still be delivered, and once a minute a request tests whether the pause is "
        "over",
    )


def too_slow_a_pace(seconds: float) -> Verdict:
    """The verdict on points that are not sent, because the pace allows the next request only after this time."""
    return Verdict(
        Action.SLOW_DOWN,
        "pace",
        f"the next request may be sent only in {seconds:.0f} s, when the function's time is up: the destination refused "
        "requests as too many, or MF_MAX_RPS is low; put more points into a request, or raise the limit; the points can "
        "still be delivered",
    )


def still_refused(verdict: Verdict, ago_s: float, again_s: float) -> Verdict:
    """The verdict on points that are not sent, because everything was refused a short time ago."""
    return verdict._replace(
        reason=f"not sent, since a request was refused {ago_s:.0f} s ago (the next one goes in {again_s:.0f} s): "
        f"{verdict.reason}",
    )


def blocked_by_earlier(verdict: Verdict) -> Verdict:
    """The verdict on a point that must not pass an earlier one of its series that is undelivered."""
    return verdict._replace(
        reason=f"an earlier point of its series is undelivered, and this one must not pass it; {verdict.reason}"
    )


def like_the_others(verdict: Verdict, refused: int) -> Verdict:
    """The verdict on a point that is not sent, because all points of its metric that were sent are refused."""
    return verdict._replace(
        reason=f"not sent: {refused} points of this metric, with the same names of dimensions, were refused one by one "
        f"with this code and none was taken; {verdict.reason}"
    )


OUT_OF_TIME = Verdict(
    Action.RETRY,
    "out of time",
    "the function's time was up: raise its timeout, or let the trigger bring fewer messages at once",
)
NO_THREAD = Verdict(
    Action.RETRY,
    "no thread",
    "the instance could not start a thread to send with: give the function more memory; the points can still be delivered",
)
