"""The environment variables: one line declares each; the README's tables and ``serverless.yml`` follow from here.

This module does not read the environment itself: ``bootstrap`` passes it in, since the platform refreshes variables
between invocations.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from metric_forwarder.destinations.table import DESTINATIONS, DestinationKind
from metric_forwarder.errors import ConfigError
from metric_forwarder.put_monitor_data.regions import REGION_NAMES
from metric_forwarder.secret import describe_value, is_plain
from metric_forwarder.settings import readers
from metric_forwarder.settings.declaration import BadValue, Setting, declared, fill_all
from metric_forwarder.settings.readers import choice, seconds, whole

PREFIX = "MF_"
MAX_CONCURRENCY = 64
_TEN_YEARS_S = 10 * 365 * 86400


def _destination(value: str) -> str:
    return choice(*DESTINATIONS)(value)


class Settings:
    """The settings of one invocation, in seconds and bytes unless the name says otherwise.

    To add a setting, add its line: variable, default, reader, meaning.
    """

    # fmt: off
    destination = Setting("MF_DESTINATION", "receiver", _destination, "where points go: {destinations}")
    receiver_url = Setting("MF_RECEIVER_URL", "http://receiver.monitor.tencentyun.com:8080/v2/index.php", readers.url, "the receiver; its older path `/report.cgi` works too")
    receiver_method = Setting("MF_RECEIVER_METHOD", "POST", choice("POST", "GET"), "`POST` or `GET`")
    secret_id = Setting("MF_SECRET_ID", "", readers.key_id, "SecretId of the main account: the receiver accepts no sub-account and no role")
    secret_key = Setting("MF_SECRET_KEY", "", readers.key, "SecretKey of the main account")
    secret_name = Setting("MF_SECRET_NAME", "", readers.text, 'instead of these two: a secret in Secrets Manager with the text `{"SecretId": "…", "SecretKey": "…"}`')
    secret_version = Setting("MF_SECRET_VERSION", "SSM_Current", readers.text, "the secret's version; `v1` if you named it so")
    secret_endpoint = Setting("MF_SECRET_ENDPOINT", "https://ssm.tencentcloudapi.com", readers.origin, "the address of Secrets Manager for the function")
    region = Setting("MF_REGION", "", readers.region, "short (`gz`) or full (`ap-guangzhou`); empty: the region the function runs in")
    remote_write_url = Setting("MF_REMOTE_WRITE_URL", "", readers.optional_url, "for `remote-write`: the endpoint, such as `http://10.0.0.5:9090/api/v1/prom/write`; the settings of the receiver, of its key and of the region are not needed then")
    remote_write_user = Setting("MF_REMOTE_WRITE_USER", "", readers.user, "user of basic authentication: the APPID, or the SecretId of a CLS metric topic; empty: the password is sent as a bearer token")
    remote_write_password = Setting("MF_REMOTE_WRITE_PASSWORD", "", readers.password, "its password or token, or the SecretKey; empty: none is sent")
    remote_write_headers = Setting("MF_REMOTE_WRITE_HEADERS", "", readers.headers, "more headers for each request, such as a tenant's `X-Scope-OrgID=team-a`: `NAME=VALUE,NAME=VALUE`")
    remote_write_check = Setting("MF_REMOTE_WRITE_CHECK", "on", choice("on", "off"), "`on`: before the first points the endpoint must refuse a request that remote write cannot read; `off`: for an endpoint that is made to answer every request with success")
    ca_file = Setting("MF_CA_FILE", "", readers.ca_file, "certificates (PEM) of a private authority: trusted in place of the public ones for the destination, and for an `MF_SECRET_ENDPOINT` outside of `tencentcloudapi.com`")
    namespace = Setting("MF_NAMESPACE", "", readers.namespace, "the namespace of points that have none")
    batch_max_points = Setting("MF_BATCH_MAX_POINTS", "30", whole(1, 10_000), "points in one request, at most")
    batch_max_bytes = Setting("MF_BATCH_MAX_BYTES", "65536", whole(256, 6_000_000), "bytes of points in one request before compression, at most")
    concurrency = Setting("MF_CONCURRENCY", "4", whole(1, MAX_CONCURRENCY), "requests under way at once; points of one series keep their order")
    max_rps = Setting("MF_MAX_RPS", "", readers.rate, "requests a second of this instance, at most; empty: no limit")
    max_attempts = Setting("MF_MAX_ATTEMPTS", "4", whole(1, 100), "how often one batch is tried, at most")
    request_timeout_s = Setting("MF_REQUEST_TIMEOUT_S", "3", seconds(0.05, 900), "seconds to wait for a connection, and for a reply, at most")
    deadline_margin_ms = Setting("MF_DEADLINE_MARGIN_MS", "1000", whole(0, 600_000), "milliseconds of the function's time limit that are kept for the reply; at most half of the limit")
    dedupe = Setting("MF_DEDUPE", "memory:", readers.dedupe, "`memory:` (this warm instance), `redis://…` or `rediss://…` (all instances) or `off`")
    dedupe_window_s = Setting("MF_DEDUPE_WINDOW_S", "600", seconds(1, 7 * 86400), "how long a delivered point is remembered, seconds")
    dedupe_by = Setting("MF_DEDUPE_BY", "content", choice("content", "message"), "`content`, or `message` for producers that count with coarse timestamps")
    max_age_s = Setting("MF_MAX_AGE_S", "300", seconds(0, _TEN_YEARS_S), "seconds: a point with an older `timestamp` is `stale`; 0: no limit")
    max_ahead_s = Setting("MF_MAX_AHEAD_S", "600", seconds(0, _TEN_YEARS_S), "seconds: a point whose time is further ahead of the clock is `invalid`; 0: no limit")
    uncertain = Setting("MF_UNCERTAIN", "resend", choice("resend", "hold"), "a request that got no reply: `resend` it, or `hold` it and report `uncertain`")
    spool = Setting("MF_SPOOL", "", readers.spool, "where points that cannot be delivered now, and dead letters, are kept: `file:///path`, `redis://…` or `rediss://…`")
    http_token = Setting("MF_HTTP_TOKEN", "", readers.token, "HTTP clients that send it are let in: `Authorization: Bearer …`; 20 characters or more")
    http_auth = Setting("MF_HTTP_AUTH", "token", choice("token", "cam"), "`token` (`MF_HTTP_TOKEN`), or `cam`: the platform authenticates HTTP clients")
    bridge_accounts = Setting("MF_BRIDGE_ACCOUNTS", "", readers.bridge_accounts, "clients of the receiver that the function serves in the receiver's place: `own` (they sign with the forwarder's key), `ID:KEY,ID:KEY` or `{\"ID\": \"KEY\"}`")
    cos_buckets = Setting("MF_COS_BUCKETS", "", readers.buckets, "buckets whose objects are read, with their APPID: `name-1250000000,…`; empty: those of the function's own account")
    scrape_hosts = Setting("MF_SCRAPE_HOSTS", "", readers.hosts, "hosts that a timer may scrape: `10.0.0.5:9100,node.internal`; empty: no host")
    format = Setting("MF_FORMAT", "auto", readers.formats, "the format of messages: `auto` (detected by their shape), one format of docs/formats.md, or one for each topic: `topic=influx,prefix*=otlp-json,auto`")
    mapping = Setting("MF_MAPPING", "", readers.text, "for JSON in none of the formats of docs/formats.md: where its samples are, as JSON text or a JSON file of the package")
    influx_precision = Setting("MF_INFLUX_PRECISION", "ns", choice("ns", "us", "ms", "s"), "the unit of times in influx line protocol: `ns`, `us`, `ms` or `s`")
    otlp_resource = Setting("MF_OTLP_RESOURCE", "filtered", choice("filtered", "target_info", "labels"), "attributes of an OTLP resource, except the service's name and instance: `filtered`, a metric `target_info`, or `labels` of each point")
    labels = Setting("MF_LABELS", "", readers.labels, "dimensions that are added to each point without them: `env=prod,region=gz`")
    relabel = Setting("MF_RELABEL", "", readers.text, "rules for every point, like Prometheus's `relabel_config`: a JSON file of the package, or JSON text")
    schema = Setting("MF_SCHEMA", "", readers.text, "a JSON Schema (draft-07) file of your own for a point")
    self_metrics = Setting("MF_SELF_METRICS", "off", choice("off", "on"), "`on`: the forwarder's own metrics are written to `MF_REMOTE_WRITE_URL`, for every destination, and `serve` shows them at `/metrics`")
    self_metrics_interval_s = Setting("MF_SELF_METRICS_INTERVAL_S", "30", seconds(1, 3600), "shortest time between two writes of an instance's own metrics, seconds")
    log_level = Setting("MF_LOG_LEVEL", "INFO", choice("DEBUG", "INFO", "WARN", "ERROR"), "`DEBUG`, `INFO`, `WARN` or `ERROR`")
    # fmt: on

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"settings are read once, so {name} cannot be set")

    def value_of(self, variable: str) -> object:
        """The value of the setting with the name of this environment variable."""
        return getattr(self, next(each.field for each in SETTINGS if each.name == variable))

    @property
    def kind(self) -> DestinationKind:
        """The row of the destination."""
        return DESTINATIONS[self.destination]

    @classmethod
    def read(
        cls, environ: Mapping[str, str], *, platform_region: str = "", to_send: bool = True
    ) -> "Settings":
        """Read the ``MF_`` variables of ``environ``.

        Args:
            environ: all environment variables; an empty value means the default.
            platform_region: the region the platform says the function runs in, for when ``MF_REGION`` is empty.
            to_send: False: settings that only sending needs (the key, a region) may be missing; they are empty then.

        Raises:
            ConfigError: with every problem, not just the first.
        """
        settings, problems = cls.collect(environ, platform_region=platform_region, to_send=to_send)
        if problems:
            raise ConfigError(problems)
        return settings

    @classmethod
    def collect(
        cls, environ: Mapping[str, str], *, platform_region: str = "", to_send: bool = True
    ) -> "tuple[Settings, list[str]]":
        """Read as ``read`` does, but return the problems, and settings with a usable value in place of each bad one."""
        problems: list[str] = []
        unknown_destination: list[str] = []
        values = fill_all(SETTINGS[:1], environ, {}, unknown_destination)
        # What such a destination needs is not known.
        to_send = to_send and not unknown_destination
        defaults = DESTINATIONS[values["destination"]].defaults
        values = fill_all(SETTINGS, environ, defaults, problems)
        given_region = values["region"]
        values["region"] = _region(values, platform_region)
        settings = cls(values)
        is_given = frozenset(each.name for each in SETTINGS if environ.get(each.name, "").strip())
        if to_send:
            problems += _lacking(settings, is_given)
        if given_region or "MF_REGION" not in is_given:
            problems += _region_problems(settings, given_region, platform_region.strip(), to_send=to_send)
        problems += _contradictions(settings)
        problems += _unknown(environ)
        return settings, problems


SETTINGS = declared(Settings)
"""All settings, in the order of the README's table."""
_NAMES = frozenset(each.name for each in SETTINGS)


