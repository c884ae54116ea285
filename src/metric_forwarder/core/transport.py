"""One HTTP request, one result: the only home of ``requests`` (and of the ``urllib3`` under it).

``send`` takes a small answer whole; ``stream`` hands out a large one while it comes.

Whatever goes wrong comes back as a ``Failure`` that tells a request that never left from one that was sent and got no
answer. Nothing is retried here: every attempt is signed anew, by the caller.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import NamedTuple, Protocol

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError
from urllib3.util import Timeout

# A reply of the receiver has some 30 bytes; more than this is from something else.
MAX_REPLY_BYTES = 65_536


class HttpRequest(NamedTuple):
    """What to send; ``body`` is None for a GET."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


class HttpReply(NamedTuple):
    """A complete answer; ``headers`` are looked up without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def server_time(reply: HttpReply) -> float | None:
    """The destination's clock, Unix seconds, if it told."""
    return _http_date(reply.headers.get("Date"))


def retry_after_s(reply: HttpReply, *, now: float) -> float | None:
    """How long the destination asked to be left alone, in both forms of RFC 9110: seconds, or an HTTP date.

    A date counts from the destination's own clock, from ``now``, Unix seconds, if it told none.
    """
    text = (reply.headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    at = _http_date(text)
    told = server_time(reply)
    return None if at is None else max(0.0, at - (now if told is None else told))


def _http_date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, OverflowError):
        return None


class Fault(Enum):
    """How a request failed without an answer."""

    UNREACHABLE = "unreachable"  # no connection: the request never left
    STALE = "stale connection"  # a kept-alive connection was closed before a byte of an answer
    UNANSWERED = "no answer"  # sent, at least in part; the destination may have acted on it


class Failure(NamedTuple):
    """No answer: ``detail`` names the kind of error, never an address, a URL or a payload."""

    fault: Fault
    detail: str


class Transport(Protocol):
    """Sends one request and waits ``timeout_s`` seconds for it all, at most; safe to call from several threads."""

    def send(self, request: HttpRequest, timeout_s: float) -> HttpReply | Failure: ...


