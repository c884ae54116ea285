"""What the environment variables mean: text in, one frozen ``Settings`` out, or all problems at once.

This module reads no environment itself; ``bootstrap`` hands it one for each invocation, since the platform
refreshes variables between invocations.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from metric_forwarder.errors import ConfigError
from metric_forwarder.put_monitor_data.regions import short_region
from metric_forwarder.secret import Secret, held, is_plain
from metric_forwarder.settings.redis_address import (
    SCHEMES,
    WOULD_BE_RIGHT,
    BadRedisUrl,
    RedisAddress,
    names_host,
    parse_redis_url,
)

PREFIX = "MF_"
_MAX_NAMESPACE = 32
_THIS_MACHINE = frozenset({"127.0.0.1", "localhost", "::1"})
# host, host:port, [IPv6] or [IPv6]:port; no other character can be taken for part of a URL.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{0,80}-[0-9]+")
_HOST = re.compile(r"([a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_A_REGION = "a region such as gz or ap-guangzhou"
# The full name of a region, whether or not the receiver has a code for it.
_REGION = re.compile(r"[a-z]{2,4}(-[a-z0-9]{2,20}){1,3}")
# What is shorter can be guessed by whoever may call a public address as often as they like.
_SHORTEST_TOKEN = 20
# A petabyte is enough for a spool, in digits of MB.
_DIGITS = 9
_T = TypeVar("_T")


class Variable(NamedTuple):
    """One line of the settings table: README and ``serverless.yml`` are tested against it."""

    name: str
    default: str
    meaning: str


VARIABLES: tuple[Variable, ...] = (
    Variable("MF_DESTINATION", "receiver", "where points go: `receiver` or `remote-write` (Prometheus)"),
    Variable(
        "MF_RECEIVER_URL",
        "http://receiver.monitor.tencentyun.com:8080/v2/index.php",
        "the receiver; its older path `/report.cgi` works too",
    ),
    Variable("MF_RECEIVER_METHOD", "POST", "`POST` or `GET`"),
    Variable(
        "MF_SECRET_ID", "", "SecretId of the main account: the receiver accepts no sub-account and no role"
    ),
    Variable("MF_SECRET_KEY", "", "SecretKey of the main account"),
    Variable(
        "MF_SECRET_NAME",
        "",
        'in their place: a secret in Secrets Manager whose text is `{"SecretId": "…", "SecretKey": "…"}`',
    ),
    Variable("MF_SECRET_VERSION", "SSM_Current", "the secret's version; one of your own making may be `v1`"),
    Variable(
        "MF_SECRET_ENDPOINT",
        "https://ssm.tencentcloudapi.com",
        "where Secrets Manager is, seen from the function",
    ),
    Variable(
        "MF_REGION", "", "short (`gz`) or full (`ap-guangzhou`); empty: the region the function runs in"
    ),
    Variable(
        "MF_REMOTE_WRITE_URL",
        "",
        "for `remote-write`: the endpoint, such as `http://10.0.0.5:9090/api/v1/prom/write`; "
        "the settings of the receiver, of its key and of the region are not needed then",
    ),
    Variable(
        "MF_REMOTE_WRITE_USER",
        "",
        "user of basic authentication: the APPID, or the SecretId of a CLS metric topic; "
        "empty: the password is sent as a bearer token",
    ),
    Variable("MF_REMOTE_WRITE_PASSWORD", "", "its password or token, or the SecretKey; empty: none is sent"),
    Variable("MF_NAMESPACE", "", "for points that name none"),
    Variable("MF_BATCH_MAX_POINTS", "30", "points in one request, at most; 500 for `remote-write`"),
    Variable(
        "MF_BATCH_MAX_BYTES",
        "65536",
        "bytes of points in one request before compression, at most; 1000000 for `remote-write`",
    ),
    Variable("MF_CONCURRENCY", "4", "requests under way at once; points of one series keep their order"),
    Variable("MF_MAX_RPS", "", "requests a second of this instance, at most; empty: no limit"),
    Variable("MF_MAX_ATTEMPTS", "4", "how often one batch is tried, at most"),
    Variable("MF_REQUEST_TIMEOUT_S", "3", "seconds to wait for a connection, and for an answer"),
    Variable(
        "MF_DEADLINE_MARGIN_MS",
        "1000",
        "kept back from the function's time limit for the reply; at most half of it",
    ),
    Variable(
        "MF_DEDUPE",
        "memory:",
        "`memory:` (this warm instance), `redis://…` or `rediss://…` (all instances) or `off`",
    ),
    Variable("MF_DEDUPE_WINDOW_S", "600", "how long a delivered point is remembered, seconds"),
    Variable(
        "MF_DEDUPE_BY", "content", "`content`, or `message` for producers that count with coarse timestamps"
    ),
    Variable("MF_MAX_AGE_S", "300", "a point with an older `timestamp` is `stale`, seconds; 0: no limit"),
    Variable(
        "MF_MAX_AHEAD_S",
        "600",
        "a point whose time is further ahead of the clock is `invalid`, seconds; 0: no limit",
    ),
    Variable(
        "MF_UNCERTAIN",
        "resend",
        "a request that got no answer: `resend` it, or `hold` it and report `uncertain`",
    ),
    Variable(
        "MF_SPOOL",
        "",
        "keeps what cannot be delivered now, and dead letters: `file:///path`, `redis://…` or `rediss://…`",
    ),
    Variable(
        "MF_HTTP_TOKEN",
        "",
        "lets clients in over HTTP that send it: `Authorization: Bearer …`; 20 characters or more",
    ),
    Variable(
        "MF_HTTP_AUTH",
        "token",
        "`token` (`MF_HTTP_TOKEN`), or `cam`: the platform authenticates HTTP clients",
    ),
    Variable(
        "MF_BRIDGE_ACCOUNTS",
        "",
        "answers clients of the receiver in its place: `own` (they sign with the forwarder's key), "
        '`ID:KEY,ID:KEY` or `{"ID": "KEY"}`',
    ),
    Variable(
        "MF_COS_BUCKETS",
        "",
        "buckets whose objects are read, with their APPID: `name-1250000000,…`; empty: those of the function's own account",
    ),
    Variable(
        "MF_SCRAPE_HOSTS", "", "hosts that a timer may scrape: `10.0.0.5:9100,node.internal`; empty: none"
    ),
    Variable("MF_SCHEMA", "", "a JSON Schema (draft-07) file of your own for a point"),
    Variable("MF_LOG_LEVEL", "INFO", "`DEBUG`, `INFO`, `WARN` or `ERROR`"),
)
_DEFAULTS = {variable.name: variable.default for variable in VARIABLES}
_REMOTE_WRITE_DEFAULTS = {**_DEFAULTS, "MF_BATCH_MAX_POINTS": "500", "MF_BATCH_MAX_BYTES": "1000000"}


class Settings(NamedTuple):
    """The settings in force for one invocation; seconds and bytes unless the name says otherwise."""

    destination: str
    receiver_url: str
    receiver_method: str
    secret_id: str
    secret_key: Secret
    secret_name: str
    secret_version: str
    secret_endpoint: str
    region: str
    remote_write_url: str
    remote_write_user: str
    remote_write_password: Secret
    namespace: str
    batch_max_points: int
    batch_max_bytes: int
    concurrency: int
    max_rps: float | None
    max_attempts: int
    request_timeout_s: float
    deadline_margin_ms: int
    dedupe: str
    dedupe_redis: RedisAddress | None
    dedupe_window_s: float
    dedupe_by: str
    max_age_s: float
    max_ahead_s: float
    uncertain: str
    spool: str
    spool_redis: RedisAddress | None
    http_token: Secret
    http_auth: str
    bridge: str
    bridge_accounts: tuple[tuple[str, Secret], ...]
    cos_buckets: tuple[str, ...]
    scrape_hosts: tuple[str, ...]
    schema: str
    log_level: str

    @classmethod
    def read(
        cls, environ: Mapping[str, str], *, platform_region: str = "", to_send: bool = True
    ) -> "Settings":
        """Read the ``MF_`` variables of ``environ``.

        Args:
            environ: all environment variables; an empty value means the default.
            platform_region: the region the platform says the function runs in, for when ``MF_REGION`` is empty.
            to_send: False lets what only sending needs (the key, a region) be absent; it is empty then.

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
        """Read as ``read`` does, but return what is wrong beside settings with something usable in each such place."""
        reader = _Reader(environ, to_send=to_send)
        bridge, bridge_accounts = reader.accounts("MF_BRIDGE_ACCOUNTS")
        spool, spool_redis = reader.spool("MF_SPOOL")
        dedupe, dedupe_redis = reader.store("MF_DEDUPE", ("memory:", "off"))
        destination = reader.destination("MF_DESTINATION")
        settings = cls(
            destination=destination,
            receiver_url=reader.url("MF_RECEIVER_URL", ("http", "https")),
            receiver_method=reader.choice("MF_RECEIVER_METHOD", ("POST", "GET")),
            secret_id=reader.key("MF_SECRET_ID"),
            secret_key=Secret(reader.key("MF_SECRET_KEY")),
            secret_name=reader.text("MF_SECRET_NAME"),
            secret_version=reader.text("MF_SECRET_VERSION"),
            secret_endpoint=reader.origin("MF_SECRET_ENDPOINT"),
            region=reader.region("MF_REGION", platform_region),
            remote_write_url=reader.endpoint("MF_REMOTE_WRITE_URL"),
            remote_write_user=reader.user("MF_REMOTE_WRITE_USER"),
            remote_write_password=reader.token("MF_REMOTE_WRITE_PASSWORD"),
            namespace=reader.namespace("MF_NAMESPACE"),
            batch_max_points=reader.whole("MF_BATCH_MAX_POINTS", 1, 10_000),
            batch_max_bytes=reader.whole("MF_BATCH_MAX_BYTES", 256, 6_000_000),
            concurrency=reader.whole("MF_CONCURRENCY", 1, 64),
            max_rps=reader.rate("MF_MAX_RPS"),
            max_attempts=reader.whole("MF_MAX_ATTEMPTS", 1, 100),
            request_timeout_s=reader.seconds("MF_REQUEST_TIMEOUT_S", 0.05, 900),
            deadline_margin_ms=reader.whole("MF_DEADLINE_MARGIN_MS", 0, 600_000),
            dedupe=dedupe,
            dedupe_redis=dedupe_redis,
            dedupe_window_s=reader.seconds("MF_DEDUPE_WINDOW_S", 1, 7 * 86400),
            dedupe_by=reader.choice("MF_DEDUPE_BY", ("content", "message")),
            max_age_s=reader.seconds("MF_MAX_AGE_S", 0, 10 * 365 * 86400),
            max_ahead_s=reader.seconds("MF_MAX_AHEAD_S", 0, 10 * 365 * 86400),
            uncertain=reader.choice("MF_UNCERTAIN", ("resend", "hold")),
            spool=spool,
            spool_redis=spool_redis,
            http_token=reader.token("MF_HTTP_TOKEN", shortest=_SHORTEST_TOKEN),
            http_auth=reader.choice("MF_HTTP_AUTH", ("token", "cam")),
            bridge=bridge,
            bridge_accounts=bridge_accounts,
            cos_buckets=reader.buckets("MF_COS_BUCKETS"),
            scrape_hosts=reader.hosts("MF_SCRAPE_HOSTS"),
            schema=reader.text("MF_SCHEMA"),
            log_level=reader.choice("MF_LOG_LEVEL", ("DEBUG", "INFO", "WARN", "ERROR")),
        )
        if to_send and destination == "remote-write":
            reader.check_remote_write()
        if to_send and (destination == "receiver" or bridge == "own"):
            reader.require_one_key()
        if settings.http_token and settings.http_auth == "cam":
            reader.problems.append(
                "MF_HTTP_TOKEN is set while MF_HTTP_AUTH is cam, which lets in whom the platform lets in: keep one"
            )
        reader.refuse_unknown()
        return settings, reader.problems