def _region(values: Mapping[str, Any], platform_region: str) -> str:
    """The region of the settings, otherwise the platform's; empty if it cannot be used."""
    needs_code = DESTINATIONS[values["destination"]].uses_account
    found: str = values["region"] or _platforms_region(platform_region)
    return "" if needs_code and found not in REGION_NAMES else found


def _platforms_region(text: str) -> str:
    try:
        return readers.region(text.strip())
    except BadValue:
        return ""


def _region_problems(settings: Settings, given: str, platform_region: str, *, to_send: bool) -> Iterator[str]:
    if settings.region:
        return
    if given:
        yield f"MF_REGION {describe_value(given)}: set it to {readers.A_REGION}"
        return
    # A secret is in a region, too.
    reads_secret = settings.bridge_accounts == "own" and settings.secret_name
    if to_send and (settings.kind.uses_account or reads_secret):
        told = "is unknown"
        if platform_region:
            told = f"{describe_value(platform_region)}, for which the receiver has no code"
        yield f"MF_REGION is empty and the platform's region {told}: set it to {readers.A_REGION}"


def _lacking(settings: Settings, is_given: frozenset[str]) -> Iterator[str]:
    """The settings that are missing, and without which points cannot be sent."""
    for name, right in settings.kind.needs.items():
        if name not in is_given:
            yield f"{name} is empty: set it to {right}"
    has_user = "MF_REMOTE_WRITE_USER" in is_given and settings.kind.url == "MF_REMOTE_WRITE_URL"
    if has_user and "MF_REMOTE_WRITE_PASSWORD" not in is_given:
        yield "MF_REMOTE_WRITE_PASSWORD is empty: set it to that of MF_REMOTE_WRITE_USER, or remove the user"
    if settings.kind.uses_account or settings.bridge_accounts == "own":
        yield from _key_problems(is_given)


