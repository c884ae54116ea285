"""One connection to Redis. Only this module uses the ``redis`` package; every store in Redis shares it.

Nothing is retried here, and nothing waits longer than its timeout. Every error becomes ``RedisUnavailable``, whose text
holds no secret and no stored data.
"""

import hashlib
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import redis
from redis._parsers import _RESP2Parser
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from metric_forwarder.clients.redis_commands import CommandWriter
from metric_forwarder.settings.redis_address import RedisAddress

KEY_PREFIX = "mf:"
_COMMANDS = (
    "AUTH, SELECT, PING, TIME, EVAL, EVALSHA, GET, SET and DEL, and for a spool XADD, XDEL, XLEN, XRANGE, XREVRANGE, "
    "RENAMENX, PTTL and MEMORY USAGE,"
)


# Larger than any reply to the dedupe store.
MAX_REPLY_BYTES = 2**20
# The longest time for a whole reply, in timeouts.
_LONGEST_IN_TIMEOUTS = 10
UNANSWERED = (
    "Redis did not answer in time: check its load, the network and, with rediss://, whether TLS is on there"
)
NOT_REDIS = "the reply makes no sense: check that the address is that of a Redis"


class RedisUnavailable(Exception):
    """Redis did not do what it was asked; used only in the stores.

    Attributes:
        reason: what happened, and what to do about it.
        reconnect: whether a new connection may help at once: this one broke, or led to a replica.
        is_full: whether it has no memory left; deleting still works.
        is_wrong_type: whether a key holds a value of another type.
    """

    def __init__(
        self,
        reason: str,
        *,
        reconnect: bool = False,
        is_full: bool = False,
        is_wrong_type: bool = False,
    ) -> None:
        self.reason = reason
        self.reconnect = reconnect
        self.is_full = is_full
        self.is_wrong_type = is_wrong_type
        super().__init__(reason)


