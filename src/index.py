"""The entry point of the function: ``index.main_handler``."""

import gc
import sys
from pathlib import Path
from typing import Any

# Tencent's local runner loads this file by its path and leaves its folder out of the search path.
_FOLDER = str(Path(__file__).resolve().parent)
if _FOLDER not in sys.path:
    sys.path.insert(0, _FOLDER)

from metric_forwarder.bootstrap import Application  # noqa: E402 - only now it can be found

# Holds what a warm instance keeps; nothing is read or opened before the first invocation.
_APPLICATION = Application()
# Points live until their event is settled, so looking for cycles every 700 objects would take a sixteenth of the time. This
# number of objects is a few megabytes.
OBJECTS_BETWEEN_COLLECTIONS = 50_000


def main_handler(event: Any, context: Any) -> Any:
    """Deliver the points of a trigger event.

    Args:
        event: the trigger's event, a dict.
        context: what the platform says about the invocation, a dict; it holds secrets and is never logged.

    Returns:
        The report of the event, JSON-serialisable; for HTTP a reply that holds it.

    Raises:
        DeliveryIncomplete: points are undelivered, so the platform must redeliver the event.
        ConfigError: settings cannot work; all problems at once.
        UnknownTrigger: the event's kind is unknown.
        InstanceBusy: another event was handled for more than half of this one's time limit.
    """
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    return _APPLICATION.handle(event, context)
