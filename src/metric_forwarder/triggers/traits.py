"""The traits of every trigger, by which the rest of the package treats its events.

Code outside of this table must not test for a trigger's name. docs/triggers.md shows the same table.
"""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class Redelivery(Enum):
    """Whether an event is redelivered after the function raised; a higher value is more certain."""

    NEVER = 0  # only if its sender sends it again
    A_FEW_TIMES = 1  # the platform makes two more attempts, then gives up
    UNTIL_HANDLED = 2  # every minute, for a week


class ReplyTo(Enum):
    """Who gets the outcome of an event; ``reporting.replies`` has one function for each."""

    PLATFORM = "the platform, which redelivers an event if the function raises"
    CALLER = "the caller of the function, who reads the report"
    HTTP_CLIENT = "an HTTP client, who reads a status and the report"
    PUT_MONITOR_DATA = "a client of the receiver, who reads a return code"
    OTLP_JSON = "an OpenTelemetry client that speaks JSON"
    OTLP_PROTOBUF = "an OpenTelemetry client that speaks protobuf"
    REMOTE_WRITE = "a Prometheus that writes to the function"
    INFLUX_1 = "a client of InfluxDB 1"
    INFLUX_2 = "a client of InfluxDB 2"
    PUSHGATEWAY = "a client of a Pushgateway"
    NO_CONTENT = "an HTTP client that reads nothing but the status"


class TriggerTraits(NamedTuple):
    """One row of the table.

    Attributes:
        name: ``trigger`` in the report.
        redelivery: whether the platform redelivers an event that is not handled.
        reply_to: who gets the outcome.
        may_hold_jobs: a message may be a job, such as a replay, in place of a payload.
        is_payload: the event itself is the payload, with nothing around it.
    """

    name: str
    redelivery: Redelivery
    reply_to: ReplyTo
    may_hold_jobs: bool = False
    is_payload: bool = False

    @property
    def is_redelivered_until_handled(self) -> bool:
        """Whether undelivered points are certain to come again."""
        return self.redelivery is Redelivery.UNTIL_HANDLED


TIMER = TriggerTraits("timer", Redelivery.A_FEW_TIMES, ReplyTo.PLATFORM, may_hold_jobs=True)
CKAFKA = TriggerTraits("ckafka", Redelivery.UNTIL_HANDLED, ReplyTo.PLATFORM)
CMQ = TriggerTraits("cmq", Redelivery.A_FEW_TIMES, ReplyTo.PLATFORM)
COS = TriggerTraits("cos", Redelivery.A_FEW_TIMES, ReplyTo.PLATFORM)
CLS = TriggerTraits("cls", Redelivery.A_FEW_TIMES, ReplyTo.PLATFORM)
EVENTBRIDGE = TriggerTraits("eventbridge", Redelivery.A_FEW_TIMES, ReplyTo.PLATFORM)
HTTP = TriggerTraits("http", Redelivery.NEVER, ReplyTo.HTTP_CLIENT)
PUT_MONITOR_DATA = TriggerTraits("put-monitor-data", Redelivery.NEVER, ReplyTo.PUT_MONITOR_DATA)
DIRECT = TriggerTraits("direct", Redelivery.NEVER, ReplyTo.CALLER, may_hold_jobs=True, is_payload=True)
# For a list of records of unknown kinds, and a dead letter without an event.
RECORDS = TriggerTraits("records", Redelivery.A_FEW_TIMES, ReplyTo.PLATFORM)
DEAD_LETTER = TriggerTraits("dead-letter", Redelivery.A_FEW_TIMES, ReplyTo.PLATFORM)


def of_mixed_records(kinds: Iterable[TriggerTraits]) -> TriggerTraits:
    """Return the traits of an event with records of these kinds: it is redelivered as the least certain of them."""
    rows = sorted(set(kinds))
    if len(rows) <= 1:
        return rows[0] if rows else RECORDS
    redelivery = min((row.redelivery for row in rows), key=lambda redelivery: redelivery.value)
    return RECORDS._replace(name="+".join(row.name for row in rows), redelivery=redelivery)


def in_dead_letter(inside: TriggerTraits) -> TriggerTraits:
    """Return the traits of a dead letter, under the name of the event inside.

    Only the name is the event's own. The platform has given that event up, so it is not redelivered as it once was; and
    the platform gets the outcome, since the sender no longer waits.
    """
    return inside._replace(redelivery=DEAD_LETTER.redelivery, reply_to=DEAD_LETTER.reply_to, is_payload=False)
