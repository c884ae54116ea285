"""Scrape: fetch the metrics that Prometheus targets inside the VPC expose, and make messages of the samples.

A target that fails never stops the others: it becomes one ``invalid`` with the reason, and the next firing of the timer
tries it again. docs/scrape.md describes the rules.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from metric_forwarder.clients.http import Failure, Fault, HttpRequest, Streamed, Streaming
from metric_forwarder.clock import Deadline
from metric_forwarder.errors import ConfigError
from metric_forwarder.formats.samples import FilteredSample, InvalidSample, Reading, Sample
from metric_forwarder.jobs import Scrape
from metric_forwarder.machine import Future, Machine, Queue
from metric_forwarder.model import MEASURED_AGAIN, Message
from metric_forwarder.scrape.exposition import Exposition, Keep
from metric_forwarder.scrape.targets import (
    SAME_LABELS,
    Failed,
    Target,
    Unanswered,
    ambiguous,
    join,
    key_of,
    resolve,
    shown,
)
from metric_forwarder.uint64 import parse_uint64

# A node_exporter exposes about 100 KB.
MAX_TARGET_BYTES = 4 * 2**20
# Samples of all targets in one event: each becomes a message, and all are held until the report is written.
MAX_SAMPLES = 20_000
# The default of Prometheus.
TARGET_TIMEOUT_S = 10.0
SIDE_BY_SIDE = 8
# Seconds to read one text, which usually takes 0.1 s.
_READING_S = 2.0

_HEADERS = {
    "Accept": "text/plain;version=0.0.4",
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": "metric-forwarder",
}
_OPEN_METRICS = "application/openmetrics-text"
CLOSED = "MF_SCRAPE_HOSTS is empty, but a timer asks to scrape: set it to the hosts of the targets, or remove the timer"
# The metrics that Prometheus itself adds to each scrape.
_UP, _DURATION, _EXPOSED = "up", "scrape_duration_seconds", "scrape_samples_scraped"


class Fetched(NamedTuple):
    """The text of a target, how long fetching took, and whether its end may be missing."""

    text: str
    open_metrics: bool
    may_be_cut: bool
    took_s: float = 0.0


class Scraper:
    """Fetches targets.

    Args:
        hosts: those that may be asked, each as host or host:port.
        connect: makes a transport for one request; called in the thread that fetches.
        machine: for the time each target has, and the threads that fetch.
        carries_non_finite: whether the destination takes NaN; otherwise a sample that is NaN is filtered.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        connect: Callable[[], Streaming],
        machine: Machine,
        *,
        carries_non_finite: bool = False,
    ) -> None:
        self._hosts = frozenset(hosts)
        self._connect = connect
        self._clock, self._tasks = machine.clock, machine.tasks
        self._carries_non_finite = carries_non_finite
        # They are asked last, since targets that hang may take all the time for scraping.
        self._unanswered: set[str] = set()

    def messages(self, job: Scrape, firing: Message, deadline: Deadline) -> Iterator[Message]:
        """The samples of every target, each a message; a target that fails is one broken message.

        Args:
            job: what to fetch and what to keep of it.
            firing: the timer's message; its time is that of the samples, its coordinates are part of theirs.
            deadline: fetching and reading must end by then.

        Raises:
            ConfigError: the settings allow no host.
        """
        if not self._hosts:
            raise ConfigError([CLOSED])
        keep, used = _keeper(job.keep)
        resolved = [(asked, resolve(asked, job.job, self._hosts)) for asked in job.targets]
        targets = [found for _, found in resolved if isinstance(found, Target)]
        for asked, found in resolved:
            if isinstance(found, Failed):
                yield _failed(firing, shown(asked.url), str(found))
        mixed = ambiguous(targets)
        for target in targets:
            if key_of(target) in mixed:
                yield _failed(firing, target.source, SAME_LABELS)
        fetchable = [target for target in targets if key_of(target) not in mixed]
        fetchable.sort(key=lambda target: target.url in self._unanswered)
        answered, left = 0, MAX_SAMPLES
        for target, fetched in self._fetch_all(fetchable, deadline):
            readings: list[Reading] = []
            try:
                text = fetched()
                readings = self._read(text, keep, left, deadline.within(_READING_S))
            except Failed as failed:
                yield _failed(firing, target.source, str(failed))
                readings = [Sample("", _UP, {}, 0)] if keep(_UP) else []
            else:
                answered += 1
            left = max(0, left - len(readings))
            yield from (_message(reading, target, job, firing) for reading in readings)
        # A target that failed may expose the names that the others do not.
        if answered == len(resolved):
            yield from _unused(job.keep, used, firing)

    def _read(self, fetched: Fetched, keep: Keep, most: int, deadline: Deadline) -> list[Reading]:
        """The readings of a text, and the metrics that Prometheus would add."""

        def watch() -> None:
            if deadline.remaining() <= 0:
                raise Failed("takes too long to be read: let it expose less, or split it")

        exposition = Exposition(
            fetched.text,
            open_metrics=fetched.open_metrics,
            keep=keep,
            watch=watch,
            may_be_cut=fetched.may_be_cut,
        )
        found = list(_without_contradictions(islice(exposition.readings(), most + 1)))
        if len(found) > most:
            raise Failed(f"would make more than {MAX_SAMPLES} samples: keep fewer")
        bad = next((reading for reading in found if isinstance(reading, InvalidSample)), exposition.misfit)
        if bad is not None and not any(isinstance(reading, Sample) for reading in found):
            raise Failed(f"{_NO_EXPOSITION}, at {bad.where}: {bad.message}")
        scraped = {
            reading.metric for reading in found if isinstance(reading, Sample) and not reading.dimensions
        }
        about = ((_UP, 1), (_DURATION, fetched.took_s), (_EXPOSED, exposition.lines))
        found += [Sample("", name, {}, value) for name, value in about if name not in scraped and keep(name)]
        return [self._carried(reading) for reading in found]

    def _carried(self, reading: Reading) -> Reading:
        """Filter NaN, the value of a summary without observations, if the destination cannot carry it."""
        if isinstance(reading, Sample) and not self._carries_non_finite and math.isnan(reading.value):
            return FilteredSample(reading.where, "not-finite", _NO_VALUE)
        return reading

    def _fetch_all(
        self, targets: Sequence[Target], deadline: Deadline
    ) -> Iterator[tuple[Target, Callable[[], Fetched]]]:
        """Yield each target with a function that returns its text or raises ``Failed``, in the order of their replies.

        Only as many texts are held as are fetched at once.
        """
        waiting, most = list(reversed(targets)), SIDE_BY_SIDE
        answers, under_way = self._tasks.queue(), 0
        while waiting or under_way:
            while waiting and under_way < most:
                target = waiting.pop()
                try:
                    self._tasks.start("scrape", partial(self._answer, target, deadline, answers))
                    under_way += 1
                except RuntimeError:
                    if not under_way:
                        yield target, _no_thread
                        continue
                    # As many threads as there are will do; this target is fetched when one of them has ended.
                    waiting.append(target)
                    most = under_way
            if under_way:
                # Each thread ends by the deadline of its fetch.
                yield answers.get(timeout=None)
                under_way -= 1

    def _answer(self, target: Target, deadline: Deadline, answers: Queue) -> None:
        """Fetch a target; run by a thread of its own."""
        fetched: Future[Fetched] = Future(self._tasks)
        fetched.run(lambda: self._fetch(target, deadline))
        answers.put((target, partial(fetched.result, 0)))

    def _fetch(self, target: Target, deadline: Deadline) -> Fetched:
        began = self._clock.monotonic()
        try:
            fetched = _fetch_text(self._connect(), target, deadline.within(TARGET_TIMEOUT_S))
        except Unanswered:
            self._unanswered.add(target.url)
            raise
        self._unanswered.discard(target.url)
        return fetched._replace(took_s=round(self._clock.monotonic() - began, 6))


