"""Prometheus's protobuf exposition → samples: metric families, each behind its length, as Go's client pushes them.

Each family becomes the samples that its text would have. A place names the family and the metric in it, counted from 0.
Sources: prometheus/client_model, ``metrics.proto``; prometheus/common, ``expfmt``, ``text_create.go``.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from metric_forwarder.formats.names import MAX_LABELS, label_names, metric_name
from metric_forwarder.formats.protobuf import (
    BYTES,
    FIXED64,
    VARINT,
    BadProtobuf,
    double,
    fields,
    signed,
    varint,
    write_field,
    write_varint,
)
from metric_forwarder.formats.samples import (
    MAX_SAMPLES,
    FilteredSample,
    FormatHint,
    InvalidSample,
    Reading,
    Sample,
    WrongSample,
)
from metric_forwarder.times import NS_PER_MS

# The numbers of fields: of a family; of a metric; of its summary or histogram; and the two of anything smaller.
_NAME, _TYPE, _METRIC = 1, 3, 4
_LABEL, _GAUGE, _COUNTER, _SUMMARY, _UNTYPED, _TIME_MS, _HISTOGRAM = 1, 2, 3, 4, 5, 6, 7
_COUNT, _SUM, _PARTS, _FLOAT_COUNT, _SCHEMA = 1, 2, 3, 4, 5
_FIRST, _SECOND = 1, 2
# That of an exemplar, in a counter and in a bucket.
_OF_COUNTER, _OF_BUCKET = 2, 3
# The field of a metric that holds its value, by the type of its family.
_HOLDS = {0: _COUNTER, 1: _GAUGE, 2: _SUMMARY, 3: _UNTYPED, 4: _HISTOGRAM, 5: _HISTOGRAM}
# Bytes of a name that is repeated with each bad metric.
_LONGEST_SHARED = 4_096
_INFINITE = float("inf")
# Between these exponents Go writes a number without one.
_SMALLEST, _LARGEST = -4, 5

_EXEMPLAR = "is an exemplar, which no destination accepts"
_NATIVE = "is a native histogram, which is not written yet: send classic buckets"
_NO_FAMILY = "has a family without a name, or of an unknown type: correct its sender"
_NO_VALUE = "has no value of its family's type: correct its sender"


def decode(body: Any, hint: FormatHint) -> Iterator[Reading]:
    """Read the samples of an exposition; see ``Decoder``."""
    if not isinstance(body, bytes):
        message = "is text: this format is binary, which this trigger cannot pass on; send Prometheus text"
        yield InvalidSample("", "type", message, body)
        return
    number = position = 0
    try:
        while position < len(body):
            size, begin = varint(body, position, len(body))
            if size > len(body) - begin:
                raise BadProtobuf("ends within a metric family")  # noqa: TRY301
            if number >= MAX_SAMPLES:
                raise BadProtobuf(f"holds more than {MAX_SAMPLES} families")  # noqa: TRY301
            yield from _read_family(f"family {number}", body[begin : begin + size], hint.labels)
            position = begin + size
            number += 1
    except BadProtobuf as bad:
        message = (
            f"is not a protobuf of metric families, each behind its length (it {bad}): correct its sender"
        )
        yield InvalidSample(f"family {number}", "protobuf", message, body[position:])


class _Family(NamedTuple):
    """What the metrics of a family share.

    Attributes:
        labels: those of the request.
        written: the name as it came.
        apart: as in ``Sample``.
    """

    name: str
    kind: int
    labels: Mapping[str, str]
    written: bytes
    apart: str

    def with_metric(self, metric: bytes) -> bytes | None:
        """A family with one metric, behind its length, so that a replay can read it; None if the name is too long to repeat."""
        if len(self.written) > _LONGEST_SHARED:
            return None
        kind = bytes([_TYPE << 3 | VARINT]) + write_varint(self.kind)
        content = write_field(_NAME, self.written) + kind + write_field(_METRIC, metric)
        return write_varint(len(content)) + content


def _read_family(where: str, data: bytes, labels: Mapping[str, str]) -> Iterator[Reading]:
    name, kind = b"", 0
    metrics: list[tuple[int, int]] = []
    for field, wire, begin, end in fields(data, 0, len(data)):
        if field == _NAME and wire == BYTES:
            name = data[begin:end]
        elif field == _TYPE and wire == VARINT:
            kind = begin
        elif field == _METRIC and wire == BYTES:
            metrics.append((begin, end))
            if len(metrics) > MAX_SAMPLES:
                # Each is a sample at least, so the others are not read.
                break
    metric, apart = metric_name(name.decode("utf-8", "replace"))
    family = _Family(metric, kind, labels, name, apart)
    for number, (begin, end) in enumerate(metrics):
        yield from _read_metric(f"{where} metric {number}", data[begin:end], family)


def _read_metric(where: str, data: bytes, family: _Family) -> Iterator[Reading]:
    """Read a metric; if anything of it is wrong, nothing of it is sent."""
    try:
        metric = _Metric(data, family)
    except WrongSample as wrong:
        yield InvalidSample(where, wrong.rule, str(wrong), family.with_metric(data))
    except (BadProtobuf, UnicodeDecodeError) as bad:
        told = "holds a label that is not UTF-8" if isinstance(bad, UnicodeDecodeError) else str(bad)
        yield InvalidSample(where, "protobuf", f"{told}: correct its sender", family.with_metric(data))
    else:
        yield from metric.samples(where)


class _Metric:
    """One metric of a family.

    Raises:
        WrongSample, BadProtobuf, UnicodeDecodeError: something of it cannot be read.
    """

    def __init__(self, data: bytes, family: _Family) -> None:
        holds = _HOLDS.get(family.kind)
        if holds is None or not family.name:
            raise WrongSample("name", _NO_FAMILY)
        self._name = family.name
        self._holds = holds
        self._time_ns: int | None = None
        pairs: list[tuple[str, str]] = []
        value: bytes | None = None
        for field, wire, begin, end in fields(data, 0, len(data)):
            if field == _LABEL and wire == BYTES:
                if len(pairs) == MAX_LABELS:
                    raise WrongSample("size", f"has more than {MAX_LABELS} labels: leave some out")
                pairs.append(_label(data, begin, end))
            elif field == _TIME_MS and wire == VARINT:
                self._time_ns = signed(begin) * NS_PER_MS
            elif field == holds and wire == BYTES:
                value = data[begin:end]
        if len(dict(pairs)) != len(pairs):
            raise WrongSample("duplicate-label", "names a label twice: keep one")
        if value is None:
            raise WrongSample("value", _NO_VALUE)
        labels, apart = label_names(pairs)
        self._labels = {**labels, **family.labels}
        self._apart = family.apart + apart
        self._numbers = _numbers(value, 0, len(value))
        # A quantile and its value, or a bound and the count below it.
        self._parts: list[tuple[float, float]] = []
        self._exemplars = 0
        if holds in (_SUMMARY, _HISTOGRAM):
            self._read_parts(value)
        elif holds == _COUNTER:
            self._exemplars = _count(value, 0, len(value), _OF_COUNTER)

    def _read_parts(self, data: bytes) -> None:
        is_histogram = self._holds == _HISTOGRAM
        for field, wire, begin, end in fields(data, 0, len(data)):
            if (field, wire) != (_PARTS, BYTES):
                continue
            if len(self._parts) == MAX_SAMPLES:
                raise WrongSample("size", f"has more than {MAX_SAMPLES} buckets or quantiles: leave some out")
            numbers = _numbers(data, begin, end)
            first, second = numbers.get(_FIRST, 0.0), numbers.get(_SECOND, 0.0)
            if is_histogram:
                self._parts.append((second, numbers.get(_FLOAT_COUNT, 0.0) or first))
                self._exemplars += _count(data, begin, end, _OF_BUCKET)
            else:
                self._parts.append((first, second))
        if is_histogram and not self._parts and _SCHEMA in self._numbers:
            raise WrongSample("native-histogram", _NATIVE)

    def samples(self, where: str) -> Iterator[Reading]:
        """What it becomes, in the order of the text."""
        if self._holds not in (_SUMMARY, _HISTOGRAM):
            yield self._sample(where, "", self._numbers.get(_FIRST, 0.0))
        else:
            yield from self._samples_of_parts(where)
        for number in range(self._exemplars):
            yield FilteredSample(f"{where} exemplar {number}", "exemplar", _EXEMPLAR)

    def _samples_of_parts(self, where: str) -> Iterator[Sample]:
        is_histogram = self._holds == _HISTOGRAM
        suffix, label, part = ("_bucket", "le", "bucket") if is_histogram else ("", "quantile", "quantile")
        count = self._numbers.get(_FLOAT_COUNT, 0.0) or self._numbers.get(_COUNT, 0)
        parts = self._parts
        if is_histogram and (not parts or parts[-1][0] != _INFINITE):
            parts = [*parts, (_INFINITE, count)]
        for number, (bound, value) in enumerate(parts):
            yield self._sample(f"{where} {part} {number}", suffix, value, {label: go_number(bound)})
        yield self._sample(f"{where} sum", "_sum", self._numbers.get(_SUM, 0.0))
        yield self._sample(f"{where} count", "_count", count)

    def _sample(self, where: str, suffix: str, value: float, own: Mapping[str, str] = {}) -> Sample:
        labels = {**self._labels, **own} if own else self._labels
        return Sample(where, self._name + suffix, labels, value, self._time_ns, apart=self._apart)


def _label(data: bytes, begin: int, end: int) -> tuple[str, str]:
    texts = {
        field: data[first:last].decode()
        for field, wire, first, last in fields(data, begin, end)
        if wire == BYTES and field in (_FIRST, _SECOND)
    }
    return texts.get(_FIRST, ""), texts.get(_SECOND, "")


def _numbers(data: bytes, begin: int, end: int) -> dict[int, float]:
    """The numbers of a message by their fields."""
    found: dict[int, float] = {}
    for field, wire, value, last in fields(data, begin, end):
        if wire == FIXED64:
            found[field] = double(data, last)
        elif wire == VARINT:
            found[field] = value
    return found


def _count(data: bytes, begin: int, end: int, wanted: int) -> int:
    return sum(field == wanted and wire == BYTES for field, wire, _, _ in fields(data, begin, end))


def go_number(value: float) -> str:
    """A number as Go writes it in the text: ``0.005``, ``10``, ``1e+06``, ``+Inf``."""
    if value != value:  # noqa: PLR0124 - true only for NaN
        return "NaN"
    if value in (_INFINITE, -_INFINITE):
        return "+Inf" if value > 0 else "-Inf"
    number = Decimal(repr(value)).normalize()
    sign, digits, _ = number.as_tuple()
    exponent = number.adjusted()
    if _SMALLEST <= exponent <= _LARGEST or not number:
        return format(number, "f")
    mantissa = "".join(map(str, digits))
    mantissa = mantissa[0] + ("." + mantissa[1:] if len(digits) > 1 else "")
    return f"{'-' if sign else ''}{mantissa}e{exponent:+03d}"
