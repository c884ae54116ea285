"""The entry point of the function: ``index.main_handler``."""

from typing import Any

from metric_forwarder.bootstrap import Application

# Only a place for what a warm instance keeps: nothing is read or opened before the first invocation.
_APPLICATION = Application()


def main_handler(event: Any, context: Any) -> Any:
    """Deliver the points of a trigger event.

    Args:
        event: what the trigger hands over, a dict.
        context: what the platform says about the invocation, a dict; it holds secrets and is never logged.

    Returns:
        The report of the event, JSON-serialisable.

    Raises:
        DeliveryIncomplete: points are left that the platform must redeliver.
        ConfigError: settings cannot work; all problems at once.
        UnknownTrigger: the event is of no known kind.
    """
    return _APPLICATION.handle(event, context)