def _fetch_text(streaming: Streaming, target: Target, deadline: Deadline) -> Fetched:
    if deadline.remaining() <= 0:
        raise Failed(
            "was not fetched: the time for scraping was up; raise the function's timeout, or scrape less"
        )
    # Exporters that probe others, such as blackbox, give up before this; otherwise they may go on for minutes.
    headers = {**_HEADERS, "X-Prometheus-Scrape-Timeout-Seconds": f"{deadline.remaining():.3f}"}
    answer = streaming.stream(HttpRequest("GET", target.url, headers, None), deadline)
    if isinstance(answer, Failure):
        remedy = _UNREACHABLE if answer.fault is Fault.UNREACHABLE else _UNANSWERED
        raise Unanswered(f"could not be scraped ({answer.detail}): {remedy}")
    try:
        _check_head(answer)
        is_whole = parse_uint64(answer.headers.get("Content-Length")) is not None
        is_whole |= "chunked" in answer.headers.get("Transfer-Encoding", "").lower()
        return Fetched(_text(answer), _is_open_metrics(answer), not is_whole)
    finally:
        answer.close()


def _check_head(answer: Streamed) -> None:
    if 300 <= answer.status < 400:  # noqa: PLR2004 - the class of redirections
        raise Failed(f"answered HTTP {answer.status}: a redirection is not followed; name where it leads")
    if answer.status != 200:  # noqa: PLR2004 - the one status that carries metrics
        raise Failed(f"answered HTTP {answer.status}")
    if answer.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        raise Failed("replied with compressed text, which was not requested")
    if answer.announced_bytes > MAX_TARGET_BYTES:
        raise Failed(_TOO_LARGE)


