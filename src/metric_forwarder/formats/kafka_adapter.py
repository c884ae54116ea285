"""The JSON of prometheus-kafka-adapter → samples.

One is ``{"timestamp": "1970-01-01T00:00:00Z", "value": "12", "name": "up", "labels": {"__name__": "up", …}}``. The value is text, so that it can be ``NaN`` or ``+Inf``. An older form has ``__timestamp`` and ``__value``. Source:
prometheus-kafka-adapter, its README and issues.
"""

from collections.abc import Iterator
from typing import Any

from metric_forwarder.formats.json_text import NotJson
from metric_forwarder.formats.json_values import not_json, read_number, read_values
from metric_forwarder.formats.names import MAX_LABELS, label_names, metric_name
from metric_forwarder.formats.samples import FormatHint, InvalidSample, Reading, Sample, WrongSample
from metric_forwarder.formats.telegraf_json import time_of

_SHAPE = 'a sample of prometheus-kafka-adapter is {"timestamp":"…","value":"…","name":"…","labels":{…}}'


def decode(body: Any, hint: FormatHint) -> Iterator[Reading]:
    """Read one sample from each JSON value, or each member of a list; see ``Decoder``."""
    del hint
    for value in read_values(body):
        if isinstance(value, InvalidSample):
            yield value
        elif isinstance(value.decoded, list):
            for index, sample in enumerate(value.decoded):
                yield _read(f"{value.prefix}/{index}", sample)
        else:
            yield _read(value.prefix, value.decoded)


def _read(where: str, sample: Any) -> Reading:
    if isinstance(sample, NotJson):
        return not_json(where, sample)
    if not isinstance(sample, dict):
        return InvalidSample(where, "type", f"is not a sample: {_SHAPE}", sample)
    labels = sample.get("labels")
    if isinstance(labels, NotJson):
        return not_json(f"{where}/labels", labels, sample)
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        return InvalidSample(
            f"{where}/labels", "type", "is not an object of names and texts: correct it", sample
        )
    if len(labels) > MAX_LABELS:
        return InvalidSample(
            f"{where}/labels", "size", f"has more than {MAX_LABELS} labels: leave some out", sample
        )
    name = labels.get("__name__", sample.get("name"))
    if not isinstance(name, str) or not name:
        return InvalidSample(f"{where}/name", "name", f"is not a metric's name: {_SHAPE}", sample)
    value_at, value = _first(sample, "value", "__value")
    try:
        number = read_number(value)
    except WrongSample as wrong:
        return InvalidSample(f"{where}/{value_at}", wrong.rule, str(wrong), sample)
    time_at, time = _first(sample, "timestamp", "__timestamp")
    time_ns = None if time is None else time_of(time)
    if time_ns is None and time is not None:
        return InvalidSample(
            f"{where}/{time_at}",
            "timestamp",
            "is not a time: it must be RFC 3339, or a Unix time of 10, 13, 16 or 19 digits",
            sample,
        )
    metric, apart = metric_name(name)
    dimensions, of_labels = label_names(label for label in labels.items() if label[0] != "__name__")
    return Sample(where, metric, dimensions, number, time_ns, apart=apart + of_labels)


def _first(sample: dict[str, Any], name: str, older: str) -> tuple[str, Any]:
    return (older, sample[older]) if older in sample and name not in sample else (name, sample.get(name))
