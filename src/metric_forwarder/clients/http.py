"""One HTTP request, one result. Only this module uses ``urllib3``, the part of ``requests`` that keeps connections.

``send`` returns a small reply as a whole; ``stream`` passes a large one on while it arrives.

Every error is returned as a ``Failure``, which distinguishes a request that was not sent from one that was sent and got no
reply. Nothing is retried here: the caller signs every attempt again.
"""

import contextlib
import logging
import queue
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from enum import Enum
from http.client import HTTPException, HTTPResponse
from typing import Any, NamedTuple, Protocol

from metric_forwarder.clients.deferred import deferred_metadata
from metric_forwarder.clock import Deadline
from metric_forwarder.settings.settings import MAX_CONCURRENCY
from metric_forwarder.uint64 import parse_uint64

with deferred_metadata():
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, Timeout
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.exceptions import (
        ConnectTimeoutError,
        HTTPError,
        LocationValueError,
        NewConnectionError,
        ProtocolError,
        ReadTimeoutError,
    )
    from urllib3.util import parse_url
    from urllib3.util.ssl_ import create_urllib3_context

# A reply of the receiver has about 30 bytes; a larger one is from another server.
MAX_REPLY_BYTES = 65_536
# Networks drop idle connections silently, and an instance may be frozen for hours.
IDLE_S = 30.0


class HttpRequest(NamedTuple):
    """What to send; ``body`` is None for a GET."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


class HttpReply(NamedTuple):
    """A complete reply; ``headers`` ignore upper and lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# An earlier Date comes from a clock that was never set.
_FIRST_DATE_S = 1_577_836_800.0  # 2020-01-01


def server_time(reply: HttpReply) -> float | None:
    """Return the destination's time, Unix seconds, if the reply has it; a cache says for how long it has kept the reply."""
    date = _http_date(reply.headers.get("Date"))
    age = (reply.headers.get("Age") or "").strip()
    if date is None or date < _FIRST_DATE_S:
        return None
    return date + float(age[:9]) if age.isascii() and age.isdigit() else date