def _is_open_metrics(answer: Streamed) -> bool:
    return answer.headers.get("Content-Type", "").lower().startswith(_OPEN_METRICS)


_UNREACHABLE = "no connection; check its host and port, the function's VPC and the target's security group"
_UNANSWERED = "it did not reply, or not in HTTP; check what answers there, and its health, or raise the function's timeout"
_NO_EXPOSITION = "replied with text that is not a Prometheus text exposition"
_NO_VALUE = "is NaN, which this destination does not accept; remote write accepts it"
_CONTRADICTS = "has the name and the labels of an earlier line, but another value: let the target expose each series once"
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
        raise Failed(f"{_NO_EXPOSITION}: it is not UTF-8") from None


def _without_contradictions(readings: Iterable[Reading]) -> Iterator[Reading]:
    """Make a sample invalid if an earlier line has another value of its series, since only one of them can be sent."""
    values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for reading in readings:
        if not isinstance(reading, Sample) or reading.time_ns is not None:
            yield reading
            continue
        value = reading.value
        first = values.setdefault((reading.metric, frozenset(reading.dimensions.items())), value)
        if first == value or (math.isnan(first) and math.isnan(value)):
            yield reading
        else:
            yield InvalidSample(reading.where, "duplicate-series", _CONTRADICTS, None)


def _no_thread() -> Fetched:
    raise Failed("was not scraped: no thread could be started; give the function more memory")


def _keeper(patterns: Sequence[str]) -> tuple[Keep, set[str]]:
    """The predicate for names, and the patterns that have matched so far."""
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


def _message(reading: Reading, target: Target, job: Scrape, firing: Message) -> Message:
    if not isinstance(reading, Sample):
        return Message(target.source, reading, firing.coordinates, firing.time_ms)
    # Named by its series, since it may be on another line when a firing is redelivered.
    sample = reading._replace(
        where="", dimensions=join(reading.dimensions, target.labels), namespace=job.namespace
    )
    coordinates = None
    if firing.coordinates is not None:
        # The query may hold a token, and coordinates are written to the spool.
        url = hashlib.sha256(target.url.encode()).hexdigest()[:16]
        series = json.dumps([url, reading.metric, sorted(sample.dimensions.items())])
        coordinates = f"{MEASURED_AGAIN}{firing.coordinates}/{series}"
    return Message(f"{target.source} {reading.metric}"[:200], sample, coordinates, firing.time_ms)
