"""Reads the ``redis://`` and ``rediss://`` URLs of settings without the ``redis`` package."""

import re
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from metric_forwarder.secret import Secret

SCHEMES = ("redis", "rediss")
WOULD_BE_RIGHT = (
    "redis://user:password@host:port/database or rediss://… for TLS (user, port 6379 and database 0 may be left out; "
    "a password's special characters percent-encoded: @ is %40)"
)
_DEFAULT_PORT = 6379
_OPTIONS = frozenset({"ssl_ca_certs", "ssl_check_hostname"})
_BOOLEANS = {"true": True, "false": False}


_NO_PASSWORD = Secret("")
_HOST = re.compile(r"[\w.-]+|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*")


def names_host(parts: SplitResult) -> bool:
    """Whether a URL's host can be looked up: none of its labels is empty or longer than 63 characters."""
    name = parts.hostname or ""
    if not _HOST.fullmatch(name) or (":" in name) != ("[" in parts.netloc.rpartition("@")[2]):
        return False
    try:
        # A look-up does the same with a name, and raises for the same names.
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


class BadRedisUrl(ValueError):
    """What is wrong with a URL; the text shows nothing of the URL, which may hold a password anywhere."""


class RedisAddress(NamedTuple):
    """The address of Redis, and the credentials for it.

    Attributes:
        username: of an ACL user (Redis 6 or newer); empty: the default user.
        password: empty: no authentication.
        tls: whether the connection is encrypted and the server's certificate checked.
        ca_file: a file with the certificates to trust; empty: the system's.
        check_hostname: whether the certificate must name the host.
    """

    host: str
    port: int = _DEFAULT_PORT
    database: int = 0
    username: str = ""
    password: Secret = _NO_PASSWORD
    tls: bool = False
    ca_file: str = ""
    check_hostname: bool = True

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.database}"


def parse_redis_url(url: str) -> RedisAddress:
    """Read a URL.

    ``rediss`` takes the options ``?ssl_ca_certs=/path/to/ca.pem`` and ``&ssl_check_hostname=false``, named as in
    the ``redis`` package.

    Raises:
        BadRedisUrl: it is malformed.
    """
    if not url.isprintable() or " " in url:
        raise BadRedisUrl("it holds a space or a control character")
    try:
        parts = urlsplit(url)
        port = _DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        # The library's message quotes the text, which may be a part of the password.
        raise BadRedisUrl("its host or port cannot be read") from None
    if parts.scheme not in SCHEMES:
        raise BadRedisUrl("its scheme is neither redis nor rediss")
    if not parts.hostname or port == 0:
        raise BadRedisUrl("it names no host, or the port 0")
    if not names_host(parts):
        raise BadRedisUrl(
            "its host is neither a name nor an address, or has a part that is empty or longer than 63 characters"
        )
    if parts.fragment or "#" in url:
        raise BadRedisUrl("it holds a #")
    tls = parts.scheme == "rediss"
    ca_file, check_hostname = _options(parts.query, tls=tls)
    return RedisAddress(
        host=parts.hostname,
        port=port,
        database=_database(parts.path),
        username=unquote(parts.username or ""),
        password=Secret(unquote(parts.password or "")),
        tls=tls,
        ca_file=ca_file,
        check_hostname=check_hostname,
    )


def _database(path: str) -> int:
    text = path.removeprefix("/")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 5):  # noqa: PLR2004 - no server has more than 99,999
        raise BadRedisUrl("its path is not the number of a database")
    return int(text)


def _options(query: str, *, tls: bool) -> tuple[str, bool]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if options and not tls:
        raise BadRedisUrl("it has options, which only rediss takes")
    if not options.keys() <= _OPTIONS or (query and not options):
        raise BadRedisUrl(f"it has an option other than {' and '.join(sorted(_OPTIONS))}")
    if "\0" in options.get("ssl_ca_certs", ""):
        raise BadRedisUrl("its ssl_ca_certs cannot be a file")
    check = options.get("ssl_check_hostname", "true").lower()
    if check not in _BOOLEANS:
        raise BadRedisUrl("its ssl_check_hostname is neither true nor false")
    return options.get("ssl_ca_certs", ""), _BOOLEANS[check]