def retry_after_s(reply: HttpReply, *, now: float) -> float | None:
    """Return how long the destination asked us to wait. RFC 9110 has two forms: seconds, or an HTTP date.

    A date counts from the destination's own clock, or from ``now`` (Unix seconds) if the reply has no date.
    """
    text = (reply.headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    at = _http_date(text)
    its_time = server_time(reply)
    return None if at is None else max(0.0, at - (now if its_time is None else its_time))


def _http_date(text: str | None) -> float | None:
    try:
        at = parsedate_to_datetime(text) if text else None
        # Without a zone, as Python's own formatdate writes it (-0000), it would be taken for this machine's local time.
        return at.replace(tzinfo=at.tzinfo or timezone.utc).timestamp() if at else None
    except (ValueError, OverflowError):
        return None


class Fault(Enum):
    """How a request failed without a reply."""

    UNREACHABLE = "unreachable"  # no connection, or no TLS: the request was not sent
    STALE = "stale connection"  # a kept-alive connection was closed before the first byte of a reply
    UNANSWERED = "no answer"  # sent, at least in part; the destination may have acted on it


class Failure(NamedTuple):
    """No reply: ``detail`` names the kind of error, never an address, a URL or a payload.

    ``is_tls``: there was a connection, but TLS failed.
    """

    fault: Fault
    detail: str
    is_tls: bool = False


class Transport(Protocol):
    """Sends one request, which takes at most ``timeout_s`` seconds in all; safe to call from several threads."""

    def send(self, request: HttpRequest, timeout_s: float) -> HttpReply | Failure: ...


class Streamed(NamedTuple):
    """A reply that is arriving: ``chunks`` yields its body, and a ``Failure`` as its last item if it breaks off."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes | Failure]
    close: Callable[[], None]

    @property
    def announced_bytes(self) -> int:
        """The length of the body as its header announces it; 0 if there is no usable one."""
        return parse_uint64(self.headers.get("Content-Length")) or 0


class Streaming(Protocol):
    """Sends one request and passes the reply on while it arrives, until the deadline."""

    def stream(self, request: HttpRequest, deadline: Deadline) -> Streamed | Failure: ...


class HttpTransport:
    """Kept-alive connections to one server at a time, with the certificates of ``certifi``.

    ``requests`` itself would double the time of a cold start and the CPU of each request, and would use proxies of the
    environment, which could see signed requests.

    Args:
        ca_file: the certificates to trust; empty: those of ``certifi``.
        monotonic: the clock for a connection's idle time.
    """

    def __init__(self, ca_file: str = "", monotonic: Callable[[], float] = time.monotonic) -> None:
        # Their DEBUG lines, and some warnings, print whole URLs, which hold the signature of a GET.
        _silence("urllib3")
        self._monotonic = monotonic
        self._ca_file = ca_file
        self._pool: tuple[str, HTTPConnectionPool] | None = None
        self._answered_before = False

    def send(self, request: HttpRequest, timeout_s: float) -> HttpReply | Failure:
        """Send and read the whole reply within about ``timeout_s``, even if it arrives slowly."""
        failure = self._failure
        try:
            with self._open(request, timeout_s) as response:
                failure = _broken_off
                body = response.read(MAX_REPLY_BYTES)
        except (HTTPError, OSError) as error:
            _forget_frames(error)
            return failure(error)
        self._answered_before = True
        return HttpReply(response.status, response.headers, body)

    def stream(self, request: HttpRequest, deadline: Deadline) -> Streamed | Failure:
        """Send, and pass the reply on while it arrives: see ``Streaming``.

        A second thread reads. The calling thread only waits, so that it returns by the deadline even if a name server
        never answers.
        """
        download = _Download(lambda: self._open(request, deadline.remaining()), self._failure)
        try:
            threading.Thread(target=download.run, name="download", daemon=True).start()
        except RuntimeError:
            return Failure(Fault.UNREACHABLE, "no thread could be started: give the function more memory")
        head = download.next(deadline)
        if isinstance(head, HttpReply):
            return Streamed(head.status, head.headers, download.chunks(deadline), download.stop)
        download.stop()
        return head if isinstance(head, Failure) else _TOO_SLOW

    def _open(self, request: HttpRequest, timeout_s: float) -> BaseHTTPResponse:
        scheme, _, rest = request.url.partition("://")
        host, slash, target = rest.partition("/")
        if not slash and "?" in host:
            host, _, query = host.partition("?")
            target = f"?{query}"
        # Some of the layers below take a timeout of 0 as no timeout.
        timeout_s = max(timeout_s, 0.001)
        return self._pool_for(f"{scheme}://{host}").urlopen(
            request.method,
            f"/{target}",
            request.body,
            request.headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=Timeout(total=timeout_s, connect=timeout_s, read=timeout_s),
            preload_content=False,
            decode_content=False,
        )

    def _pool_for(self, origin: str) -> HTTPConnectionPool:
        held = self._pool  # another thread may replace it
        if held is not None and held[0] == origin:
            return held[1]
        pool = self._make_pool(origin)
        self._pool = (origin, pool)
        return pool

    def _make_pool(self, origin: str) -> HTTPConnectionPool:
        # The pool keeps as many connections as there can be requests at once; none is opened before it is needed.
        url = parse_url(origin)
        if url.host is None:
            raise LocationValueError("no host")
        if url.scheme != "https":
            return _Pool(url.host, url.port, maxsize=MAX_CONCURRENCY, monotonic=self._monotonic)
        # One context for all connections, since each would read the system's certificates.
        context = create_urllib3_context()
        try:
            context.load_verify_locations(self._ca_file or _authorities())
        except OSError as error:  # the file has gone, or changed, since the settings were read
            raise _NotConnected(error) from error
        return _SecurePool(
            url.host, url.port, maxsize=MAX_CONCURRENCY, monotonic=self._monotonic, ssl_context=context
        )

    def _failure(self, error: Exception) -> Failure:
        """The failure if not a byte of a reply arrived."""
        if isinstance(error, _NotConnected):
            return Failure(Fault.UNREACHABLE, error.detail, error.is_tls)
        if isinstance(error, LocationValueError):
            return Failure(Fault.UNREACHABLE, type(error).__name__)
        if isinstance(error, ReadTimeoutError):
            return Failure(Fault.UNANSWERED, "no answer in time")
        cause = error.args[-1] if isinstance(error, ProtocolError) and error.args else error
        stale = self._answered_before and isinstance(cause, ConnectionError)
        return Failure(Fault.STALE if stale else Fault.UNANSWERED, type(cause).__name__)


def _forget_frames(error: BaseException) -> None:
    """Free the variables of the functions that failed, which hold the request's body.

    They also hold the error, whose traceback holds them: only the collector would free this circle, and it runs rarely.
    """
    pending, seen = [error], set()
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        one.__traceback__ = None
        related = (one.__cause__, one.__context__, *one.args)
        pending += [other for other in related if isinstance(other, BaseException)]


def _broken_off(error: Exception) -> Failure:
    return Failure(Fault.UNANSWERED, f"the answer broke off ({type(error).__name__})")


def _silence(tree: str) -> None:
    """Silence a logger and all its children, for any levels and handlers of the root and of the children."""
    # For children that are made later.
    logging.getLogger(tree).propagate = False
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if f"{name}.".startswith(f"{tree}.") and isinstance(logger, logging.Logger):
            logger.disabled = True


def _authorities() -> str:
    """The file of certificates to trust."""
    # The receiver speaks HTTP, so most cold starts do without this import.
    import certifi  # noqa: PLC0415

    return certifi.where()


# By OpenSSL's error number, since its texts may name the host.
_UNTRUSTED = {
    10: "its certificate has expired",
    18: "its certificate is self-signed",
    19: "its certificate is signed by an authority that is not trusted",
    20: "its certificate is signed by an authority that is not trusted",
    62: "its certificate is for another host",
    64: "its certificate is for another host",
}


class _NotConnected(HTTPError):
    """No connection could be made, so nothing was sent; ``detail`` names the kind of error."""

    def __init__(self, error: Exception) -> None:
        self.is_tls = isinstance(error, ssl.SSLError)
        if isinstance(error, ssl.SSLCertVerificationError):
            self.detail = _UNTRUSTED.get(error.verify_code, "its certificate is not trusted")
        elif isinstance(error, ssl.SSLError):
            self.detail = f"TLS failed: {error.reason}"
        elif isinstance(error, NewConnectionError):
            self.detail = type(error.__cause__ or error).__name__
        elif isinstance(error, (ConnectTimeoutError, TimeoutError)):
            self.detail = "no connection in time"
        else:
            self.detail = type(error).__name__
        super().__init__(self.detail)


class _Punctual(socket.SocketIO):
    """Reads under one deadline for the whole reply; a socket alone starts its timeout again with every piece."""

    connected: socket.socket
    until: float
    is_first: bool

    def readinto(self, buffer: Any) -> int | None:
        if self.is_first:
            # A usual reply arrives in one piece, and setting a timeout costs a system call.
            self.is_first = False
        else:
            left = self.until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.connected.settimeout(left)
        return super().readinto(buffer)


_SWITCHING, _OK = 101, 200


class _PunctualResponse(HTTPResponse):
    """Reads head and body within the timeout that its socket has at the beginning, and checks what http.client does not."""

    def __init__(self, connected: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(connected, *arguments, **options)
        raw: Any = self.fp.raw  # a BufferedReader around a SocketIO
        # Wrapping it would make two more objects for each request.
        raw.__class__ = _Punctual
        raw.connected = connected
        raw.until = time.monotonic() + (connected.gettimeout() or 0.0)
        raw.is_first = True

    def begin(self) -> None:
        """Read the head after any interim replies: http.client takes each of them, except 100, for the reply.

        The real reply would then be taken for that of the next request on this connection.
        """
        super().begin()
        while self.status < _OK and self.status != _SWITCHING:
            self.headers = self.msg = None  # type: ignore[assignment]  # lets begin() run again
            super().begin()
        if self.status == _SWITCHING:
            self.will_close = True

    def _safe_read(self, amt: int) -> bytes:
        """Read a chunk; with a negative size, everything that arrives would be read."""
        if amt < 0:
            raise HTTPException("negative chunk size")
        read: bytes = super()._safe_read(amt)  # type: ignore[misc]  # in every version of Python, but in no stub
        return read


class _Connection(HTTPConnection):
    """Recognises a request that was not sent, reads under a deadline, and is not used again after a long idle time."""

    response_class = _PunctualResponse

    def __init__(self, *arguments: Any, monotonic: Callable[[], float], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._monotonic = monotonic
        self._used_at = 0.0

    def connect(self) -> None:
        try:
            super().connect()
        except (HTTPError, OSError, ValueError) as error:
            raise _NotConnected(error) from error

    def getresponse(self) -> Any:
        response = super().getresponse()
        self._used_at = self._monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        return self._monotonic() - self._used_at < IDLE_S and super().is_connected


class _SecureConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_TOO_SLOW = Failure(Fault.UNANSWERED, "no answer in time")
_CHUNK_BYTES = 65_536
_CHUNKS_AHEAD = 4
_END = None


class _Download:
    """Passes a reply from the reading thread to the calling one, a few pieces ahead."""

    def __init__(self, send: Callable[[], BaseHTTPResponse], failure: Callable[[Exception], Failure]) -> None:
        self._send = send
        self._failure = failure
        self._pieces: queue.Queue[HttpReply | bytes | Failure | None] = queue.Queue(_CHUNKS_AHEAD)
        self._stopped = False
        self._response: BaseHTTPResponse | None = None

    def run(self) -> None:
        failure = self._failure
        try:
            with self._send() as response:
                failure = _broken_off
                self._response = response
                if self._stopped:
                    return
                self._put(HttpReply(response.status, response.headers, b""))
                for chunk in response.stream(_CHUNK_BYTES):
                    if self._stopped:
                        return
                    self._put(chunk)
            self._put(_END)
        except (HTTPError, OSError) as error:
            _forget_frames(error)
            self._put(failure(error))
        finally:
            self._response = None

    def next(self, deadline: Deadline) -> HttpReply | bytes | Failure | None:
        try:
            return self._pieces.get(timeout=deadline.remaining())
        except queue.Empty:
            return _TOO_SLOW

    def chunks(self, deadline: Deadline) -> Iterator[bytes | Failure]:
        while (piece := self.next(deadline)) is not _END:
            if isinstance(piece, (bytes, Failure)):
                yield piece
            if isinstance(piece, Failure):
                return

    def stop(self) -> None:
        """Let the reading thread end, since the caller reads no further."""
        self._stopped = True
        response = self._response
        if response is not None:
            # A reply that arrives byte by byte would hold the thread and its connection for hours.
            # urllib3 before 2.3 has no such method: there the thread ends at its deadline.
            with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):
                response.shutdown()
        # Once there is room, it puts at most one more piece before it checks.
        while not self._pieces.empty():
            self._pieces.get_nowait()

    def _put(self, piece: HttpReply | bytes | Failure | None) -> None:
        if not self._stopped:
            self._pieces.put(piece)
