"""What the platform says of an invocation."""

from collections.abc import Mapping
from typing import Any

# The platform's longest time limit.
_LONGEST_S = 900
# Assumed where the platform gives no time limit.
_UNKNOWN_TIME_LIMIT_MS = 60_000


def time_limit_s(context: Mapping[str, Any]) -> float:
    """Seconds the platform gives this invocation.

    ``time_limit_in_ms`` may be a text; Tencent's local runner puts seconds there, which their size shows:
    the platform's limits are 1 s to 900 s.
    """
    try:
        limit = float(context.get("time_limit_in_ms", _UNKNOWN_TIME_LIMIT_MS))
    except (TypeError, ValueError):
        limit = _UNKNOWN_TIME_LIMIT_MS
    if not 0 < limit < float("inf"):
        limit = _UNKNOWN_TIME_LIMIT_MS
    return limit if limit <= _LONGEST_S else limit / 1000


def function_name(context: Mapping[str, Any]) -> str:
    """Namespace and name: what all instances and versions of the function have in common."""
    return f"{context.get('namespace', '')}/{context.get('function_name', '')}"
