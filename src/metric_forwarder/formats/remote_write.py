"""Prometheus remote write 1.0 → samples: a snappy block that holds a protobuf ``WriteRequest``.

Source: the remote write 1.0 specification and its ``remote.proto``::

    WriteRequest { repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3; }
    TimeSeries   { repeated Label labels = 1; repeated Sample samples = 2; repeated Exemplar exemplars = 3;
                   repeated Histogram histograms = 4; }
    Label        { string name = 1; string value = 2; }
    Sample       { double value = 1; int64 timestamp = 2; }
"""

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any

from metric_forwarder.formats.names import MAX_LABELS, label_names, metric_name, prometheus_name
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
)
from metric_forwarder.formats.samples import (
    MAX_SAMPLES,
    FilteredSample,
    FormatHint,
    InvalidSample,
    Reading,
    make_sample,
)
from metric_forwarder.formats.snappy import BadSnappy, decompress, store
from metric_forwarder.times import NS_PER_MS

_read_double = struct.Struct("<d").unpack_from
_SERIES, _METADATA = 1, 3
# The second one is that of Cortex, for the kind of its sender.
_KNOWN_FIELDS = frozenset({_SERIES, 2, _METADATA})
_LABELS, _SAMPLES, _EXEMPLARS, _HISTOGRAMS = 1, 2, 3, 4
_FIRST, _SECOND = 1, 2
# The same with their wire types, for a length of one byte.
_LABEL, _SAMPLE, _DOUBLE, _TIME = 0x0A, 0x12, 0x09, 0x10
_SHORT = 2 + 0x7F
_VALUE_AND_TAG = 10
# Two fields without content; a byte of 0x80 or more is followed by more bytes of its number.
_TWO_HEADS, _SEVERAL = 4, 0x80
# Bytes of labels that are repeated with each bad sample, so that a replay can read it.
_LONGEST_SHARED = 4_096
_FORMAT = "remote-write"
_NATIVE = "is a native histogram, which is not written yet: send classic buckets"
# Limits of a request: labels; series and metadata together; fields that are long or unknown.
_MAX_LABELS = 1_500_000
_MAX_FIELDS = 200_000
_MAX_OTHERS = 300_000
# Bytes of bad series and samples that are kept; for the others only the error is reported.
_MAX_KEPT = 2**24
_LARGE = 65_536
# Labels that are cached, since they repeat.
_MAX_KNOWN = 50_000
# A series with more labels is not read to its end.
_TOO_MANY_LABELS = 1_000


def decode(body: Any, hint: FormatHint) -> Iterator[Reading]:
    """Read the samples of a request; see ``Decoder``."""
    if not isinstance(body, bytes):
        message = "is text: remote write is binary, which this trigger cannot pass on"
        return iter((InvalidSample("", "type", message, body),))
    # vmagent compresses with zstd instead of snappy, and Fluent Bit can use gzip; the HTTP trigger has decompressed both.
    is_plain = bool(hint.content_encoding)
    try:
        data = body if is_plain else decompress(body)
    except BadSnappy as bad:
        if not _is_request(body):
            return iter((InvalidSample("", "snappy", str(bad), body),))
        data, is_plain = body, True
    return _Request(data, is_plain=is_plain).read()


def _is_request(data: bytes) -> bool:
    """Whether bytes are a ``WriteRequest`` that is not compressed: Fluent Bit can send it so. A text is never one."""
    try:
        numbers = {field for field, _, _, _ in islice(fields(data, 0, len(data)), _MAX_FIELDS)}
    except BadProtobuf:
        return False
    return bool(numbers) and numbers <= _KNOWN_FIELDS


# A label's name and value.
_Label = tuple[str, str]
# In place of a label that cannot be read: a series with an empty name is invalid, and so is one with two.
_NOT_UTF8: _Label = ("__name__", "")


