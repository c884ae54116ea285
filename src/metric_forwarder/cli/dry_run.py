"""Reads an event without sending it, with the pipeline's own decoder and intake."""

import sys
from collections import deque
from typing import Any, NamedTuple

from metric_forwarder.cli.reasons import dropping_rule, reason_for
from metric_forwarder.clock import SystemClock
from metric_forwarder.formats.samples import InvalidSample
from metric_forwarder.intake.intake import Intake
from metric_forwarder.intake.making import make_intake
from metric_forwarder.intake.points import Relabel
from metric_forwarder.intake.series import as_text, is_whole
from metric_forwarder.jobs import BadJob, read_job
from metric_forwarder.model import Message, Point, Problem
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.settings.settings import Settings
from metric_forwarder.triggers import Decoded, HttpRefusal, TriggerTraits, decode
from metric_forwarder.triggers.decoding import OFFLINE
from metric_forwarder.triggers.traits import DIRECT, HTTP


class TakenMessage(NamedTuple):
    """How a message was read.

    Attributes:
        source: as in the report.
        format: a name of ``formats.Format``; empty: it was not read.
        reason: why it has that format, or why it was not read.
        received: how many points it holds.
        valid: how many of them could be sent.
    """

    source: str
    format: str
    reason: str
    received: int
    valid: int


class FilteredPoint(NamedTuple):
    """A point that is left out on purpose.

    Attributes:
        source, pointer, rule, message: as in a ``Problem``; the message names the rule of MF_RELABEL that drops it.
        before: the point that a rule of MF_RELABEL drops; None: it is left out for another reason.
    """

    source: str
    pointer: str
    rule: str
    message: str
    before: Any


class DryRun(NamedTuple):
    """The points of an event that could be sent, and the reasons against the others.

    Attributes:
        traits: of the trigger.
        received: how many points there are.
        points: those that could be sent.
        problems: everything that is wrong with the others.
        job: the job that a timer asks for, ``scrape`` or ``replay``; such an event has no points.
        messages: how each message was read.
        filtered: the points that are left out on purpose.
        before: index in ``points`` → the point before the rules, if rules apply to it.
    """

    traits: TriggerTraits
    received: int
    points: list[Point]
    problems: list[Problem]
    job: str | None
    messages: list[TakenMessage]
    filtered: list[FilteredPoint]
    before: dict[int, Any]


class _Account(Ledger):
    """A ledger that keeps every problem and every filtered point."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(max_problems=sys.maxsize)
        self.filtered_points: list[FilteredPoint] = []
        # Points that a rule has dropped, and that intake has not yet reported as filtered.
        self.dropped: deque[Any] = deque()
        self._settings = settings

    def receive_filtered(self, source: str, pointer: str, rule: str, message: str) -> None:
        super().receive_filtered(source, pointer, rule, message)
        before = None
        if rule == "relabel":
            before = self.dropped.popleft()
            message = dropping_rule(before, self._settings)
        self.filtered_points.append(FilteredPoint(source, pointer, rule, message, before))


class _Watch:
    """Takes messages in, one by one, and records the result of each."""

    def __init__(self, settings: Settings) -> None:
        self.account = _Account(settings)
        self.before: dict[int, Any] = {}
        # What the rules made of the points of the present message, and those points before.
        self._relabelled: list[tuple[Any, Any]] = []
        self.messages: list[TakenMessage] = []
        self._settings = settings
        self._intake: Intake = make_intake(settings, SystemClock(), self.account, self._watch_relabel)

    @property
    def points(self) -> list[Point]:
        return self._intake.points

    def take(self, message: Message) -> None:
        received, valid = self.account.received, len(self.points)
        self._relabelled.clear()
        self._intake.take_all([message])
        self._note_before(valid)
        name, reason = self._reading_of(message)
        counts = self.account.received - received, len(self.points) - valid
        self.messages.append(TakenMessage(message.source, name, reason, *counts))

    def _reading_of(self, message: Message) -> tuple[str, str]:
        if message.broken is not None or message.left_out is not None:
            return "", str(message.broken or message.left_out)
        found = self._intake.format_of(message)
        if isinstance(found, InvalidSample):
            return "", found.message
        return found.value, reason_for(found, message, self._settings)

    def _watch_relabel(self, relabel: Relabel) -> Relabel:
        def watched(raw: Any) -> tuple[Any, str]:
            result, was = relabel(raw)
            if result is None:
                self.account.dropped.append(raw)
            else:
                self._relabelled.append((result, raw))
            return result, was

        return watched

    def _note_before(self, first: int) -> None:
        """Find each new point among the results of the rules, of which some are invalid; both are in the same order."""
        results = iter(self._relabelled)
        for place, point in enumerate(self.points[first:], first):
            self.before[place] = next((raw for result, raw in results if _is_same(result, point)), None)


def _is_same(result: Any, point: Point) -> bool:
    """Whether a result of the rules became this point; a result may be anything, since rules leave an invalid point as it is."""
    if not isinstance(result, dict) or not isinstance(dimensions := result.get("dimensions", {}), dict):
        return False
    texts = {name: _text_or_none(value) for name, value in dimensions.items()}
    described = result.get("metricName"), result.get("value"), texts
    return described == (point.series.metric, point.value, dict(point.series.dimensions))


def _text_or_none(value: Any) -> str | None:
    """A dimension's value as text; None if it is not valid."""
    return as_text(value) if is_whole(value) or isinstance(value, str) else None


def read_event(event: Any) -> Decoded:
    """Decode a trigger event outside of a function: HTTP requests are accepted, and no object is fetched.

    Raises:
        UnknownTrigger: its kind is unknown.
    """
    decoded = decode(event, OFFLINE)
    if isinstance(decoded, HttpRefusal):
        refused = Message("request", None, broken=f"is refused: {decoded.reason}")
        return Decoded(HTTP, (refused,))
    return decoded


def payload(body: Any) -> Decoded:
    """Make one message of a payload, in any format; it may be text, bytes, or decoded JSON."""
    return Decoded(DIRECT, (Message("payload", body),))


def dry_run(event: Any, settings: Settings) -> DryRun:
    """Read a trigger event, or a payload of our own JSON.

    Raises:
        ConfigError: the schema the settings name cannot be used.
        UnknownTrigger: the event's kind is unknown.
    """
    return dry_run_decoded(read_event(event), settings)


def dry_run_decoded(decoded: Decoded, settings: Settings) -> DryRun:
    """Read the messages of an event.

    Raises:
        ConfigError: the schema the settings name cannot be used.
    """
    watch = _Watch(settings)
    asked = None
    for message in decoded.messages:
        job = read_job(message.body) if decoded.traits.may_hold_jobs else None
        if isinstance(job, BadJob):
            watch.take(message._replace(broken=job.reason))
        elif job is not None:
            asked = type(job).__name__.lower()
        else:
            watch.take(message)
    account = watch.account
    return DryRun(
        decoded.traits,
        account.received,
        watch.points,
        account.problems,
        asked,
        watch.messages,
        account.filtered_points,
        watch.before,
    )
