"""Report → what the handler returns or raises, per trigger.

The platform calls any returned value a success and redelivers only after a raise; bad data never raises, since it would
come back for ever.
"""

from metric_forwarder.errors import DeliveryIncomplete
from metric_forwarder.model import Outcome
from metric_forwarder.report import Report

# Nobody redelivers these: whoever invoked reads the report.
_ANSWERED = frozenset({"direct"})


def reply(report: Report) -> Report:
    """Return the report.

    Raises:
        DeliveryIncomplete: points are undelivered and the trigger is one that the platform redelivers.
    """
    if report["outcomes"][Outcome.UNDELIVERED.value] and report["trigger"] not in _ANSWERED:
        raise DeliveryIncomplete(report)
    return report