class _Reader:
    """Reads one variable after the other and collects what is wrong with them."""

    def __init__(self, environ: Mapping[str, str], *, to_send: bool) -> None:
        self._environ = environ
        self._to_send = to_send
        self._defaults = _DEFAULTS
        self._is_for_receiver = True
        self._checks_own_key = False
        self.problems: list[str] = []

    def text(self, name: str) -> str:
        return self._environ.get(name, "").strip() or self._defaults[name]

    def destination(self, name: str) -> str:
        """Where points go; what the other settings are by default depends on it."""
        value = self.choice(name, ("receiver", "remote-write"))
        if value == "remote-write":
            self._defaults = _REMOTE_WRITE_DEFAULTS
            self._is_for_receiver = False
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.text(name)
        for choice in choices:
            if value.lower() == choice.lower():
                return choice
        return self._wrong(name, " or ".join(choices), choices[0])

    def whole(self, name: str, minimum: int, maximum: int) -> int:
        return self._number(name, int, "a whole number", minimum, maximum)

    def seconds(self, name: str, minimum: float, maximum: float) -> float:
        return self._number(name, float, "a number of seconds", minimum, maximum)

    def rate(self, name: str) -> float | None:
        if not self.text(name):
            return None
        return self._number(name, float, "a number of requests a second", 0.01, 100_000)

    def spool(self, name: str) -> tuple[str, RedisAddress | None]:
        """``file:///folder``, ``file:///folder?max_mb=512``, or ``redis`` and where it is."""
        value = self.text(name)
        if value.lower().startswith(tuple(f"{scheme}:" for scheme in SCHEMES)):
            return self.store(name, ())
        if not value or _is_spool_folder(value):
            return value, None
        right = "file:///folder, file:///folder?max_mb=512, redis://host or rediss://host"
        return self._wrong(name, right, ""), None

    def url(self, name: str, schemes: tuple[str, ...]) -> str:
        value = self.text(name)
        parts = _split(value)
        is_bare = "?" not in value and "#" not in value
        if parts is None or parts.scheme not in schemes or not parts.path or not is_bare:
            right = f"{' or '.join(schemes)}://host:port/path, without user, password, query or fragment"
            return self._wrong(name, right, self._defaults[name])
        return value

    def endpoint(self, name: str) -> str:
        """A URL, or nothing."""
        return self.url(name, ("http", "https")) if self.text(name) else ""

    def user(self, name: str) -> str:
        value = self.text(name)
        if ":" not in value and value.isprintable():
            return value
        self.problems.append(f"{name} cannot stand in basic authentication: set it without a colon")
        return ""

    def check_remote_write(self) -> None:
        """What points cannot be sent by remote write without."""
        if not self.text("MF_REMOTE_WRITE_URL"):
            self.problems.append(
                "MF_REMOTE_WRITE_URL is empty: set it to the endpoint that takes Prometheus remote write, such as "
                "http://10.0.0.5:9090/api/v1/prom/write"
            )
        if self.text("MF_REMOTE_WRITE_USER") and not self.text("MF_REMOTE_WRITE_PASSWORD"):
            self.problems.append(
                "MF_REMOTE_WRITE_PASSWORD is empty: set it to that of MF_REMOTE_WRITE_USER, or remove the user"
            )

    def origin(self, name: str) -> str:
        """``https://host[:port]``; what goes there is secret, so ``http`` only to this machine."""
        value = self.text(name).rstrip("/")
        parts = _split(value)
        if parts is not None and value == f"{parts.scheme}://{parts.netloc}":
            is_here = parts.scheme == "http" and parts.hostname in _THIS_MACHINE
            if parts.scheme == "https" or is_here:
                return value
        right = "https://host, without path, user or password; http://127.0.0.1:port for a test"
        return self._wrong(name, right, self._defaults[name])

    def require_one_key(self) -> None:
        """The main account's key comes from the settings or from Secrets Manager: one of the two."""
        given = [name for name in ("MF_SECRET_ID", "MF_SECRET_KEY") if self.text(name)]
        if self.text("MF_SECRET_NAME"):
            if given:
                self.problems.append(
                    f"MF_SECRET_NAME and {' and '.join(given)} are set: choose one, the secret in Secrets Manager "
                    "or the key itself"
                )
        elif not given:
            self.problems.append(
                "MF_SECRET_ID is empty, and so is MF_SECRET_NAME: set MF_SECRET_ID and MF_SECRET_KEY to the main "
                "account's key, or MF_SECRET_NAME to a secret in Secrets Manager that holds it"
            )
        elif len(given) == 1:
            empty = "MF_SECRET_KEY" if given == ["MF_SECRET_ID"] else "MF_SECRET_ID"
            self.problems.append(f"{empty} is empty: set it to that of the main account, like {given[0]}")

    def key(self, name: str) -> str:
        """Half of a key; neither half is ever shown."""
        value = self.text(name)
        if not is_plain(value):
            self.problems.append(
                f"{name} holds characters that no key of Tencent Cloud has: copy it again, letters and digits alone"
            )
        return value

    def token(self, name: str, *, shortest: int = 0) -> Secret:
        value = self.text(name)
        if not is_plain(value):
            self.problems.append(
                f"{name} cannot stand in a header: set it to letters, digits and punctuation"
            )
            return Secret("")
        if 0 < len(value) < shortest:
            self.problems.append(
                f"{name} is short enough to be guessed: set it to {shortest} random characters or more, such as "
                "those that openssl rand -hex 16 prints"
            )
        return Secret(value)

    def accounts(self, name: str) -> tuple[str, tuple[tuple[str, Secret], ...]]:
        """``own``, or ``listed`` and the accounts, or nothing; a wrong value is never shown, it may hold keys."""
        value = self.text(name)
        self._checks_own_key = value.lower() == "own"
        if not value or self._checks_own_key:
            return value.lower(), ()
        found = _read_accounts(value)
        if not found:
            self.problems.append(
                f'{name} cannot be read: set it to own, to ID:KEY,ID:KEY, or to {{"ID": "KEY"}}, each a SecretId and '
                "its SecretKey"
            )
        return "listed", tuple((secret_id, Secret(key)) for secret_id, key in sorted(found.items()))

    def hosts(self, name: str) -> tuple[str, ...]:
        hosts = tuple(host.strip().lower() for host in self.text(name).split(",") if host.strip())
        for number, host in enumerate(hosts, 1):
            if not _HOST.fullmatch(host):
                right = f"hosts, each as host or host:port, between commas; number {number} is none"
                return self._wrong(name, right, ())
        return hosts

    def buckets(self, name: str) -> tuple[str, ...]:
        buckets = tuple(bucket.strip() for bucket in self.text(name).split(",") if bucket.strip())
        if not all(map(_BUCKET.fullmatch, buckets)):
            return self._wrong(
                name, "buckets between commas, each with its APPID, such as metrics-1250000000", ()
            )
        return buckets

    def store(self, name: str, choices: tuple[str, ...]) -> tuple[str, RedisAddress | None]:
        """A choice, or ``redis`` and where it is."""
        value = self.text(name)
        if not value.lower().startswith(tuple(f"{scheme}:" for scheme in SCHEMES)):
            return self.choice(name, (*choices, "redis://…", "rediss://…")), None
        try:
            return "redis", parse_redis_url(value)
        except BadRedisUrl as bad:
            self.problems.append(
                f"{name} holds a URL that cannot be used ({bad}): set it to {WOULD_BE_RIGHT}"
            )
            return "redis", None

    def region(self, name: str, platform_region: str) -> str:
        """The receiver's code of a region; without a receiver its full name does as well, or nothing."""
        given = self.text(name)
        value = given or platform_region.strip()
        short = short_region(value)
        if short is not None:
            return short
        if not self._is_for_receiver and _REGION.fullmatch(value.lower()):
            return value.lower()
        if given:
            return self._wrong(name, _A_REGION, "")
        # The secret is one of a region, too.
        reads_secret = self._checks_own_key and self.text("MF_SECRET_NAME")
        if self._to_send and (self._is_for_receiver or reads_secret):
            told = f"{held(value)}, for which the receiver has no code" if value else "is not told"
            self.problems.append(f"{name} is empty and the platform's region {told}: set it to {_A_REGION}")
        return ""

    def namespace(self, name: str) -> str:
        value = self.text(name)
        if len(value) > _MAX_NAMESPACE or not all(c == "_" or (c.isascii() and c.isalnum()) for c in value):
            return self._wrong(name, "at most 32 letters, digits and underscores", "")
        return value

    def refuse_unknown(self) -> None:
        """A misspelt variable would otherwise be a setting lost in silence."""
        for name in sorted(self._environ):
            if name.startswith(PREFIX) and name not in _DEFAULTS:
                self.problems.append(f"{name} is no setting of the forwarder{_nearest(name)}")

    def _number(self, name: str, kind: Callable[[str], _T], what: str, minimum: float, maximum: float) -> _T:
        try:
            value = kind(self.text(name))
            if minimum <= float(value) <= maximum:  # type: ignore[arg-type]  # kind is int or float
                return value
        except (ValueError, OverflowError):
            pass
        right = f"{what} from {minimum:.12g} to {maximum:.12g}"
        return self._wrong(name, right, kind(_DEFAULTS[name] or "1"))

    def _wrong(self, name: str, right: str, fallback: _T) -> _T:
        self.problems.append(f"{name} {held(self.text(name))}: set it to {right}")
        return fallback


