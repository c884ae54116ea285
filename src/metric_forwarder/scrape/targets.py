"""Which URL of a job may be fetched, and the labels that its samples get."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from metric_forwarder.jobs import ScrapeTarget

_DEFAULT_PORTS = {"http": 80, "https": 443}
_host = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]+:[0-9a-f:.]*").fullmatch
_MAX_SHOWN = 150
# A label's text that stands for a parameter of the URL, or for its path; Prometheus uses the same names.
_PARAMETER = "__param_"
_PATH = "__metrics_path__"

SAME_LABELS = (
    "is not fetched: its samples would get the same labels as those of another target of this job, and be mixed with them; "
    'tell them apart by "labels", such as {"instance": "__param_target"} for the text of the URL\'s parameter "target"'
)


class Failed(Exception):
    """Why a target has no samples; never leaves ``scrape``."""


class Unanswered(Failed):
    """A target was asked, and no reply came."""


class Target(NamedTuple):
    """A target to fetch.

    Attributes:
        url: with its query, which may hold a token.
        labels: of every sample, with ``job`` and ``instance``.
        source: the URL in the form that a report may show.
    """

    url: str
    labels: Mapping[str, str]
    source: str


def resolve(target: ScrapeTarget, job: str, hosts: frozenset[str]) -> Target | Failed:
    """Parse a URL, and build it again from the parts that are known to be harmless.

    It raises ``Failed`` if the text is not a URL, if its host may not be asked, or if a label names a parameter that the
    URL lacks.
    """
    try:
        return _resolve(target, job, hosts)
    except Failed as failed:
        return failed


def _resolve(target: ScrapeTarget, job: str, hosts: frozenset[str]) -> Target:
    parts = _split(target.url)
    host = (parts.hostname or "").lower()
    port = parts.port if parts.port is not None else _DEFAULT_PORTS[parts.scheme]
    named = f"[{host}]" if ":" in host else host
    if named not in hosts and f"{named}:{port}" not in hosts:
        raise Failed("is not fetched: its host is not in MF_SCRAPE_HOSTS; add it there, as host or host:port")
    instance = f"{named}:{port}"
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?") if parts.query else ""
    source = f"{parts.scheme}://{instance}{path}"
    labels = {"job": job, "instance": instance}
    labels.update((name, _label(text, path, parts.query)) for name, text in target.labels)
    return Target(source + query, labels, source[:_MAX_SHOWN])


def ambiguous(targets: Iterable[Target]) -> frozenset[tuple[tuple[str, str], ...]]:
    """The labels that more than one target has."""
    counts = Counter(key_of(target) for target in targets)
    return frozenset(key for key, count in counts.items() if count > 1)


def key_of(target: Target) -> tuple[tuple[str, str], ...]:
    """The labels that distinguish a target's series from others; for Prometheus an empty label does not exist."""
    return tuple(sorted(pair for pair in target.labels.items() if pair[1]))


def join(labels: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """A sample's labels and its target's; as in Prometheus, a label of the sample with the same name becomes ``exported_…``."""
    joined = {name: text for name, text in labels.items() if name not in own}
    for name in sorted(labels.keys() & own.keys()):
        renamed = f"exported_{name}"
        while renamed in joined or renamed in own:
            renamed = f"exported_{renamed}"
        joined[renamed] = labels[name]
    return {**joined, **own}


def shown(url: str) -> str:
    """A URL in the form that a report may show: without any part that may be secret."""
    if "@" in url:
        return "a URL that is not shown, since it holds an @"
    return re.split("[?#]", url, maxsplit=1)[0][:_MAX_SHOWN]


def _label(text: str, path: str, query: str) -> str:
    if text == _PATH:
        return path
    if not text.startswith(_PARAMETER):
        return text
    name = text.removeprefix(_PARAMETER)
    values: Sequence[str] = parse_qs(query).get(name, ())
    if not values:
        raise Failed(
            f'is not fetched: a label of the job is "{text[:60]}", and its query has no parameter of that name'
        )
    return values[0]


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _DEFAULT_PORTS and _host((parts.hostname or "").lower())
        if usable and "@" not in parts.netloc and (parts.port is None or parts.port > 0):
            return parts
    except ValueError:
        pass
    raise Failed(
        "is not a URL to scrape: it must be http://host:port/path or https://…, without user and password"
    )
