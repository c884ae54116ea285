"""Samples of other formats follow the rules of points; this module has the differences."""

from collections.abc import Sequence
from typing import Any

from metric_forwarder.delivery.destination import Destination
from metric_forwarder.formats.json_text import Violation
from metric_forwarder.formats.samples import FilteredSample, InvalidSample, Sample, is_stale_marker
from metric_forwarder.intake.schema import is_finite
from metric_forwarder.times import MAX_NS, MIN_NS


def why_not_carried(sample: Sample, destination: Destination) -> InvalidSample | FilteredSample | None:
    """Return why the destination cannot carry a sample, which no schema can check; None if it can."""
    where, value, time_ns = sample.where, sample.value, sample.time_ns
    if type(value) is float and not is_finite(value) and not destination.carries_non_finite:
        if is_stale_marker(value):
            return FilteredSample(where, "stale-marker", _SERIES_ENDED)
        text = f"is {value}, which this destination cannot carry: leave it out at its producer"
        return InvalidSample(where, "not-finite", text, sample)
    if sample.is_delta and destination.carries_timestamps:
        return InvalidSample(where, "delta", _DELTA, sample)
    if time_ns is not None and not MIN_NS <= time_ns <= MAX_NS:
        text = "has a time outside the years 1 to 9999: correct its unit"
        return InvalidSample(where, "timestamp", text, sample)
    return None


def located_in_sample(sample: Sample, path: Sequence[Any], violation: Violation) -> Violation:
    """What is wrong with a sample, in its own terms: it has a name and labels, no members."""
    part, message = _part_of_sample(path), violation.message
    # What is wrong with a label's name begins with it.
    is_named = len(path) == 2 and message.startswith(f'"{path[1]}" ')  # noqa: PLR2004 - a member and a label
    return violation._replace(
        pointer=sample.where, message=f"its label {message}" if is_named else part + message
    )


def _part_of_sample(path: Sequence[Any]) -> str:
    match path:
        case ("metricName",):
            return "its name "
        case ("dimensions",):
            return "its set of labels "
        case ("dimensions", label):
            return f'its label "{str(label)[:60]}" '
        case _:
            return ""


_SERIES_ENDED = "is Prometheus's marker for the end of a series, which this destination does not have"
_DELTA = (
    "is a sum since the producer's last report, but the destination needs sums since its start: report cumulative sums, "
    "in OpenTelemetry with OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative"
)
