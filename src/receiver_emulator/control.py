"""The receiver's own interface, under ``/-/``: points, requests, faults, limits, and the page's data.

| request | reply |
|---|---|
| ``GET /-/points`` (``?last=n``: the newest n) | list of ``store.StoredPoint``, oldest first |
| ``GET /-/requests`` (likewise) | list of ``store.RequestRecord``, oldest first; never a signature |
| ``GET /-/faults`` | the faults that remain, as they were described |
| ``POST /-/faults`` | adds one fault or a list (see ``faults``), and returns those that remain |
| ``DELETE /-/faults`` | removes all faults; ``DELETE /-/faults/3`` removes that one |
| ``GET /-/limits``, ``POST /-/limits`` | the limits in force; sets those in the body, null for no limit |
| ``POST /-/reports`` | shows the function's report of an event on the page |
| ``GET /-/activity`` | what the page shows: see ``activity`` |
| ``DELETE /-/points`` | removes points and requests |

``page`` says which requests of other web pages are refused.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from receiver_emulator.faults import FaultError, parse_faults
from receiver_emulator.options import LIMITS, try_commands
from receiver_emulator.page import add_page, as_json
from receiver_emulator.receiver import RECEIVER


def add_control(app: web.Application) -> None:
    """Serve the page and the interface; ``app`` needs the middleware of ``page.guard``."""
    add_page(app, _activity)
    app.router.add_get("/-/points", _get_points, allow_head=False)
    app.router.add_delete("/-/points", _delete_points)
    app.router.add_get("/-/requests", _get_requests, allow_head=False)
    app.router.add_get("/-/faults", _get_faults, allow_head=False)
    app.router.add_post("/-/faults", _post_faults)
    app.router.add_delete("/-/faults", _delete_faults)
    app.router.add_delete("/-/faults/{number:[0-9]{1,9}}", _delete_fault)
    app.router.add_get("/-/limits", _get_limits, allow_head=False)
    app.router.add_post("/-/limits", _post_limits)
    app.router.add_post("/-/reports", _post_reports)
    app.router.add_route("*", "/-/{rest:.*}", _unknown_control)


async def _get_points(request: web.Request) -> web.Response:
    return _newest(request, request.app[RECEIVER].store.points)


async def _get_requests(request: web.Request) -> web.Response:
    return _newest(request, request.app[RECEIVER].store.requests)


def _newest(request: web.Request, read: Callable[[int | None], Sequence[Any]]) -> web.Response:
    last = request.query.get("last")
    if last is not None and not (last.isdecimal() and last.isascii() and len(last) <= 9):  # noqa: PLR2004 -- enough for any list
        return _wrong("last", "the number of the newest to return")
    return as_json(read(None if last is None else int(last)))


async def _delete_points(request: web.Request) -> web.Response:
    request.app[RECEIVER].store.clear()
    return web.Response(status=204)


async def _get_faults(request: web.Request) -> web.Response:
    return as_json(request.app[RECEIVER].plan.pending())


async def _post_faults(request: web.Request) -> web.Response:
    plan = request.app[RECEIVER].plan
    try:
        plan.add(*parse_faults(json.loads(await request.read())))
    except FaultError as error:
        return _wrong(error.member, error.expected)
    except (ValueError, RecursionError):
        return _wrong("", "a fault, or a list of faults, in JSON")
    return as_json(plan.pending())


async def _delete_faults(request: web.Request) -> web.Response:
    request.app[RECEIVER].plan.clear()
    return web.Response(status=204)


async def _delete_fault(request: web.Request) -> web.Response:
    is_found = request.app[RECEIVER].plan.remove(int(request.match_info["number"]))
    return web.Response(status=204) if is_found else as_json({"error": "there is no such fault"}, status=404)


async def _get_limits(request: web.Request) -> web.Response:
    return as_json(request.app[RECEIVER].limits())


async def _post_limits(request: web.Request) -> web.Response:
    receiver = request.app[RECEIVER]
    limits = await _read_json(request)
    if not isinstance(limits, dict):
        return _wrong("", 'an object of limits, such as {"maxRequestsPerSecond": 5}')
    for name, limit in limits.items():
        if name not in LIMITS:
            return _wrong(name, f"unknown; the limits are {', '.join(LIMITS)}")
        if not LIMITS[name][1](limit):
            return _wrong(name, "a positive integer or null; latencySeconds: seconds from 0 to 3600")
    receiver.set_limits(limits)
    return as_json(receiver.limits())


async def _post_reports(request: web.Request) -> web.Response:
    if not request.app[RECEIVER].store.activity.add_report(await _read_json(request)):
        return _wrong("", "a report of the function, in JSON")
    return web.Response(status=204)


def _activity(request: web.Request, run: str, after: int) -> Mapping[str, Any]:
    receiver = request.app[RECEIVER]
    return {
        "source": "emulator",
        **receiver.store.activity.read(run, after),
        "faults": receiver.plan.numbered(),
        "limits": receiver.limits(),
        "try": try_commands(f"http://{request.host}", receiver.options),
    }


async def _read_json(request: web.Request) -> Any:
    """Decode the body; None if it is not JSON."""
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError):
        return None


async def _unknown_control(_: web.Request) -> web.Response:
    return as_json({"error": "see GET /-/points, /-/requests and /-/faults"}, status=404)


def _wrong(member: str, expected: str) -> web.Response:
    return as_json({"error": "the request is wrong", "member": member, "expected": expected}, status=400)
