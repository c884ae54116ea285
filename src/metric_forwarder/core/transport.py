"""One HTTP request, one result: the only home of ``requests`` (and of the ``urllib3`` under it).

Whatever goes wrong comes back as a ``Failure`` that tells a request that never left from one that was sent and got no
answer. Nothing is retried here: every attempt is signed anew, by the caller.
"""

import logging
from collections.abc import Mapping
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
        prepared = requests.PreparedRequest()
        prepared.prepare(
            method=request.method, url=request.url, headers=dict(request.headers), data=request.body
        )
        try:
            response = self._session.send(
                prepared,
                timeout=Timeout(total=timeout_s, connect=timeout_s, read=timeout_s),  # type: ignore[arg-type]  # a documented third form
                allow_redirects=False,
                stream=True,
            )
            with response:
                body = response.raw.read(MAX_REPLY_BYTES, decode_content=False)
        except requests.ConnectTimeout:
            return Failure(Fault.UNREACHABLE, "no connection in time")
        except requests.Timeout:
            return Failure(Fault.UNANSWERED, "no answer in time")
        except requests.ConnectionError as error:
            return self._connection_failure(error)
        except (requests.RequestException, HTTPError, OSError) as error:
            return Failure(Fault.UNANSWERED, f"the answer broke off ({type(error).__name__})")
        self._answered_before = True
        return HttpReply(response.status_code, response.headers, body)

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
