"""What tells readings apart that end in one series: rules, or a format, have taken labels that their producer wrote."""

import json
from collections.abc import Mapping
from typing import Any

from metric_forwarder.intake.series import as_text


def left_out(before: Any, after: Any) -> str:
    """Return what a point was before the rules, if it differs from others only by what they took; empty if they took nothing.

    ``before`` and ``after`` are decoded points. Rules leave an invalid one as it is, and None of one that they drop.
    """
    if after is None or after is before:
        return ""
    texts = {name: as_text(value) for name, value in before["dimensions"].items() if value != ""}
    namespace = before.get("namespace", after.get("namespace"))
    is_kept = (namespace, before["metricName"]) == (after.get("namespace"), after["metricName"])
    if is_kept and _holds(after["dimensions"], texts):
        return ""
    return json.dumps([namespace, before["metricName"], sorted(texts.items())])


def _holds(labels: Mapping[str, str], others: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in others.items())
