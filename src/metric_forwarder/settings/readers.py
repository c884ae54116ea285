"""Readers of the texts of settings: each returns a value, or raises a ``BadValue`` that says what would be right."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from metric_forwarder.model import is_label_name
from metric_forwarder.put_monitor_data.regions import short_region
from metric_forwarder.secret import Secret, is_plain
from metric_forwarder.settings.declaration import BadValue
from metric_forwarder.settings.redis_address import (
    SCHEMES,
    WOULD_BE_RIGHT,
    BadRedisUrl,
    RedisAddress,
    names_host,
    parse_redis_url,
)

if TYPE_CHECKING:
    from metric_forwarder.formats.detect import FormatRules

_Number = TypeVar("_Number", int, float)

# What the package is unpacked into.
_PACKAGE = Path(__file__).resolve().parents[2]

A_REGION = "a region such as gz or ap-guangzhou"
_MAX_NAMESPACE = 32
_THIS_MACHINE = frozenset({"127.0.0.1", "localhost", "::1"})
# host, host:port, [IPv6] or [IPv6]:port, without any character that could belong to another part of a URL.
_HOST = re.compile(r"([a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|\[(?P<ipv6>[0-9a-f:.]+)\])(:(?P<port>[0-9]{1,5}))?")
_LARGEST_PORT = 65_535
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{0,80}-[0-9]+")
# The full name of a region, whether or not the receiver has a code for it.
_REGION = re.compile(r"[a-z]{2,4}(-[a-z0-9]{2,20}){1,3}")
# A shorter token can be guessed by repeated calls of a public address.
_SHORTEST_TOKEN = 20
# Digits of a number of MB: up to a petabyte, which is enough for a spool.
_DIGITS = 9
# Characters that are never in a SecretId, a SecretKey or a token.
_is_one_key = re.compile(r"[^\s\"'`,;{}]*").fullmatch

# Headers that say how a request is encoded and who sends it; in lower case.
RESERVED_HEADERS = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "transfer-encoding",
        "user-agent",
        "x-prometheus-remote-write-version",
    }
)
_is_header_name = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_is_header_value = re.compile(r"[!-~]([ -~]*[!-~])?").fullmatch

BridgeAccounts = Literal["own"] | tuple[tuple[str, Secret], ...]


def text(value: str) -> str:
    return value


def choice(*choices: str) -> Callable[[str], str]:
    """One of some words, in upper or lower case."""

    def read(value: str) -> str:
        for each in choices:
            if value.lower() == each.lower():
                return each
        raise BadValue(" or ".join(choices))

    return read


def whole(minimum: int, maximum: int) -> Callable[[str], int]:
    return _number(int, "a whole number", minimum, maximum)


def seconds(minimum: float, maximum: float) -> Callable[[str], float]:
    return _number(float, "a number of seconds", minimum, maximum)


def rate(value: str) -> float | None:
    """Requests a second, or no limit."""
    return _read_rate(value) if value else None


def _number(
    kind: Callable[[str], _Number], what: str, minimum: float, maximum: float
) -> Callable[[str], _Number]:
    def read(value: str) -> _Number:
        try:
            number = kind(value)
            if minimum <= number <= maximum:
                return number
        except (ValueError, OverflowError):
            pass
        raise BadValue(f"{what} from {minimum:.12g} to {maximum:.12g}")

    return read


_read_rate = _number(float, "a number of requests a second", 0.01, 100_000)


def namespace(value: str) -> str:
    if len(value) > _MAX_NAMESPACE or not all(c == "_" or (c.isascii() and c.isalnum()) for c in value):
        raise BadValue("at most 32 letters, digits and underscores")
    return value


def region(value: str) -> str:
    """The receiver's code of a region, or the full name of a region without a code."""
    short = short_region(value)
    if short is not None:
        return short
    if value and not _REGION.fullmatch(value.lower()):
        raise BadValue(A_REGION)
    return value.lower()


# --- URLs and hosts -----------------------------------------------------------------------------------------


def url(value: str) -> str:
    """The URL for requests."""
    if not _is_url(value) or "?" in value:
        raise BadValue("http or https://host:port/path, without user, password, query or fragment")
    return value


def optional_url(value: str) -> str:
    """The URL for requests, which may have a query; or empty."""
    if value and not _is_url(value):
        raise BadValue("http or https://host:port/path, without user, password or fragment")
    return value


def _is_url(value: str) -> bool:
    parts = _split(value)
    return (
        parts is not None
        and parts.scheme in {"http", "https"}
        and bool(parts.path)
        and "#" not in value
        and f"{parts.path}{parts.query}".isascii()
    )