class Streamed(NamedTuple):
    """An answer under way: ``chunks`` gives its body, and a ``Failure`` as its last item if it breaks off."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes | Failure]
    close: Callable[[], None]


class Streaming(Protocol):
    """Sends one request and gives the answer while it comes; ``remaining`` tells how many seconds are left for it."""

    def stream(self, request: HttpRequest, remaining: Callable[[], float]) -> Streamed | Failure: ...


class RequestsTransport:
    """Kept-alive connections of a ``requests.Session``.

    Proxies, ``.netrc`` and certificates named by the environment are ignored: a proxy would see signed requests, and
    the receiver is only reachable inside the VPC.
    """

    def __init__(self, connections: int) -> None:
        # Its DEBUG lines, and some warnings, print whole URLs: with GET that is the signature.
        for name in ("urllib3.connectionpool", "urllib3.util.retry"):
            logging.getLogger(name).disabled = True
        self._session = requests.Session()
        self._session.trust_env = False
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=connections, max_retries=0)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._answered_before = False

    def send(self, request: HttpRequest, timeout_s: float) -> HttpReply | Failure:
        """Send and read the whole answer, however slowly it comes, within about ``timeout_s``."""
        try:
            with self._open(request, timeout_s) as response:
                body = response.raw.read(MAX_REPLY_BYTES, decode_content=False)
        except (requests.RequestException, HTTPError, OSError) as error:
            return self._failure(error)
        self._answered_before = True
        return HttpReply(response.status_code, response.headers, body)

    def stream(self, request: HttpRequest, remaining: Callable[[], float]) -> Streamed | Failure:
        """Send, and hand the answer out while it comes: see ``Streaming``.

        A thread of its own reads; the one that asked only waits, so that not even a name server that never answers
        holds it longer than ``remaining()``.
        """
        reading = _Reading(lambda: self._open(request, remaining()), self._failure)
        threading.Thread(target=reading.run, name="download", daemon=True).start()
        head = reading.next(remaining())
        if isinstance(head, HttpReply):
            return Streamed(head.status, head.headers, reading.chunks(remaining), reading.stop)
        reading.stop()
        return head if isinstance(head, Failure) else _TOO_SLOW

    def _open(self, request: HttpRequest, timeout_s: float) -> requests.Response:
        prepared = requests.PreparedRequest()
        prepared.prepare(
            method=request.method, url=request.url, headers=dict(request.headers), data=request.body
        )
        # A time-out of 0 would mean none to some of the layers below.
        timeout_s = max(timeout_s, 0.001)
        return self._session.send(
            prepared,
            timeout=Timeout(total=timeout_s, connect=timeout_s, read=timeout_s),  # type: ignore[arg-type]  # a documented third form
            allow_redirects=False,
            stream=True,
        )

    def _failure(self, error: Exception) -> Failure:
        if isinstance(error, requests.ConnectTimeout):
            return Failure(Fault.UNREACHABLE, "no connection in time")
        if isinstance(error, requests.Timeout):
            return Failure(Fault.UNANSWERED, "no answer in time")
        if isinstance(error, requests.ConnectionError):
            return self._connection_failure(error)
        return Failure(Fault.UNANSWERED, f"the answer broke off ({type(error).__name__})")

    def _connection_failure(self, error: requests.ConnectionError) -> Failure:
        cause = error.args[0] if error.args else error
        if isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError):
            return Failure(Fault.UNREACHABLE, type(cause.reason.__cause__ or cause.reason).__name__)
        if isinstance(error, (requests.exceptions.SSLError, requests.exceptions.ProxyError)):
            return Failure(Fault.UNREACHABLE, type(error).__name__)
        root = cause.args[-1] if isinstance(cause, HTTPError) and cause.args else cause
        detail = type(root).__name__
        if self._answered_before and isinstance(root, ConnectionError):
            return Failure(Fault.STALE, detail)
        return Failure(Fault.UNANSWERED, detail)


_TOO_SLOW = Failure(Fault.UNANSWERED, "no answer in time")
_CHUNK_BYTES = 65_536
_CHUNKS_AHEAD = 4
_END = None


class _Reading:
    """One answer on its way from the thread that reads it to the one that asked."""

    def __init__(
        self, send: Callable[[], requests.Response], failure: Callable[[Exception], Failure]
    ) -> None:
        self._send = send
        self._failure = failure
        self._pieces: queue.Queue[HttpReply | bytes | Failure | None] = queue.Queue(_CHUNKS_AHEAD)
        self._stopped = False

    def run(self) -> None:
        try:
            with self._send() as response:
                self._put(HttpReply(response.status_code, response.headers, b""))
                for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
                    if self._stopped:
                        return
                    self._put(chunk)
            self._put(_END)
        except (requests.RequestException, HTTPError, OSError) as error:
            self._put(self._failure(error))

    def next(self, timeout_s: float) -> HttpReply | bytes | Failure | None:
        try:
            return self._pieces.get(timeout=timeout_s)
        except queue.Empty:
            return _TOO_SLOW

    def chunks(self, remaining: Callable[[], float]) -> Iterator[bytes | Failure]:
        while (piece := self.next(remaining())) is not _END:
            if isinstance(piece, (bytes, Failure)):
                yield piece
            if isinstance(piece, Failure):
                return

    def stop(self) -> None:
        """Nothing more is wanted: let the reading thread come to its end."""
        self._stopped = True
        # Once there is room, it puts one more piece at most before it looks.
        while not self._pieces.empty():
            self._pieces.get_nowait()

    def _put(self, piece: HttpReply | bytes | Failure | None) -> None:
        if not self._stopped:
            self._pieces.put(piece)
