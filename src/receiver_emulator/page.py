"""The page: its files, and the guard against other web pages that are open in the same browser.

Any web page that is open in a browser on this machine can send requests here, and its name server can give its own name this
address. So the guard refuses a ``Host`` that such a page could have, and every change that a page of another origin asks for.
"""

import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from importlib import resources
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

_SAFE_METHODS = ("GET", "HEAD")
_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Path → file and its type.
_FILES = {
    "/": ("page.html", "text/html"),
    "/-/page.css": ("page.css", "text/css"),
    "/-/page.js": ("page.js", "text/javascript"),
    "/-/plot.js": ("plot.js", "text/javascript"),
    "/-/words.js": ("words.js", "text/javascript"),
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_page(app: web.Application, read: Callable[[web.Request, str, int], Mapping[str, Any]]) -> None:
    """Serve the page and its data.

    Args:
        app: the application; it needs the middleware of ``guard``.
        read: takes the request, the run and the last change that the page knows; returns the later changes.
    """

    async def activity(request: web.Request) -> web.Response:
        after = request.query.get("after", "")
        is_number = after.isascii() and after.isdecimal() and len(after) < 16  # noqa: PLR2004 - a number that JavaScript can hold
        return as_json(read(request, request.query.get("run", ""), int(after) if is_number else 0))

    for path, (name, content_type) in _FILES.items():
        app.router.add_get(path, _file(name, content_type))
    app.router.add_get("/-/activity", activity, allow_head=False)


def _file(name: str, content_type: str) -> Handler:
    body = resources.files("receiver_emulator").joinpath(f"web/{name}").read_bytes()
    headers = {
        "Content-Type": f"{content_type}; charset=utf-8",
        "Content-Security-Policy": _SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }

    async def send(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers=headers)

    return send


def guard(own_host: str) -> Middleware:
    """Make the middleware that refuses other pages; ``own_host`` is the address that the server listens on."""

    @web.middleware
    async def refuse_other_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != "/" and not request.path.startswith("/-/"):
            return await handler(request)
        if not _is_local_name(request.host, own_host):
            return as_json(
                {"error": "use an IP address or localhost: another name may be that of a web page"},
                status=403,
            )
        if request.method not in _SAFE_METHODS and not _is_own_origin(request):
            return as_json({"error": "a web page of another origin may not change anything here"}, status=403)
        return await handler(request)

    return refuse_other_pages


def _is_local_name(host: str, own_host: str) -> bool:
    """Return whether a ``Host`` cannot be the name of a web site, since it is an address or has no domain."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return name.lower() == own_host.lower() or (bool(name) and "." not in name)


def _is_own_origin(request: web.Request) -> bool:
    """Return whether the request comes from our own page, or from a program that is not a browser."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    return origin in (None, f"http://{request.host}") and site in ("none", "same-origin")


def as_json(value: Any, *, status: int = 200) -> web.Response:
    """Make a reply of JSON."""
    # The text of a fault may be bytes, which JSON cannot hold.
    body = json.dumps(value, default=lambda content: content.decode("utf-8", "replace"))
    return web.Response(body=body.encode(), status=status, content_type="application/json")
