"""A job instead of a payload: ``{"replay": true}`` or ``{"scrape": […], "keep": […]}``.

A timer asks for one in its message, a person by invoking the function with it. Only a person can ask for
``{"doctor": true}``.
"""

import re
from typing import Any, NamedTuple

from metric_forwarder.formats.payload import read_payload

DEFAULT_JOB = "scrape"
# An object with one of these members asks for a job, unless it also has a member of a payload.
MEMBERS = frozenset({"replay", "scrape"})
_MEMBERS_OF_A_PAYLOAD = frozenset({"metricName", "dimensions", "value", "points", "Namespace", "Data"})
# Compiled when the first timer fires.
_MENTIONS_A_JOB = "|".join(MEMBERS)

# Names that begin with two underscores are reserved for Prometheus.
_MAY_BE_SET = r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*"


class Replay(NamedTuple):
    """Redeliver the spool; with its dead letters if asked: ``{"replay": true, "deadLetters": true}``."""

    dead_letters: bool


class ScrapeTarget(NamedTuple):
    """A URL to fetch, and the labels that the job gives to its samples."""

    url: str
    labels: tuple[tuple[str, str], ...] = ()


class Scrape(NamedTuple):
    """Fetch metrics from targets, and forward the samples whose names are kept.

    Attributes:
        targets: each once.
        keep: names of samples; ``node_*`` matches every name that begins with ``node_``.
        job: the dimension ``job`` of every sample.
        namespace: that of every sample; empty: ``MF_NAMESPACE``.
    """

    targets: tuple[ScrapeTarget, ...]
    keep: tuple[str, ...]
    job: str = DEFAULT_JOB
    namespace: str = ""


class BadJob(NamedTuple):
    """A job that cannot be understood; ``reason`` completes a sentence that begins with "the message"."""

    reason: str


Job = Replay | Scrape | BadJob

_SCRAPE_FORM = (
    'is not a scrape job: it must be {"scrape": ["http://host:9100/metrics"], "keep": ["node_load1", "node_cpu_*"]}, '
    'optionally with a "job", a "namespace" and "labels"; instead of a URL there may be '
    '{"targets": ["http://host:9100/metrics"], "labels": {"room": "a"}}'
)
_REPLAY_FORM = 'is not a replay job: it must be {"replay": true}, optionally with "deadLetters": true'


def asks_for_doctor(event: Any) -> bool:
    """Return whether a direct invocation asks for the doctor's checks."""
    return isinstance(event, dict) and len(event) == 1 and event.get("doctor") is True


def read_job(body: Any) -> Job | None:
    """Return the job that a message asks for, or None if it is a payload."""
    if isinstance(body, str) and not re.search(_MENTIONS_A_JOB, body, re.IGNORECASE):
        # This avoids parsing a large payload twice.
        return None
    payload = read_payload(body)
    asked = payload.merged()[0] if len(payload.points) == 1 else None
    if not isinstance(asked, dict) or not _MEMBERS_OF_A_PAYLOAD.isdisjoint(asked):
        return None
    names = {name.lower() for name in asked}
    if "scrape" in names:
        return _read_scrape(asked)
    return _read_replay(asked) if "replay" in names else None


def _read_replay(asked: dict[str, Any]) -> Replay | BadJob:
    dead_letters = asked.get("deadLetters", False)
    known = asked.keys() <= {"replay", "deadLetters"}
    if not (known and asked.get("replay") is True and isinstance(dead_letters, bool)):
        return BadJob(_REPLAY_FORM)
    return Replay(dead_letters)


def _read_scrape(asked: dict[str, Any]) -> Scrape | BadJob:
    labels = _labels(asked.get("labels", {}))
    targets, keep = _targets(asked.get("scrape"), labels), _texts(asked.get("keep"))
    job, namespace = asked.get("job", DEFAULT_JOB), asked.get("namespace", "")
    known = asked.keys() <= {"scrape", "keep", "job", "namespace", "labels"}
    is_complete = known and targets and keep and labels is not None
    if not (is_complete and isinstance(job, str) and isinstance(namespace, str)):
        return BadJob(_SCRAPE_FORM)
    return Scrape(targets, keep, job, namespace)


def _targets(value: Any, labels: dict[str, str] | None) -> tuple[ScrapeTarget, ...]:
    """Read a list of URLs and of groups as in Prometheus's static configuration; empty if the value is not such a list."""
    found: dict[ScrapeTarget, None] = {}
    for entry in value if isinstance(value, list) else ():
        group = {"targets": [entry]} if isinstance(entry, str) else entry
        if not isinstance(group, dict) or not group.keys() <= {"targets", "labels"}:
            return ()
        urls, own = _texts(group.get("targets")), _labels(group.get("labels", {}))
        if not urls or own is None:
            return ()
        given = tuple(sorted({**(labels or {}), **own}.items()))
        found.update(dict.fromkeys(ScrapeTarget(url, given) for url in urls))
    return tuple(found)


def _labels(value: Any) -> dict[str, str] | None:
    """Read names and texts; None if they are not labels."""
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        return None
    return value if all(re.fullmatch(_MAY_BE_SET, name) for name in value) else None


def _texts(value: Any) -> tuple[str, ...]:
    """Return a list of texts, each once; empty if the value is not a list of texts."""
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        return ()
    return tuple(dict.fromkeys(value))
