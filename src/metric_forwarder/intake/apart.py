"""What tells readings apart that end in one series, since rules have changed what their producer wrote."""

import json
from typing import Any

from metric_forwarder.intake.series import as_text


def as_written(before: Any, after: Any) -> str:
    """Return what a point was before the rules; empty if they changed nothing.

    ``before`` and ``after`` are decoded points. Rules leave an invalid one as it is, and None of one that they drop.
    """
    if after is None or after is before:
        return ""
    texts = {name: as_text(value) for name, value in before["dimensions"].items() if value != ""}
    namespace = before.get("namespace", after.get("namespace"))
    was, is_now = (
        (namespace, before["metricName"], texts),
        (after.get("namespace"), after["metricName"], after["dimensions"]),
    )
    return "" if was == is_now else json.dumps([namespace, before["metricName"], sorted(texts.items())])
