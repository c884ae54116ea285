"""Explains why a message has its format, and which rule drops a point; docs/formats.md has the rules."""

from bisect import bisect_left
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from metric_forwarder.formats import Format
from metric_forwarder.intake.relabel import Relabeller, read_rules
from metric_forwarder.model import Message
from metric_forwarder.settings.settings import Settings

_BY_SHAPE: Mapping[Format, str] = {
    Format.JSON: "JSON that no other format claims",
    Format.INFLUX: "a line of it is name[,tag=value] field=value[,…] [time]",
    Format.TELEGRAF_JSON: 'it has "name" and "fields", or "metrics" with these',
    Format.PROMETHEUS_TEXT: "a line of it is name{…} value [time], or begins with # HELP, # TYPE or # EOF",
    Format.PROMETHEUS_PROTOBUF: "",
    Format.OTLP_JSON: 'it has "resourceMetrics"',
    Format.OTLP_PROTOBUF: "",
    Format.KAFKA_ADAPTER: 'it has "value", and "labels" with "__name__"',
    Format.REMOTE_WRITE: "",
    Format.MAPPING: "JSON of no known format, which MF_MAPPING reads",
}


def reason_for(found: Format, message: Message, settings: Settings) -> str:
    """Say why a message was taken for a format.

    Args:
        found: the format.
        message: what was read.
        settings: those in force.
    """
    if message.already_validated:
        return "the spool keeps points in this format"
    if message.format is not None:
        return "the path of the request says so"
    if settings.format is not None and settings.format.find(message.source) is not None:
        return "MF_FORMAT says so"
    if message.hint.content_type and found in (
        Format.PROMETHEUS_TEXT,
        Format.PROMETHEUS_PROTOBUF,
        Format.INFLUX,
    ):
        return "its Content-Type or its lines say so"
    return _BY_SHAPE[found]


def dropping_rule(raw: Any, settings: Settings) -> str:
    """Name the rule of MF_RELABEL, counted from 1, that drops a point."""
    rules = _first_rules(settings.relabel, tuple(settings.labels))
    # A point that the first n rules drop is also dropped by more rules.
    number = bisect_left(
        range(len(rules)), x=True, key=lambda count: rules[count].relabel(raw, settings.namespace)[0] is None
    )
    action = read_rules(settings.relabel)[number - 1].get("action", "replace")
    return f"is dropped by rule {number} of MF_RELABEL ({action})"


@lru_cache(maxsize=1)
def _first_rules(relabel: str, labels: tuple[tuple[str, str], ...]) -> list[Relabeller]:
    """Relabellers with none of the rules, with the first one, with the first two and so on."""
    rules = read_rules(relabel)
    return [Relabeller(rules[:count], dict(labels)) for count in range(len(rules) + 1)]
