"""The events, the same for every subject. It needs only the standard library, since peers run it in their own environment."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

NAMESPACE = "benchmark"
# The example key of the receiver's document; the benchmarks' receiver checks no signature.
SECRET_ID = "AKDuXhrYW5ilcFO11bakwWxxxxxxxxxxxxx"
SECRET_KEY = "tsPHxrAB8fhffaGNmHZDjxxxxxxxxxx"
REGION = "gz"
HTTP_TOKEN = "benchmark-of-small-events"
HOSTS = 100
METRICS = 10
CONTEXT = {"request_id": "benchmark", "time_limit_in_ms": 120_000, "memory_limit_in_mb": 256}


def environ(url: str, **settings: str) -> dict[str, str]:
    """Return the settings of the forwarder; ``settings`` has those that differ from the defaults, named without ``MF_``."""
    base = {
        "RECEIVER_URL": url,
        "SECRET_ID": SECRET_ID,
        "SECRET_KEY": SECRET_KEY,
        "REGION": REGION,
        "NAMESPACE": NAMESPACE,
    }
    return {f"MF_{name}": value for name, value in {**base, **settings}.items()}


def point(number: int) -> dict[str, Any]:
    """Make a point like that of the receiver's document, of one of 1,000 series."""
    return {
        "metricName": f"diskusage_{number % METRICS}",
        "dimensions": {
            "diskname": "sda",
            "ip": f"172.31.{number // METRICS % HOSTS}.{number // METRICS % HOSTS + 100}",
        },
        "value": number % 997 / 7,
    }


def wide_point(number: int) -> dict[str, Any]:
    """Make a point of some 500 bytes: 10,000 of them fill the 6 MB of an event."""
    wide = {f"label_{index}": f"{number % 1000:04}-{index}-" + "x" * 80 for index in range(5)}
    return {**point(number), "dimensions": wide}


def short_point(number: int) -> dict[str, Any]:
    """Make a point of some 50 bytes: eight of them in each of 10,000 messages fill the 6 MB of an event."""
    return {"metricName": f"m{number % 1000}", "dimensions": {"h": "a"}, "value": number % 997}


def invalid_point(number: int) -> dict[str, Any]:
    """Make a point with a mistake that producers make, or with two."""
    good = point(number)
    mistakes: tuple[dict[str, Any], ...] = (
        {**good, "value": str(good["value"])},
        {**good, "metricname": "diskusage"},
        {"metricName": good["metricName"], "value": 1},
        {**good, "dimensions": {"disk name": "sda", "ip": None}},
        {**good, "timestamp": "yesterday", "value": None},
    )
    return mistakes[number % len(mistakes)]


_POINTS = {"valid": point, "wide": wide_point, "invalid": invalid_point}
_GROUP = 100
_TEN = {f"label_{index}": f"value-{index}" for index in range(8)}


def _timed(write: Callable[[float], Any]) -> Callable[[int, float], dict[str, Any]]:
    # From a whole second on: so it does not depend on the moment which fractions of a second an instance has met before.
    return lambda number, now: {**point(number), "timestamp": write(int(now) + number % 60_000 / 1000)}


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


# The shapes in which producers write a point: its number and the current time → the point.
SHAPES: Mapping[str, Callable[[int, float], dict[str, Any]]] = {
    "no timestamp": lambda number, _now: point(number),
    "timestamp in seconds": _timed(int),
    "timestamp in ms": _timed(lambda seconds: int(seconds * 1000)),
    "timestamp as a float": _timed(lambda seconds: round(seconds, 3)),
    "RFC 3339": _timed(_rfc3339),
    "id": lambda number, now: {**point(number), "id": f"{now:.6f}-{number}"},
    "ten dimensions": lambda number, _now: (
        {**point(number), "dimensions": {**point(number)["dimensions"], **_TEN}}
    ),
    "50,000 series": lambda number, _now: (
        {**point(number), "dimensions": {"ip": f"172.31.{number % 50_000}", "diskname": "sda"}}
    ),
    "every point a new series": lambda number, now: (
        {**point(number), "dimensions": {"ip": f"{now:.6f}-{number}", "diskname": "sda"}}
    ),
}
# The shapes of a message that holds many points: points → the message.
_GROUPED: Mapping[str, Callable[[list[dict[str, Any]]], Any]] = {
    "envelope of 100": lambda points: {"namespace": NAMESPACE, "points": points},
    "list of 100": lambda points: points,
}
MESSAGE_SHAPES = (
    *(shape for shape in SHAPES if shape != "50,000 series"),
    "envelope of 100",
    "list of 100",
    "pretty-printed",
)


def bodies(points: int, kind: str, now: float) -> list[str]:
    """Return the texts of the messages of an event that has ``points`` points of a kind or shape."""
    if kind in _POINTS:
        return [json.dumps(_POINTS[kind](index)) for index in range(points)]
    if kind in SHAPES:
        return [json.dumps(SHAPES[kind](index, now)) for index in range(points)]
    if kind == "pretty-printed":
        return [json.dumps(point(index), indent=2) for index in range(points)]
    if kind == "short points, eight a message":
        return [
            json.dumps([short_point(index) for index in range(start, start + 8)], separators=(",", ":"))
            for start in range(0, points, 8)
        ]
    group = _GROUPED[kind]
    return [
        json.dumps(group([point(index) for index in range(start, min(start + _GROUP, points))]))
        for start in range(0, points, _GROUP)
    ]


def event(points: int, turn: int, kind: str = "valid") -> dict[str, Any]:
    """Make a CKafka event at offsets of this turn alone, with one point in each message unless the shape groups them.

    For the kind ``http``, make a request to a Function URL.
    """
    if kind == "http":
        return {
            "httpMethod": "POST",
            "path": "/",
            "headers": {"authorization": f"Bearer {HTTP_TOKEN}"},
            "body": bodies(points, "valid", time.time())[0],
        }
    return {
        "Records": [
            {
                "Ckafka": {
                    "topic": "metrics",
                    "partition": 0,
                    "offset": turn * 100_000 + index,
                    "msgKey": "None",
                    "msgBody": body,
                }
            }
            for index, body in enumerate(bodies(points, kind, time.time()))
        ]
    }
