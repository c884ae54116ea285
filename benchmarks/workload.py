"""What is sent: the same events for everyone. Only the standard library is needed."""

import json
from typing import Any

NAMESPACE = "benchmark"
# The receiver's document shows this key as an example; the benchmarks' receiver checks nothing.
SECRET_ID = "AKDuXhrYW5ilcFO11bakwWxxxxxxxxxxxxx"
SECRET_KEY = "tsPHxrAB8fhffaGNmHZDjxxxxxxxxxx"
REGION = "gz"
HOSTS = 100
METRICS = 10
CONTEXT = {"request_id": "benchmark", "time_limit_in_ms": 120_000, "memory_limit_in_mb": 256}


def environ(url: str, **settings: str) -> dict[str, str]:
    """The settings of the forwarder: its defaults, but for ``settings``, whose names come without ``MF_``."""
    base = {
        "RECEIVER_URL": url,
        "SECRET_ID": SECRET_ID,
        "SECRET_KEY": SECRET_KEY,
        "REGION": REGION,
        "NAMESPACE": NAMESPACE,
    }
    return {f"MF_{name}": value for name, value in {**base, **settings}.items()}


def point(number: int) -> dict[str, Any]:
    """One of 1,000 series, as the receiver's document shows a point."""
    return {
        "metricName": f"diskusage_{number % METRICS}",
        "dimensions": {
            "diskname": "sda",
            "ip": f"172.31.{number // METRICS % HOSTS}.{number // METRICS % HOSTS + 100}",
        },
        "value": number % 997 / 7,
    }


def wide_point(number: int) -> dict[str, Any]:
    """A point of some 500 bytes: 10,000 of them fill an event's 6 MB."""
    wide = {f"label_{index}": f"{number % 1000:04}-{index}-" + "x" * 80 for index in range(5)}
    return {**point(number), "dimensions": wide}


def invalid_point(number: int) -> dict[str, Any]:
    """One of the mistakes that producers make; some make two at once."""
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


def event(points: int, turn: int, kind: str = "valid") -> dict[str, Any]:
    """A CKafka event with one point in each message, at offsets that no other turn has."""
    make = _POINTS[kind]
    return {
        "Records": [
            {
                "Ckafka": {
                    "topic": "metrics",
                    "partition": 0,
                    "offset": turn * 100_000 + index,
                    "msgKey": "None",
                    "msgBody": json.dumps(make(index)),
                }
            }
            for index in range(points)
        ]
    }
