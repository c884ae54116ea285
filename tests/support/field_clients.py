"""Clients that this field uses, as their own documents show them: only the host and the token are ours.

Each sends the same few samples, and says which series and values a store should hold of them.
"""

import gzip
import json
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.request import Request, urlopen

from google.protobuf.json_format import MessageToDict
from influxdb_client import InfluxDBClient, WriteOptions
from influxdb_client import Point as InfluxPoint
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, push_to_gateway
from prometheus_client.exposition import basic_auth_handler
from reactivex.scheduler import ThreadPoolScheduler

from metric_forwarder.cli.prometheus_server import RemoteWriteServer, find_program

Labels = tuple[tuple[str, str], ...]


class Stored(NamedTuple):
    """What a store should hold of a series.

    Attributes:
        labels: sorted; ``__name__`` among them.
        value: of its one sample.
        time_ms: Unix milliseconds; None: when the request arrived.
    """

    labels: Labels
    value: float
    time_ms: int | None


class FieldClient(Protocol):
    """A client, made for one run of a test, whose name is a label of all that it sends.

    Attributes:
        path: what the paths of its requests begin with.
    """

    path: str

    def send(self, url: str, token: str) -> None:
        """Send everything once; raises if the client gives up."""

    def stored(self) -> list[Stored]:
        """What a store should hold of it."""


def _stored(name: str, value: float, time_ms: int | None, **labels: str) -> Stored:
    return Stored(tuple(sorted({"__name__": name, **labels}.items())), value, time_ms)


class OpenTelemetry:
    """The SDK with its OTLP exporter over HTTP: protobuf in gzip."""

    path = "/v1/metrics"

    def __init__(self, run: str) -> None:
        self._run = run
        attributes = {"service.name": "shop", "service.namespace": "eu", "service.instance.id": run}
        reader = InMemoryMetricReader()
        self._provider = MeterProvider([reader], Resource(attributes))
        meter = self._provider.get_meter("checkout")
        meter.create_counter("orders", "{order}").add(3, {"pay.by": "card"})
        meter.create_up_down_counter("queue.size").add(5)
        meter.create_gauge("temperature", "Cel").set(21.5)
        latency = meter.create_histogram("latency", "ms", explicit_bucket_boundaries_advisory=[10, 100])
        for value in (4, 40, 400):
            latency.record(value)
        data = reader.get_metrics_data()
        assert data is not None
        self.data: MetricsData = data

    def send(self, url: str, token: str) -> None:
        """Export once, with the exporter's own retry."""
        exporter = OTLPMetricExporter(
            f"{url}{self.path}", headers={"Authorization": f"Bearer {token}"}, compression=Compression.Gzip
        )
        try:
            assert exporter.export(self.data) is MetricExportResult.SUCCESS
        finally:
            exporter.shutdown()

    def stored(self) -> list[Stored]:
        """Every sample: OpenTelemetry's names and units as Prometheus has them."""
        (scope,) = self.data.resource_metrics[0].scope_metrics
        # To the nearest millisecond, as docs/formats.md says.
        time_ms = round(scope.metrics[0].data.data_points[0].time_unix_nano / 10**6)
        own = {"job": "eu/shop", "instance": self._run, "otel_scope_name": "checkout"}
        latency = "latency_milliseconds"
        return [
            _stored("orders_total", 3, time_ms, pay_by="card", **own),
            _stored("queue_size", 5, time_ms, **own),
            _stored("temperature_celsius", 21.5, time_ms, **own),
            _stored(f"{latency}_bucket", 1, time_ms, le="10", **own),
            _stored(f"{latency}_bucket", 2, time_ms, le="100", **own),
            _stored(f"{latency}_bucket", 3, time_ms, le="+Inf", **own),
            _stored(f"{latency}_sum", 444, time_ms, **own),
            _stored(f"{latency}_count", 3, time_ms, **own),
        ]


class OpenTelemetryJson(OpenTelemetry):
    """The same request in OTLP's JSON encoding, which the SDK's exporter has not."""

    def send(self, url: str, token: str) -> None:
        body = json.dumps(MessageToDict(encode_metrics(self.data), use_integers_for_enums=True))
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
        }
        with urlopen(
            Request(f"{url}{self.path}", gzip.compress(body.encode()), headers), timeout=60
        ) as reply:
            assert json.loads(reply.read()) == {}