class Script:
    """A Lua script; all its keys must be in one slot, or a cluster refuses it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class SetEach(Script):
    """SET for each key, all sent at once: half the work for the server that a script has which calls SET for each.

    Its arguments are how many milliseconds the first key lasts, how many the others last, and the value of each key. Its reply
    has a letter for each key: ``o`` if it was set, ``h`` if it was there already and the option is NX.
    """

    def __init__(self, *options: str) -> None:
        super().__init__(f"SET {' '.join(options)}")
        self.options = options


class Connection(Protocol):
    """What a store needs of a connection; one thread at a time uses it.

    Attributes:
        timeout_s: how long it waits for the next bytes of a reply.
    """

    timeout_s: float

    def run(self, script: Script, keys: Sequence[bytes], *arguments: bytes | int) -> Any:
        """Run a script; raises ``RedisUnavailable``: then it is unknown whether the script ran."""

    def close(self) -> None:
        """Drop the connection; the next use makes another."""


Connect = Callable[[RedisAddress, float, int], Connection]
"""Makes a connection with a timeout in seconds and a largest reply in bytes."""


_WRITER = CommandWriter()


class _BoundedSocket:
    """A socket that gives up a reply that is too large or takes too long in total.

    A socket's own timeout starts again with every byte, so a peer that sends slowly, or never stops, would occupy thread
    and memory forever.
    """

    def __init__(self, sock: Any, max_bytes: int, longest_s: float) -> None:
        self._sock = sock
        self._max_bytes = max_bytes
        self._longest_s = longest_s
        self._left = max_bytes
        self._until = time.monotonic() + longest_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: bytes) -> None:
        self._left = self._max_bytes
        self._until = time.monotonic() + self._longest_s
        self._sock.sendall(data)

    def recv(self, size: int) -> bytes:
        data: bytes = self._sock.recv(size)
        self._left -= len(data)
        if self._left < 0:
            raise InvalidResponse("more bytes than any reply has")
        if time.monotonic() > self._until:
            raise TimeoutError
        return data


def _bounded(connection: type[Any], max_bytes: int, longest_s: float) -> type[Any]:
    """Make a class of connections whose replies are bounded."""

    class Bounded(connection):  # type: ignore[misc]  # a class handed in
        def _connect(self) -> Any:
            return _BoundedSocket(super()._connect(), max_bytes, longest_s)

        def read_lines(self, count: int) -> bytes:
            """Read so many replies of one line each, or an error that comes first."""
            lines = b""
            while lines.count(b"\n") < (1 if lines.startswith(b"-") else count):
                received = self._sock.recv(65_536)
                if not received:
                    raise redis.ConnectionError
                lines += received
            return lines

    return Bounded


class RedisConnection:
    """A kept-alive connection, made on first use; used by one thread at a time.

    Args:
        timeout_s: for the connection, and for the next bytes of a reply, seconds.
        max_reply_bytes: reading a larger reply ends with an error.
    """

    def __init__(
        self, address: RedisAddress, timeout_s: float, max_reply_bytes: int = MAX_REPLY_BYTES
    ) -> None:
        self.timeout_s = timeout_s
        encrypted: dict[str, Any] = {}
        if address.tls:
            encrypted = {
                "ssl_ca_certs": address.ca_file or None,
                "ssl_check_hostname": address.check_hostname,
            }
        kind = redis.SSLConnection if address.tls else redis.Connection
        pool = redis.ConnectionPool(
            connection_class=_bounded(kind, max_reply_bytes, _LONGEST_IN_TIMEOUTS * timeout_s),
            # It allocates only for bytes that have arrived. hiredis, if it is installed, believes every count and every depth.
            parser_class=_RESP2Parser,
            command_packer=_WRITER,
            host=address.host,
            port=address.port,
            db=address.database,
            username=address.username or None,
            password=address.password.reveal() or None,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            max_connections=1,
            # RESP2 without an introduction, since a proxy, or Redis 4, knows neither HELLO nor CLIENT SETINFO.
            protocol=2,
            driver_info=None,
            **encrypted,
        )
        self._client = redis.Redis(connection_pool=pool)

    def run(self, script: Script, keys: Sequence[bytes], *arguments: bytes | int) -> Any:
        """Run a script; it is sent in full only to a server that does not know it.

        Raises:
            RedisUnavailable: whether the script ran is unknown.
        """
        if isinstance(script, SetEach):
            return self._set_each(script, keys, *arguments)
        try:
            return self._command("EVALSHA", script.digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return self._command("EVAL", script.source, len(keys), *keys, *arguments)

    def ping(self) -> None:
        """Send PING.

        Raises:
            RedisUnavailable: there is no reply.
        """
        self._command("PING")

    def info(self, section: str) -> dict[str, Any]:
        """The server's INFO; empty if it is not allowed or not available.

        Raises:
            RedisUnavailable: the connection broke.
        """
        try:
            info = self._client.info(section)
        except ResponseError:
            return {}
        except Exception as error:  # noqa: BLE001 - whatever an odd reply makes the library raise
            raise explain(error) from None
        return info if isinstance(info, dict) else {}

    def close(self) -> None:
        """Drop the connection; the next use makes another."""
        self._client.close()
        self._client.connection_pool.disconnect()

    def _set_each(
        self, script: SetEach, keys: Sequence[bytes], first_ms: Any, others_ms: Any, *values: Any
    ) -> bytes:
        first = _WRITER.pack_sets(keys[:1], values[:1], "PX", first_ms, *script.options)
        others = _WRITER.pack_sets(keys[1:], values[1:], "PX", others_ms, *script.options)
        pool = self._client.connection_pool
        try:
            connection: Any = pool.get_connection()
            try:
                connection.send_packed_command([first + others])
                return _read_sets(connection.read_lines(len(keys)), len(keys))
            finally:
                pool.release(connection)
        except Exception as error:  # noqa: BLE001 - whatever an odd reply makes the library raise
            # There may be more to read.
            self.close()
            raise explain(error) from None

    def _command(self, *words: bytes | str | int) -> Any:
        try:
            return self._client.execute_command(*words)  # type: ignore[no-untyped-call]  # not annotated there
        except NoScriptError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an odd reply makes the library raise
            raise explain(error) from None


_OK = b"+OK\r\n"


def _read_sets(lines: bytes, count: int) -> bytes:
    """Read the replies to SET, as ``SetEach`` says."""
    if lines == _OK * count:
        return b"o" * count
    letters = lines.replace(_OK, b"o").replace(b"$-1\r\n", b"h")
    if len(letters) == count and not letters.strip(b"oh"):
        return letters
    error = next((line for line in lines.splitlines() if line.startswith(b"-")), None)
    if error is None:
        raise InvalidResponse
    raise _RESP2Parser.parse_error(error[1:].decode("utf-8", "replace"))  # type: ignore[no-untyped-call]  # not annotated there


def explain(error: Exception) -> RedisUnavailable:
    """Say what an error of the ``redis`` package means; without its own text, which may quote anything."""
    if any(_TOO_MANY_CLIENTS in str(cause) for cause in _causes(error) if isinstance(cause, RedisError)):
        return RedisUnavailable(
            "Redis has as many clients as it allows: raise its maxclients, or lower the function's maximum of instances"
        )
    code = _code(error)
    for kinds, reason, reconnect in _REASONS:
        if _KINDS.get(code) in kinds or any(isinstance(cause, kinds) for cause in _causes(error)):
            return RedisUnavailable(reason, reconnect=reconnect, is_full=OutOfMemoryError in kinds)
    if isinstance(error, InvalidResponse) or not isinstance(error, (RedisError, OSError)):
        return RedisUnavailable(NOT_REDIS)
    reason = f"Redis answered with an error ({code}): look it up in Redis's documentation"
    return RedisUnavailable(reason, is_wrong_type=code == "WRONGTYPE")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes, the outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _code(error: Exception) -> str:
    """Redis's own code of an error, such as ``WRONGTYPE``; the error's class if it has none.

    Before version 7 a script's error wraps the code in another text, where the library does not see it; since then, an
    error about a forbidden command has no code.
    """
    text = str(error) if isinstance(error, ResponseError) else ""
    words = ["NOPERM"] if _MAY_NOT in text else re.findall(r"[A-Z]{3,}", text)
    return next((word for word in words if word in _KINDS), type(error).__name__)


_TOO_MANY_CLIENTS = "max number of clients"
_MAY_NOT = "The user executing the script can't"

# None: the name of the error says enough.
_KINDS: Mapping[str, type[Exception] | None] = {
    "OOM": OutOfMemoryError,
    "READONLY": ReadOnlyError,
    "NOPERM": NoPermissionError,
    "LOADING": BusyLoadingError,
    "MASTERDOWN": MasterDownError,
    "WRONGTYPE": None,
    "MISCONF": None,
    "NOREPLICAS": None,
    "BUSY": None,
}


class _Reason(NamedTuple):
    kinds: tuple[type[Exception], ...]
    reason: str
    reconnect: bool = False


# The first match counts, since the library's classes inherit from one another.
_REASONS = (
    _Reason(
        (AuthenticationError, AuthorizationError),
        "Redis refused user and password: correct them in the URL (a Tencent Cloud account other than the default "
        "is written :account%40password)",
    ),
    _Reason(
        (NoPermissionError,),
        f"the Redis user may not do this: allow it {_COMMANDS} on the keys {KEY_PREFIX}*",
    ),
    _Reason((ssl.SSLError,), "no TLS with Redis: check rediss://, ssl_ca_certs and ssl_check_hostname"),
    _Reason((FileNotFoundError,), "the file that ssl_ca_certs names does not exist: correct its path"),
    _Reason((BusyLoadingError,), "Redis is loading its data: wait"),
    _Reason(
        (ReadOnlyError, MasterDownError), "Redis is a read-only replica: use the address of the master", True
    ),
    _Reason(
        (OutOfMemoryError,),
        "Redis is full: give it more memory, lower MF_DEDUPE_WINDOW_S, and replay what a spool keeps there",
    ),
    _Reason(
        (AskError, ClusterDownError, ClusterCrossSlotError),
        "Redis is one node of a cluster: use the address of a proxy (Tencent Cloud's cluster edition has one)",
    ),
    _Reason(
        (redis.TimeoutError, TimeoutError),
        UNANSWERED,
    ),
    _Reason(
        (redis.ConnectionError, OSError),
        "no connection to Redis, or it broke: check scheme (rediss:// if TLS is on), host and port, the function's VPC and the security group",
        True,
    ),
)
