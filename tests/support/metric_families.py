"""Prometheus's protobuf exposition, written by Google's library from the schema of prometheus/client_model."""

from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]  # not in its stubs

_F = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "io.prometheus.client"
# Message → its fields: number, name, type, whether repeated.
_SCHEMA: dict[str, list[tuple[int, str, Any, bool]]] = {
    "LabelPair": [(1, "name", "string", False), (2, "value", "string", False)],
    "Gauge": [(1, "value", "double", False)],
    "Exemplar": [(1, "label", "LabelPair", True), (2, "value", "double", False)],
    "Counter": [(1, "value", "double", False), (2, "exemplar", "Exemplar", False)],
    "Quantile": [(1, "quantile", "double", False), (2, "value", "double", False)],
    "Summary": [(1, "sample_count", "uint64", False), (2, "sample_sum", "double", False), (3, "quantile", "Quantile", True)],
    "Untyped": [(1, "value", "double", False)],
    "Bucket": [(1, "cumulative_count", "uint64", False), (2, "upper_bound", "double", False), (3, "exemplar", "Exemplar", False), (4, "cumulative_count_float", "double", False)],
    "Histogram": [(1, "sample_count", "uint64", False), (2, "sample_sum", "double", False), (3, "bucket", "Bucket", True), (4, "sample_count_float", "double", False), (5, "schema", "sint32", False)],
    "Metric": [(1, "label", "LabelPair", True), (2, "gauge", "Gauge", False), (3, "counter", "Counter", False), (4, "summary", "Summary", False), (5, "untyped", "Untyped", False), (6, "timestamp_ms", "int64", False), (7, "histogram", "Histogram", False)],
    "MetricFamily": [(1, "name", "string", False), (2, "help", "string", False), (3, "type", "int32", False), (4, "metric", "Metric", True), (5, "unit", "string", False)],
}  # fmt: skip
_TYPES = {"string": _F.TYPE_STRING, "double": _F.TYPE_DOUBLE, "uint64": _F.TYPE_UINT64, "int64": _F.TYPE_INT64, "int32": _F.TYPE_INT32, "sint32": _F.TYPE_SINT32}  # fmt: skip
COUNTER, GAUGE, SUMMARY, UNTYPED, HISTOGRAM = range(5)


def _make() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package=_PACKAGE, syntax="proto2")
    for name, members in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for number, member, kind, repeated in members:
            field = message.field.add(
                name=member, number=number, label=_F.LABEL_REPEATED if repeated else _F.LABEL_OPTIONAL
            )
            if kind in _TYPES:
                field.type = _TYPES[kind]
            else:
                field.type, field.type_name = _F.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.MetricFamily"))


MetricFamily = _make()


def delimited(families: Iterable[Any]) -> bytes:
    """Each family behind its length."""
    written = [family.SerializeToString() for family in families]
    return b"".join(_VarintBytes(len(each)) + each for each in written)


def family(name: str, kind: int, *metrics: dict[str, Any]) -> Any:
    """A family; each metric has the members of ``Metric``, ``labels`` as a mapping."""
    made = MetricFamily(name=name, help="h", type=kind)
    for members in metrics:
        labels = [{"name": key, "value": text} for key, text in members.pop("labels", {}).items()]
        made.metric.add(label=labels, **members)
    return made
