"""What must occur in a campaign: a simulation that meets nothing tests nothing.

Each name is counted by ``World.met`` where it happens, or by ``note_attempt`` from what an invocation reported.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from metric_forwarder.model import Outcome
from world.book import Attempt, Request
from world.scheduler import World


def note_attempt(world: World, attempt: Attempt) -> None:
    """Count the situations that an invocation shows once it has ended."""
    if attempt.was_cut_off:
        _note_cut_off(world, attempt.requests)
    if attempt.report is not None:
        _note_report(world, attempt, attempt.report)


def _note_cut_off(world: World, requests: Sequence[Request]) -> None:
    if any(request.acted and request.answer == "taken" for request in requests):
        world.met("killed after a batch was taken")
    if any(request.acted and request.answer == "none" for request in requests):
        world.met("killed between arrival and answer")
    if not requests:
        world.met("killed before anything was sent")


def _note_report(world: World, attempt: Attempt, report: Mapping[str, Any]) -> None:
    outcomes, requests = report["outcomes"], report["requests"]
    names = [f"outcome: {outcome.value}" for outcome in Outcome if outcomes[outcome.value]]
    names += [f"rule: {error['rule']}" for error in report["errors"] if error["rule"] in _RULES]
    names += [f"status: {report['status']}", f"dedupe: {report['dedupe']}"]
    seen = {
        "a redelivery sent only what was missing": len(attempt.event.attempts) > 1
        and outcomes["duplicate"]
        and outcomes["delivered"],
        "a batch was sent again": requests["retried"],
        "halved down to a bad point": requests["sent"] > requests["retried"] + 1 and outcomes["rejected"],
        "a replay delivered what was spooled": attempt.event.source == "replay" and outcomes["delivered"],
    }
    for name in (*names, *(name for name, is_seen in seen.items() if is_seen)):
        world.met(name)


_RULES = (
    "held",
    "out of time",
    "pace",
    "retry-after",
    "no thread",
    "sent before",
    "rejected before",
    "secret",
    "spool",
)

# Each of these must occur within a thousand seeds.
EXPECTED: tuple[str, ...] = (
    "a warm instance",
    "a cold start",
    "an instance was killed while it worked",
    "an instance stood still in the middle of its work",
    "an idle instance was given up",
    "an event of CKafka comes again",
    "killed after a batch was taken",
    "killed between arrival and answer",
    "killed before anything was sent",
    "a redelivery sent only what was missing",
    "a batch was sent again",
    "halved down to a bad point",
    "a request timed out",
    "Retry-After was asked for",
    "a thread waits for a lock",
)