def _split(url: str) -> SplitResult | None:
    """Take a URL apart; None if it is none, no connection to its host could be tried, or it holds a user."""
    if not url.isprintable() or "@" in url or " " in url:
        return None
    try:
        parts = urlsplit(url)
        is_usable = names_host(parts) and parts.port != 0
    except ValueError:
        return None
    return parts if is_usable else None


def _is_spool_folder(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    options = parse_qs(parts.query, keep_blank_values=True)
    max_mb = options.pop("max_mb", ["1"])[-1]
    is_size = max_mb.isascii() and max_mb.isdigit() and len(max_mb) <= _DIGITS and int(max_mb) > 0
    is_folder = len(parts.path) > 1 and "\0" not in unquote(parts.path)
    return parts.scheme == "file" and not parts.netloc and is_folder and not options and is_size


def _read_accounts(value: str) -> dict[str, str]:
    """SecretId → SecretKey; empty if the text is neither of the two forms."""
    if value.startswith("{"):
        try:
            pairs = json.loads(value, object_pairs_hook=list)
        except (ValueError, RecursionError):
            return {}
    else:
        pairs = [account.strip().partition(":")[::2] for account in value.split(",") if account.strip()]
    usable = all(
        isinstance(text, str) and text.strip() and is_plain(text.strip()) for pair in pairs for text in pair
    )
    found = {secret_id.strip(): key.strip() for secret_id, key in pairs} if usable else {}
    return found if len(found) == len(pairs) else {}


def _nearest(name: str) -> str:
    # Needed only to explain a mistake, so its import is paid for only then.
    from difflib import get_close_matches  # noqa: PLC0415

    matches = get_close_matches(name, list(_DEFAULTS), n=1)
    return (
        f": did you mean {matches[0]}?" if matches else ": remove it, or see the settings table of the README"
    )