def _key_problems(is_given: frozenset[str]) -> Iterator[str]:
    """The main account's key must come either from the settings or from Secrets Manager."""
    given = [name for name in ("MF_SECRET_ID", "MF_SECRET_KEY") if name in is_given]
    if "MF_SECRET_NAME" in is_given:
        if given:
            yield (
                f"MF_SECRET_NAME and {' and '.join(given)} are set: choose one, the secret in Secrets Manager "
                "or the key itself"
            )
    elif not given:
        yield (
            "MF_SECRET_ID is empty, and so is MF_SECRET_NAME: set MF_SECRET_ID and MF_SECRET_KEY to the main "
            "account's key, or MF_SECRET_NAME to a secret in Secrets Manager that holds it"
        )
    elif len(given) == 1:
        empty = "MF_SECRET_KEY" if given == ["MF_SECRET_ID"] else "MF_SECRET_ID"
        yield f"{empty} is empty: set it to that of the main account, like {given[0]}"


def _contradictions(settings: Settings) -> Iterator[str]:
    # With a user it is encoded, so it may be any text.
    if not settings.remote_write_user and not is_plain(settings.remote_write_password.reveal()):
        yield (
            "MF_REMOTE_WRITE_PASSWORD cannot be used in a header: set it to letters, digits and punctuation, "
            "or set MF_REMOTE_WRITE_USER"
        )
    if settings.format and settings.format.names("mapping") and not settings.mapping:
        yield "MF_FORMAT names mapping and MF_MAPPING is empty: set MF_MAPPING to where the samples stand, or name another format"
    if settings.http_token and settings.http_auth == "cam":
        yield "MF_HTTP_TOKEN is set, but MF_HTTP_AUTH is cam, so the platform decides who is let in: keep one"


def _unknown(environ: Mapping[str, str]) -> Iterator[str]:
    """Find misspelt variables, which would otherwise be ignored silently."""
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in _NAMES:
            yield f"{name} is not a setting of the forwarder{_nearest(name)}"


def _nearest(name: str) -> str:
    # Imported only to explain a mistake.
    from difflib import get_close_matches  # noqa: PLC0415

    matches = get_close_matches(name, [each.name for each in SETTINGS], n=1)
    return (
        f": did you mean {matches[0]}?" if matches else ": remove it, or see the settings table of the README"
    )
