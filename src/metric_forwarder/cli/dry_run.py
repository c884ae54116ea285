"""What an event holds, told without sending any of it: the decoder and the intake are the pipeline's own."""

import sys
from typing import Any, NamedTuple

from metric_forwarder.bootstrap import make_intake
from metric_forwarder.clock import SystemClock
from metric_forwarder.jobs import BadJob, read_job
from metric_forwarder.model import Message, Point, Problem
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.settings.settings import Settings
from metric_forwarder.triggers import Decoded, HttpRejection, TriggerTraits, decode
from metric_forwarder.triggers.decoding import OFFLINE
from metric_forwarder.triggers.traits import HTTP


class DryRun(NamedTuple):
    """The points of an event that could be sent, and everything that is wrong with the others.

    ``job`` is what a timer asks for instead of bringing points: ``scrape`` or ``replay``.
    """

    traits: TriggerTraits
    received: int
    points: list[Point]
    problems: list[Problem]
    job: str | None = None


def read_event(event: Any) -> Decoded:
    """Decode a trigger event, outside of any function: HTTP clients are let in, and no object is fetched.

    Raises:
        UnknownTrigger: it is of no known kind.
    """
    decoded = decode(event, OFFLINE)
    if isinstance(decoded, HttpRejection):
        refused = Message("request", None, broken=f"is refused: {decoded.reason}")
        return Decoded(HTTP, (refused,))
    return decoded


def dry_run(event: Any, settings: Settings) -> DryRun:
    """Look at a trigger event or payload.

    Raises:
        ConfigError: the schema the settings name cannot be used.
        UnknownTrigger: the event is of no known kind.
    """
    decoded = read_event(event)
    ledger = Ledger(max_problems=sys.maxsize)
    intake = make_intake(settings, SystemClock(), ledger)
    asked = None
    for message in decoded.messages:
        job = read_job(message.body) if decoded.traits.may_hold_jobs else None
        if isinstance(job, BadJob):
            intake.take(message._replace(broken=job.reason))
        elif job is not None:
            asked = type(job).__name__.lower()
        else:
            intake.take(message)
    return DryRun(decoded.traits, ledger.received, intake.points, ledger.problems, asked)
