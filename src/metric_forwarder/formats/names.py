"""Names that every destination accepts, those of Prometheus: ``[a-zA-Z_][a-zA-Z0-9_]*``.

Producers of other formats use any character in a name. A character that is not allowed becomes ``_``, as in Prometheus,
so that one name works for both destinations. Several names may become one: what the producer wrote goes into ``Sample.apart``,
so that equal values of two metrics are not taken for one reading.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from metric_forwarder.model import is_label_name

_is_metric = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII).fullmatch
_not_metric = re.compile(r"[^a-zA-Z0-9_:]", re.ASCII).sub
_replace = re.compile(r"[^a-zA-Z0-9_]", re.ASCII).sub

# Longer names are not cached, so that the cache is bounded in bytes.
LONGEST_KEPT = 200
# Of one sample: three times as many as any destination accepts.
MAX_LABELS = 100


def prometheus_name(text: str) -> str:
    """The name of a metric or label; ``_`` is put before a leading digit."""
    return text if is_label_name(text) else _replaced(text)


def apart_of(*written: Any) -> str:
    """A digest of what a producer wrote, for ``Sample.apart``."""
    return hashlib.blake2b(json.dumps(written).encode(), digest_size=16).hexdigest()


def metric_name(text: str) -> tuple[str, str]:
    """The name of a metric from Prometheus, where a colon is usual, and its ``Sample.apart``."""
    if _is_metric(text):
        return text, ""
    name = _not_metric("_", text)
    return f"_{name}" if name[:1].isdigit() else name, apart_of(text)


def _replaced(text: str) -> str:
    name = _replace("_", text)
    return f"_{name}" if name[:1].isdigit() else name


def joined_name(measurement: str, field: str) -> tuple[str, str]:
    """The metric of a field, as Telegraf and VictoriaMetrics name it for Prometheus, and its ``Sample.apart``."""
    if len(measurement) + len(field) > LONGEST_KEPT:
        return _joined_name.__wrapped__(measurement, field)
    return _joined_name(measurement, field)


@lru_cache(maxsize=1024)
def _joined_name(measurement: str, field: str) -> tuple[str, str]:
    joined = f"{measurement}_{field}"
    if field == "value":
        name = prometheus_name(measurement)
    else:
        name = prometheus_name(field if measurement == "prometheus" else joined)
    # Of two pairs that become one name unchanged, the longer measurement has an underscore.
    return name, "" if name == joined and "_" not in measurement else apart_of(measurement, field)


def label_names(pairs: Iterable[tuple[str, str]]) -> tuple[dict[str, str], str]:
    """Labels with allowed names, and their ``Sample.apart``.

    If several names become the same, their values are joined with ``;`` in the order of names. A label with an empty value
    means the same as no label, so it is left out.
    """
    labels: dict[str, str] = {}
    misfits: list[tuple[str, str]] = []
    for name, value in pairs:
        if not value:
            continue
        if is_label_name(name):
            labels[name] = value
        else:
            misfits.append((name, value))
    if not misfits:
        return labels, ""
    written = sorted([*labels.items(), *misfits])
    values: dict[str, list[str]] = {}
    for name, value in written:
        values.setdefault(_replaced(name), []).append(value)
    return {name: ";".join(found) for name, found in values.items()}, apart_of(written)