class InfluxDb:
    """influxdb-client, which writes in batches in the background."""

    path = "/api/v2/write"

    def __init__(self, run: str) -> None:
        self._run = run
        self._time_ms = time.time_ns() // 10**6

    def send(self, url: str, token: str) -> None:
        """Write, and wait until the client has nothing left to write."""
        failed: list[Any] = []
        # By default all clients of a process share one thread, in which they wait for each other's retries.
        scheduler = ThreadPoolScheduler(max_workers=1)
        with (
            scheduler.executor,
            InfluxDBClient(url, token, org="shop") as client,
            client.write_api(
                WriteOptions(write_scheduler=scheduler),
                error_callback=lambda _, __, error: failed.append(error),
            ) as api,
        ):
            point = InfluxPoint("cpu").tag("host", self._run).tag("cpu-name", "cpu 0")
            point = (
                point.field("usage_idle", 91.5).field("cores", 8).field("up", value=True).field("os", "linux")
            )
            api.write("bucket", record=point.time(self._time_ms * 10**6))
            api.write(
                "bucket",
                record=InfluxPoint("load")
                .tag("host", self._run)
                .field("value", 0.25)
                .time(self._time_ms * 10**6),
            )
        assert failed == []

    def stored(self) -> list[Stored]:
        """Every number and boolean; the text is filtered."""
        own = {"host": self._run, "cpu_name": "cpu 0"}
        return [
            _stored("cpu_usage_idle", 91.5, self._time_ms, **own),
            _stored("cpu_cores", 8, self._time_ms, **own),
            _stored("cpu_up", 1, self._time_ms, **own),
            _stored("load", 0.25, self._time_ms, host=self._run),
        ]


class PushgatewayClient:
    """prometheus-client's ``push_to_gateway``, which does not retry: the job's next run does."""

    path = "/metrics/job"

    def __init__(self, run: str) -> None:
        self._run = run
        self._registry = CollectorRegistry()
        Gauge("last_success", "When it succeeded", ["disk"], registry=self._registry).labels("/dev/sda").set(
            7.5
        )
        Counter("files", "How many", registry=self._registry).inc(12)
        Histogram("size_bytes", "Sizes", buckets=(1000,), registry=self._registry).observe(10)

    def send(self, url: str, token: str) -> None:
        """Push once."""

        def with_token(**request: Any) -> Any:
            return basic_auth_handler(**request, username="any", password=token)

        push_to_gateway(
            url.removeprefix("http://"),
            job="nightly/backup",
            grouping_key={"instance": self._run},
            registry=self._registry,
            handler=with_token,
        )

    def stored(self) -> list[Stored]:
        """Every sample line, with the labels of the path."""
        own = {"job": "nightly/backup", "instance": self._run}
        created = (
            (name, self._registry.get_sample_value(name)) for name in ("files_created", "size_bytes_created")
        )
        return [
            _stored("last_success", 7.5, None, disk="/dev/sda", **own),
            _stored("files_total", 12, None, **own),
            _stored("size_bytes_bucket", 1, None, le="1000.0", **own),
            _stored("size_bytes_bucket", 1, None, le="+Inf", **own),
            _stored("size_bytes_count", 1, None, **own),
            _stored("size_bytes_sum", 10, None, **own),
            *(_stored(name, value, None, **own) for name, value in created if value is not None),
        ]


class ScrapingPrometheus(RemoteWriteServer):
    """A Prometheus that scrapes a target each second, and writes what it gets to us.

    Args:
        folder: for its data.
        target: host and port of what it scrapes.
        writes: where it writes to: each a ``remote_write`` of its configuration.
    """

    path = "/api/v1/write"

    def __init__(self, folder: Path, target: str, writes: Sequence[Mapping[str, Any]]) -> None:
        program = find_program()
        assert program, "prometheus is needed"
        super().__init__(program, folder)
        self._config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "node", "static_configs": [{"targets": [target]}]}],
            "remote_write": list(writes),
        }

    @staticmethod
    def write_to(url: str, token: str) -> dict[str, Any]:
        """How a Prometheus is pointed at the function."""
        return {
            "url": f"{url}{ScrapingPrometheus.path}",
            "authorization": {"credentials": token},
            "queue_config": {"batch_send_deadline": "1s"},
        }

    def _command(self) -> list[str]:
        config = self._folder / "prometheus.yml"
        # JSON is YAML.
        config.write_text(json.dumps(self._config))
        return [
            self._program,
            f"--config.file={config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address={self._address}",
            "--log.level=error",
        ]


class VmAgent:
    """A vmagent that scrapes a target each second, and writes what it gets to several places.

    Args:
        folder: for its configuration and its queues.
        target: host and port of what it scrapes.
        urls: where it writes to.
        token: for all of them.
    """

    path = "/api/v1/push"

    def __init__(self, folder: Path, target: str, urls: Sequence[str], token: str) -> None:
        program = shutil.which("vmagent")
        assert program, "vmagent is needed (Debian: victoria-metrics)"
        scrape = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "vmagent", "static_configs": [{"targets": [target]}]}],
        }
        config = folder / "scrape.yml"
        config.write_text(json.dumps(scrape))
        self._command = [
            program,
            "-httpListenAddr=127.0.0.1:0",
            f"-promscrape.config={config}",
            f"-remoteWrite.tmpDataPath={folder / 'queues'}",
            "-loggerLevel=ERROR",
            # By default it sends several requests at once, and so samples of one series in any order.
            "-remoteWrite.queues=1",
            *(f"-remoteWrite.url={url}" for url in urls),
            *(f"-remoteWrite.bearerToken={token}" for _ in urls),
        ]
        self._log_file = folder / "log"

    def __enter__(self) -> "VmAgent":  # noqa: PYI034 -- typing.Self came after Python 3.10
        self._log = self._log_file.open("wb")
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