def origin(value: str) -> str:
    """``https://host[:port]``; secrets are sent there, so ``http`` only to this machine."""
    value = value.rstrip("/")
    parts = _split(value)
    if parts is not None and value == f"{parts.scheme}://{parts.netloc}":
        is_here = parts.scheme == "http" and parts.hostname in _THIS_MACHINE
        if parts.scheme == "https" or is_here:
            return value
    raise BadValue("https://host, without path, user or password; http://127.0.0.1:port for a test")


def _split(value: str) -> SplitResult | None:
    """Parse a URL; None if the text is not one, if no connection to its host could be tried, or if it holds a user."""
    if not value.isprintable() or "@" in value or " " in value:
        return None
    try:
        parts = urlsplit(value)
        is_usable = names_host(parts) and parts.port != 0
    except ValueError:
        return None
    return parts if is_usable else None


def hosts(value: str) -> tuple[str, ...]:
    found = tuple(host.strip().lower() for host in value.split(",") if host.strip())
    for number, host in enumerate(found, 1):
        if not _is_host(host):
            raise BadValue(f"hosts, each as host or host:port, between commas; number {number} is not one")
    return found


def _is_host(text: str) -> bool:
    parts = _HOST.fullmatch(text)
    if parts is None or not 0 < int(parts["port"] or 1) <= _LARGEST_PORT:
        return False
    return parts["ipv6"] is None or _is_ipv6(parts["ipv6"])


def _is_ipv6(text: str) -> bool:
    # Hardly any setting holds one.
    from ipaddress import AddressValueError, IPv6Address  # noqa: PLC0415

    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True


def buckets(value: str) -> tuple[str, ...]:
    found = tuple(bucket.strip() for bucket in value.split(",") if bucket.strip())
    if not all(map(_BUCKET.fullmatch, found)):
        raise BadValue("buckets between commas, each with its APPID, such as metrics-1250000000")
    return found


def dedupe(value: str) -> str | RedisAddress:
    """``memory:``, ``off``, or the address of Redis."""
    return _redis(value) or _dedupe_word(value)


_dedupe_word = choice("memory:", "off", "redis://…", "rediss://…")


def spool(value: str) -> str | RedisAddress:
    """``file:///folder``, ``file:///folder?max_mb=512``, the address of Redis, or empty."""
    address = _redis(value)
    if address is not None:
        return address
    if value and not _is_spool_folder(value):
        raise BadValue("file:///folder, file:///folder?max_mb=512, redis://host or rediss://host")
    return value


def _redis(value: str) -> RedisAddress | None:
    if not value.lower().startswith(tuple(f"{scheme}:" for scheme in SCHEMES)):
        return None
    try:
        address = parse_redis_url(value)
    except BadRedisUrl as bad:
        raise BadValue(f"set it to {WOULD_BE_RIGHT}", f"holds a URL that cannot be used ({bad})") from None
    return address._replace(ca_file=str(located(address.ca_file))) if address.ca_file else address


