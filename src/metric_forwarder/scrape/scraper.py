"""Scrape: fetch what Prometheus targets inside the VPC expose, and make messages of its samples.

A target that fails never stops the others: it becomes one ``invalid`` with the reason, and the next firing of the timer
tries it again. docs/scrape.md has the whole contract.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from metric_forwarder.clients.http import Failure, Fault, HttpRequest, Streamed, Streaming
from metric_forwarder.clock import Clock, Deadline
from metric_forwarder.errors import ConfigError
from metric_forwarder.formats.payload import NotJson
from metric_forwarder.jobs import Scrape
from metric_forwarder.model import MEASURED_AGAIN, Message
from metric_forwarder.scrape.exposition import Keep, NotExposition, Sample, lines_of, read_samples
from metric_forwarder.settings.extras import imports_of
from metric_forwarder.times import MILLISECONDS_FROM

# A node_exporter exposes some 100 KB.
MAX_TARGET_BYTES = 4 * 2**20
# Of one event, all targets together: each becomes a message, and all are held until the report is written.
MAX_SAMPLES = 20_000
# As Prometheus waits by default.
TARGET_TIMEOUT_S = 10.0
SIDE_BY_SIDE = 8
# To understand one text, which takes 0.1 s as a rule.
_READING_S = 2.0
# Characters of a text after which it is looked whether there is still time.
_LOOK_EVERY = 4096

_HEADERS = {
    "Accept": "text/plain;version=0.0.4",
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": "metric-forwarder",
}
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]+:[0-9a-f:.]*")
_OPEN_METRICS = "application/openmetrics-text"
CLOSED = "MF_SCRAPE_HOSTS is empty, and a timer asks to scrape: set it to the hosts of the targets, or remove the timer"


class Target(NamedTuple):
    """Where to fetch: ``instance`` is host:port, ``source`` the URL without its query, which may hold a token."""

    url: str
    instance: str
    source: str


Fetched = tuple[Target, str]


class Failed(Exception):
    """Why a target gave nothing; never leaves this module."""


class Scraper:
    """Fetches targets.

    Args:
        hosts: those that may be asked, each as host or host:port.
        connect: makes what carries one request; called in a thread of its own.
        clock: for the time each target has.
    """

    def __init__(self, hosts: Sequence[str], connect: Callable[[], Streaming], clock: Clock) -> None:
        self._hosts = frozenset(hosts)
        self._connect = connect
        self._clock = clock

    def messages(self, job: Scrape, firing: Message, patience: Deadline) -> Iterator[Message]:
        """The samples of every target, each a message; a target that fails is one broken message.

        Args:
            job: what to fetch and what to keep of it.
            firing: the timer's message; its time is that of the samples, its coordinates are part of theirs.
            patience: until when fetching and reading may go on.

        Raises:
            ConfigError: the settings allow no host, or the parser's package is not installed.
        """
        if not self._hosts:
            raise ConfigError([CLOSED])
        keep, used = _keeper(job.keep)
        left, answered = MAX_SAMPLES, False
        for url, fetched in self._fetch_all(job.targets, patience):
            try:
                target, text = fetched()
                samples = _samples(text, keep, left, self._soon(patience, _READING_S))
            except Failed as failed:
                yield _failed(firing, _shown(url), str(failed))
                continue
            answered = True
            left -= len(samples)
            yield from (_message(sample, target, job, firing) for sample in samples)
        if answered:
            yield from _unused(job.keep, used, firing)

    def _fetch_all(
        self, urls: Sequence[str], patience: Deadline
    ) -> Iterator[tuple[str, Callable[[], Fetched]]]:
        """Each URL with what gives its text, or raises ``Failed``, in the order in which they answer.

        No more texts are held than are fetched at once.
        """
        # Needed only where a timer scrapes.
        from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait  # noqa: PLC0415

        waiting, most = list(reversed(urls)), SIDE_BY_SIDE
        under_way: dict[Future[Fetched], str] = {}
        with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="scrape") as pool:
            while waiting or under_way:
                while waiting and len(under_way) < most:
                    url = waiting.pop()
                    try:
                        under_way[pool.submit(self._fetch, url, patience)] = url
                    except RuntimeError:
                        if not under_way:
                            yield url, _no_thread
                            continue
                        # As many threads as there are will do; what the pool has queued is fetched once more.
                        waiting.append(url)
                        most = len(under_way)
                done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    yield under_way.pop(future), future.result

    def _fetch(self, url: str, patience: Deadline) -> Fetched:
        target = self._target(url)
        return target, _read(self._connect(), target, self._soon(patience, TARGET_TIMEOUT_S))

    def _soon(self, patience: Deadline, seconds: float) -> Deadline:
        return Deadline(self._clock, self._clock.monotonic() + min(seconds, patience.remaining()))

    def _target(self, url: str) -> Target:
        """Take a URL apart, and put only what is known to be harmless together again."""
        parts = _split(url)
        host = (parts.hostname or "").lower()
        port = parts.port if parts.port is not None else _DEFAULT_PORTS[parts.scheme]
        named = f"[{host}]" if ":" in host else host
        if named not in self._hosts and f"{named}:{port}" not in self._hosts:
            raise Failed(
                "is not fetched: its host is not in MF_SCRAPE_HOSTS; add it there, as host or host:port"
            )
        instance = f"{named}:{port}"
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
        query = "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?") if parts.query else ""
        source = f"{parts.scheme}://{instance}{path}"
        return Target(source + query, instance, source[:150])


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _DEFAULT_PORTS and _HOST.fullmatch((parts.hostname or "").lower())
        if usable and "@" not in parts.netloc and (parts.port is None or parts.port > 0):
            return parts
    except ValueError:
        pass
    raise Failed(
        "is no URL to scrape: it must be http://host:port/path or https://…, without user and password"
    )


def _shown(url: str) -> str:
    """A URL as a report may name it: without what may be secret in it, wherever its writer thought that it ends."""
    shown = re.split("[?#]", url, maxsplit=1)[0]
    return shown[:150] if "@" not in url else "a URL that is not shown, since it holds an @"


def _read(streaming: Streaming, target: Target, patience: Deadline) -> str:
    if patience.remaining() <= 0:
        raise Failed(
            "was not asked: the time for scraping was up; raise the function's timeout, or scrape less"
        )
    answer = streaming.stream(HttpRequest("GET", target.url, _HEADERS, None), patience.remaining)
    if isinstance(answer, Failure):
        remedy = _UNREACHABLE if answer.fault is Fault.UNREACHABLE else _UNANSWERED
        raise Failed(f"could not be scraped ({answer.detail}): {remedy}")
    try:
        _check_head(answer)
        return _text(answer)
    finally:
        answer.close()


def _check_head(answer: Streamed) -> None:
    if 300 <= answer.status < 400:  # noqa: PLR2004 - the class of redirections
        raise Failed(f"answered HTTP {answer.status}: a redirection is not followed; name where it leads")
    if answer.status != 200:  # noqa: PLR2004 - the one status that carries metrics
        raise Failed(f"answered HTTP {answer.status}")
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Failed("answered with a compressed text, which was not asked for")
    if answer.headers.get("Content-Type", "").lower().startswith(_OPEN_METRICS):
        raise Failed("answered in OpenMetrics, which was not asked for: let it expose the text format 0.0.4")
    if answer.announced_bytes > MAX_TARGET_BYTES:
        raise Failed(_TOO_LARGE)


_UNREACHABLE = "no connection; check its host and port, the function's VPC and the target's security group"
_UNANSWERED = "it was asked and did not answer; look whether it is well, or raise the function's timeout"
_TOO_LARGE = f"exposes more than {MAX_TARGET_BYTES // 2**20} MB: let it expose less, or split it"


def _text(answer: Streamed) -> str:
    content = bytearray()
    for chunk in answer.chunks:
        if isinstance(chunk, Failure):
            raise Failed(f"broke off ({chunk.detail})")
        content += chunk
        if len(content) > MAX_TARGET_BYTES:
            raise Failed(_TOO_LARGE)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Failed("answered with what is no Prometheus text exposition: it is not UTF-8") from None


def _no_thread() -> Fetched:
    raise Failed("was not scraped: no thread could be started; give the function more memory")


def _samples(text: str, keep: Keep, most: int, patience: Deadline) -> list[Sample]:
    try:
        with imports_of("scrape", "MF_SCRAPE_HOSTS"):
            found = list(islice(read_samples(_in_time(lines_of(text), patience), keep), most + 1))
    except NotExposition as bad:
        raise Failed(str(bad)) from None
    if len(found) > most:
        raise Failed(f"would make more than {MAX_SAMPLES} samples: keep fewer")
    return found


def _in_time(lines: Iterable[str], patience: Deadline) -> Iterator[str]:
    """Give up a text that takes too long to be understood, such as one of samples with thousands of labels."""
    unlooked = _LOOK_EVERY
    for line in lines:
        unlooked += 1 + len(line)
        if unlooked > _LOOK_EVERY:
            unlooked = 0
            if patience.remaining() <= 0:
                raise Failed("takes too long to be read: let it expose less, or split it")
        yield line


def _keeper(patterns: Sequence[str]) -> tuple[Keep, set[str]]:
    """The predicate for names, and the patterns it has met so far."""
    exact = {pattern for pattern in patterns if not pattern.endswith("*")}
    prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    used: set[str] = set()

    def keep(name: str) -> bool:
        met = [f"{prefix}*" for prefix in prefixes if name.startswith(prefix)]
        met += [name] if name in exact else []
        used.update(met)
        return bool(met)

    return keep, used


def _unused(patterns: Iterable[str], used: set[str], firing: Message) -> Iterator[Message]:
    for pattern in patterns:
        if pattern not in used:
            text = f'keeps "{pattern[:60]}", which no target exposes: correct the name, or leave it out'
            yield Message(firing.source, None, broken=text)


def _failed(firing: Message, source: str, reason: str) -> Message:
    return Message(source, None, firing.coordinates, firing.time_ms, broken=reason)


def _message(sample: Sample, target: Target, job: Scrape, firing: Message) -> Message:
    dimensions = _dimensions(sample, target, job)
    body = {"metricName": sample.name, "dimensions": dimensions, "value": _value(sample.value)}
    if sample.timestamp_s is not None:
        body["timestamp"] = _timestamp(sample.timestamp_s)
    if job.namespace:
        body["namespace"] = job.namespace
    coordinates = None
    if firing.coordinates is not None:
        series = json.dumps([target.url, sample.name, sorted(sample.labels.items())])
        coordinates = f"{MEASURED_AGAIN}{firing.coordinates}/{series}"
    return Message(f"{target.source} {sample.name}"[:200], body, coordinates, firing.time_ms)


def _dimensions(sample: Sample, target: Target, job: Scrape) -> dict[str, str]:
    """The labels, ``job`` and ``instance``; labels of these names stay as ``exported_…``, as in Prometheus."""
    own = {"job": job.job, "instance": target.instance}
    labels = {f"exported_{name}" if name in own else name: text for name, text in sample.labels.items()}
    return {**labels, **own}


def _value(value: float) -> float | NotJson:
    # An integer may be beyond every float; the schema says so.
    if isinstance(value, int) or math.isfinite(value):
        return value
    return NotJson("not-finite", f"is {value}, which no destination takes: it was not sent")


def _timestamp(seconds: float) -> float | NotJson:
    if not math.isfinite(seconds):
        return NotJson("not-finite", "is no time: it was not sent")
    milliseconds = round(seconds * 1000)
    return milliseconds if milliseconds >= MILLISECONDS_FROM else seconds
