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
    "Redis acted and its answer was lost",
    "Redis did not answer in time",
    "Redis evicted a key",
    "Redis forgot everything",
    "Redis lost its last writes",
    "Redis was not there",
    "Retry-After was asked for",
    "a batch was sent again",
    "a cold start",
    "a connector with batches side by side",
    "a file of the spool could not be removed",
    "a redelivery sent only what was missing",
    "a replay delivered what was spooled",
    "a request timed out",
    "a thread waits for a lock",
    "a warm instance",
    "an HTTP client sends its request again",
    "an asynchronous event comes again",
    "an event of CKafka comes again",
    "an event of many messages",
    "an event with several points at which the destination always fails",
    "an idle instance was given up",
    "an instance got two events at once",
    "an instance stood still in the middle of its work",
    "an instance ran out of memory",
    "an instance was cut off from Redis alone",
    "an instance was frozen with threads at work",
    "an instance was killed at a call of Redis",
    "an instance was killed at a file operation",
    "an instance was killed while it worked",
    "another program filled Redis",
    "code 1006",
    "code 1011",
    "code 1015",
    "code 1018",
    "code 1019",
    "code 1021",
    "dedupe: degraded",
    "dedupe: off",
    "dedupe: redis",
    "halved down to a bad point",
    "in the folder of the spool there was a torn file",
    "killed after a batch was taken",
    "killed before anything was sent",
    "killed between arrival and answer",
    "no thread could be started",
    "outcome: duplicate",
    "outcome: spooled",
    "outcome: stale",
    "outcome: uncertain",
    "outcome: undelivered",
    "remote write: out of order sample",
    "records came again in another batch",
    "rule: no thread",
    "rule: out of time",
    "rule: pace",
    "rule: retry-after",
    "rule: secret",
    "rule: sent before",
    "rule: spool",
    "the disk of the spool crashed",
    "the key was changed",
    "the platform ended an invocation at its limit",
    "the platform gave an event up: async",
    "the platform gave an event up: ckafka",
    "the platform gave an event up: http",
    "the secret was rotated",
    "the shared pace: free",
    "the shared pace: line",
    "two replays of a spool side by side",
    "two versions side by side",
)