def _is_spool_folder(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    options = parse_qs(parts.query, keep_blank_values=True)
    max_mb = options.pop("max_mb", ["1"])[-1]
    is_size = max_mb.isascii() and max_mb.isdigit() and len(max_mb) <= _DIGITS and int(max_mb) > 0
    is_folder = len(parts.path) > 1 and "\0" not in unquote(parts.path)
    is_plain = not (parts.netloc or parts.fragment or options)
    return parts.scheme == "file" and is_plain and is_folder and is_size


def ca_file(value: str) -> str:
    """A file of certificates in PEM form, or empty; it is read, so that a wrong one is reported at once."""
    if value:
        # The first connection over TLS loads it anyway.
        import ssl  # noqa: PLC0415

        try:
            value = str(located(value))
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
        except (OSError, ValueError):
            raise BadValue("set it to a file of certificates in PEM form", "cannot be read") from None
    return value


# --- secrets: no message shows anything of their text -------------------------------------------------------


def key_id(value: str) -> str:
    """A SecretId."""
    if not is_plain(value):
        raise BadValue(
            "copy it again, only letters and digits",
            "holds characters that are never in a key of Tencent Cloud",
        )
    if not _is_one_key(value):
        raise BadValue(
            "set it to one key, without quotes and commas", "holds more than a key of Tencent Cloud"
        )
    return value


def key(value: str) -> Secret:
    """A SecretKey."""
    return Secret(key_id(value))


def user(value: str) -> str:
    """The user of basic authentication."""
    if ":" in value or not value.isprintable():
        raise BadValue("set it without a colon", "cannot be used in basic authentication")
    return value


def password(value: str) -> Secret:
    """A password of basic authentication, or without a user a token, which must be plain."""
    if not value.isprintable():
        raise BadValue("set it to printable characters", "cannot be used in basic authentication")
    return Secret(value)


def token(value: str) -> Secret:
    """A token that lets clients in."""
    if not is_plain(value):
        raise BadValue("set it to letters, digits and punctuation", "cannot be used in a header")
    if not _is_one_key(value):
        raise BadValue("set it to one token, without quotes and commas", "holds more than a token")
    if 0 < len(value) < _SHORTEST_TOKEN:
        raise BadValue(
            f"set it to {_SHORTEST_TOKEN} random characters or more, such as the output of openssl rand -hex 16",
            "is so short that it can be guessed",
        )
    return Secret(value)


def headers(value: str) -> tuple[tuple[str, Secret], ...]:
    """``NAME=VALUE,NAME=VALUE``: more headers for each request."""
    found: list[tuple[str, Secret]] = []
    names: set[str] = set()
    for number, pair in enumerate(filter(None, map(str.strip, value.split(","))), 1):
        name, _, content = (part.strip() for part in pair.partition("="))
        if not _is_header_name(name) or not _is_header_value(content):
            raise BadValue("set it to NAME=VALUE,NAME=VALUE", f"cannot be read at header number {number}")
        if name.lower() in RESERVED_HEADERS:
            raise BadValue("remove it", f"holds {name}, which the forwarder sets itself")
        if name.lower() in names:
            raise BadValue("name each header once", "names a header twice")
        names.add(name.lower())
        found.append((name, Secret(content)))
    return tuple(found)


def bridge_accounts(value: str) -> BridgeAccounts:
    """``own``, or accounts, each its SecretId and SecretKey; empty: the bridge is closed."""
    if value.lower() == "own":
        return "own"
    if not value:
        return ()
    found = _read_accounts(value)
    if not found:
        raise BadValue(
            'set it to own, to ID:KEY,ID:KEY, or to {"ID": "KEY"}, each a SecretId and its SecretKey',
            "cannot be read",
        )
    return tuple((secret_id, Secret(secret_key)) for secret_id, secret_key in sorted(found.items()))


def _read_accounts(value: str) -> dict[str, str]:
    """SecretId → SecretKey; empty if the text has neither form."""
    if value.startswith("{"):
        try:
            pairs = json.loads(value, object_pairs_hook=list)
        except (ValueError, RecursionError):
            return {}
    else:
        pairs = [account.strip().partition(":")[::2] for account in value.split(",") if account.strip()]
    usable = all(
        isinstance(each, str) and each.strip() and is_plain(each.strip()) for pair in pairs for each in pair
    )
    found = {secret_id.strip(): secret_key.strip() for secret_id, secret_key in pairs} if usable else {}
    return found if len(found) == len(pairs) else {}


def formats(value: str) -> "FormatRules | None":
    """The formats of messages by their topic; None: detected by their shape, which costs nothing for our own JSON."""
    if value == "auto":
        return None
    # Few functions name a format.
    from metric_forwarder.formats.detect import read_rules  # noqa: PLC0415

    try:
        return read_rules(value)
    except ValueError as wrong:
        raise BadValue(str(wrong).removeprefix("must be ")) from None


def labels(value: str) -> tuple[tuple[str, str], ...]:
    """Names and values, ``a=b,c=d``."""
    found: dict[str, str] = {}
    for part in value.split(",") if value.strip() else ():
        name, equals, text = (piece.strip() for piece in part.partition("="))
        if not equals or not is_label_name(name) or name.startswith("__") or not text or name in found:
            raise BadValue(
                "labels such as env=prod,region=gz: names of letters, digits and underscores, each once"
            )
        found[name] = text
    return tuple(found.items())


def text_or_file(value: str) -> str:
    """JSON text as it is, or what the file holds whose path is given in its place.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    text = value.strip()
    return text if is_json_text(text) else located(text).read_text("utf-8-sig")


class RepeatedName(ValueError):
    """A name stands twice in an object of JSON, of which ``json`` would keep the last silently.

    Attributes:
        name: the name.
    """

    def __init__(self, name: str) -> None:
        super().__init__("names a member of an object twice: keep one")
        self.name = name


def unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The ``object_pairs_hook`` for JSON of settings; raises ``RepeatedName``."""
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedName(next(name for name in names if names.count(name) > 1))
    return members


def is_json_text(value: str) -> bool:
    """Whether a setting that may name a file holds JSON text, or nothing, in its place."""
    return not value or value[0] in "[{"


def located(path: str) -> Path:
    """The file of a setting; a relative path that leads nowhere from the working directory is one of the package.

    It is not documented in which folder SCF starts a function.
    """
    found = Path(path)
    in_package = _PACKAGE / found
    return in_package if in_package.is_file() and not found.exists() else found