class _Request:
    """A request being read; it caches labels and times, most of which repeat in each series."""

    def __init__(self, data: bytes, *, is_plain: bool) -> None:
        self._data = data
        self._is_plain = is_plain
        self._labels: dict[bytes, _Label] = {}
        # Whether a metric or a label needs another name, or a label is empty, which is rare.
        self._has_unusual = False
        self._labels_left = _MAX_LABELS
        self._others_left = _MAX_OTHERS
        self._kept_left = _MAX_KEPT
        self._times: dict[bytes, int] = {}

    def read(self) -> Iterator[Reading]:
        number = position = 0
        holds_any = not self._data
        try:
            for count, (field, kind, begin, end) in enumerate(fields(self._data, 0, len(self._data))):
                if count >= _MAX_FIELDS or self._labels_left < 0:
                    yield InvalidSample(f"series {number}", "size", _TOO_MUCH, None)
                    return
                # Metadata is the type and the help of a metric, not a value.
                holds_any = holds_any or field in (_SERIES, _METADATA)
                if field == _SERIES and kind == BYTES:
                    yield from self._read_series(f"series {number}", begin, end)
                    number += 1
                position = end
        except BadProtobuf as bad:
            message = f"is not a protobuf of remote write (it {bad}): correct its sender"
            yield self._invalid(f"series {number}", "protobuf", message, self._data[position:])
            return
        if not holds_any:
            yield self._invalid("", "protobuf", _NO_SERIES, self._data)

    def _invalid(self, where: str, rule: str, message: str, kept: bytes) -> InvalidSample:
        """What is wrong with a part of a request, kept as a request of its own."""
        self._kept_left -= len(kept)
        if self._kept_left < 0:
            return InvalidSample(where, rule, message, None)
        return InvalidSample(where, rule, message, kept if self._is_plain else store(kept), _FORMAT)

    def _read_series(self, where: str, begin: int, end: int) -> Iterator[Reading]:
        """Read a series; an error in its labels makes each of its samples invalid."""
        labels: list[_Label] = []
        samples: list[tuple[float, int]] = []
        others: list[Reading] = []
        data, position, known = self._data, begin, self._labels
        # Shorter series cannot hold so many labels or samples.
        is_large = end - begin > _LARGE
        try:
            while position < end:
                if is_large and (len(labels) > _TOO_MANY_LABELS or len(samples) + len(others) > MAX_SAMPLES):
                    break
                # Labels and samples of the usual length are read here, since there is one for every few bytes.
                last = position + 2 + (data[position + 1] if position + 1 < end else 0)
                tag = data[position] if last <= end and last - position <= _SHORT else 0
                if tag == _LABEL:
                    label = known.get(data[position + 2 : last])
                    labels.append(label or self._label(position + 2, last))
                    position = last
                elif tag == _SAMPLE:
                    samples.append(self._sample(position + 2, last))
                    position = last
                else:
                    position = self._read_other(where, position, end, labels, samples, others)
        except BadProtobuf as bad:
            yield self._invalid(where, "protobuf", f"{bad}: correct its sender", _in_request(data[begin:end]))
            return
        self._labels_left -= len(labels)
        if len(labels) > _TOO_MANY_LABELS:
            yield InvalidSample(where, "size", f"has more than {MAX_LABELS} labels: leave some out", None)
            return
        named = self._named(labels)
        if isinstance(named, str):
            rule, message = _why_not(named, labels)
            for index, kept in enumerate(self._alone((begin, position), _SAMPLES)):
                yield self._invalid(f"{where} sample {index}", rule, message, kept)
        else:
            metric, dimensions, apart = named
            for index, (value, time_ms) in enumerate(samples):
                place = f"{where} sample {index}"
                yield make_sample((place, metric, dimensions, value, time_ms * NS_PER_MS, False, "", apart))
        if others:
            yield from self._with_kept(others, (begin, position))

    def _with_kept(self, others: list[Reading], span: tuple[int, int]) -> Iterator[Reading]:
        """Exemplars as they are, and histograms with their dead letter, which needs all labels."""
        histograms = self._alone(span, _HISTOGRAMS)
        for other in others:
            is_histogram = isinstance(other, InvalidSample)
            yield (
                self._invalid(other.where, "native-histogram", _NATIVE, next(histograms))
                if is_histogram
                else other
            )

    def _named(self, pairs: list[_Label]) -> tuple[str, dict[str, str], str] | str:
        """The metric, the other labels and ``Sample.apart``; if the labels are wrong, only the metric, which may be empty."""
        labels = dict(pairs)
        metric = labels.pop("__name__", "")
        if not metric or len(labels) + 1 != len(pairs) or len(labels) > MAX_LABELS:
            return metric
        if not self._has_unusual:
            return metric, labels, ""
        name, apart = metric_name(metric)
        dimensions, of_labels = label_names(labels.items())
        return name, dimensions, apart + of_labels

    def _alone(self, span: tuple[int, int], wanted: int) -> Iterator[bytes]:
        """A request for each sample, or histogram, of a series, with the labels of the series if they are short."""
        labels, found, position = b"", [], span[0]
        for field, kind, _, last in fields(self._data, *span):
            if kind == BYTES and field == _LABELS and len(labels) <= _LONGEST_SHARED:
                labels += self._data[position:last]
            elif kind == BYTES and field == wanted:
                found.append((position, last))
            position = last
        shared = labels if len(labels) <= _LONGEST_SHARED else b""
        for begin, end in found:
            yield _in_request(shared + self._data[begin:end])

    def _read_other(
        self,
        where: str,
        begin: int,
        end: int,
        labels: list[_Label],
        samples: list[tuple[float, int]],
        others: list[Reading],
    ) -> int:
        """Read a field that is long, or is neither a label nor a sample; return where it ends."""
        self._spend(1)
        field, kind, first, last = next(fields(self._data, begin, end))
        if kind == BYTES and field == _LABELS:
            labels.append(self._label(first, last))
        elif kind == BYTES and field == _SAMPLES:
            samples.append(self._sample(first, last))
        elif kind == BYTES and field == _EXEMPLARS:
            place = f"{where} exemplar {len(others)}"
            others.append(FilteredSample(place, "exemplar", "is an exemplar, which no destination accepts"))
        elif kind == BYTES and field == _HISTOGRAMS:
            others.append(
                InvalidSample(f"{where} histogram {len(others)}", "native-histogram", _NATIVE, None)
            )
        return last

    def _spend(self, others: int) -> None:
        """Count fields that take long to read, and are few in a usual request."""
        self._others_left -= others
        if self._others_left < 0:
            raise BadProtobuf("and those before it hold too many unknown or long fields")

    def _label(self, begin: int, end: int) -> _Label:
        written = self._data[begin:end]
        label = self._labels.get(written)
        if label is None:
            try:
                label = name, value = self._split_label(written)
            except UnicodeDecodeError:
                return _NOT_UTF8
            is_renamed = name == "__name__" and metric_name(value)[0] != value
            if is_renamed or not value or prometheus_name(name) != name:
                self._has_unusual = True
            if len(self._labels) < _MAX_KNOWN:
                self._labels[written] = label
        return label

    def _split_label(self, written: bytes) -> _Label:
        size = len(written)
        # The usual form: the name, then the value, each of less than 128 bytes.
        if size > _TWO_HEADS and written[0] == _LABEL and written[1] < _SEVERAL:
            end = 2 + written[1]
            if end + 1 < size and written[end] == _SAMPLE and written[end + 1] == size - end - 2 < _SEVERAL:
                return written[2:end].decode(), written[end + 2 :].decode()
        name = value = ""
        for count, (field, kind, first, last) in enumerate(fields(written, 0, size)):
            if count > 1:
                self._spend(1)
            if kind == BYTES and field == _FIRST:
                name = written[first:last].decode()
            elif kind == BYTES and field == _SECOND:
                value = written[first:last].decode()
        return name, value

    def _sample(self, begin: int, end: int) -> tuple[float, int]:
        data = self._data
        if end - begin > _VALUE_AND_TAG and data[begin] == _DOUBLE and data[begin + 9] == _TIME:
            written = data[begin + _VALUE_AND_TAG : end]
            known = self._times.get(written)
            if known is not None:
                return _read_double(data, begin + 1)[0], known
            number, last = varint(data, begin + _VALUE_AND_TAG, end)
            if last == end:
                self._times[written] = signed(number)
                return _read_double(data, begin + 1)[0], signed(number)
        value, time_ms = 0.0, 0
        for count, (field, kind, number, last) in enumerate(fields(data, begin, end)):
            if count > 1:
                self._spend(1)
            if field == _FIRST and kind == FIXED64:
                value = double(data, last)
            elif field == _SECOND and kind == VARINT:
                time_ms = signed(number)
        return value, time_ms


_NO_SERIES = (
    "holds no series of remote write 1.0, as if it were version 2.0 or something else: let its sender use "
    "prometheus.WriteRequest"
)
_TOO_MUCH = "and all after it are more than one request may hold: send less in one request"


def _in_request(series: bytes) -> bytes:
    """A request with one series, copied from another request."""
    return write_field(_SERIES, series)


def _why_not(name: str, labels: list[_Label]) -> tuple[str, str]:
    if any(label is _NOT_UTF8 for label in labels):
        return "protobuf", "holds a label that is not UTF-8: correct its sender"
    if not name:
        return "name", "has no label __name__: each series needs one"
    if len(labels) - 1 > MAX_LABELS:
        return "size", f"has more than {MAX_LABELS} labels: leave some out"
    return "duplicate-label", "names a label twice: keep one"
