"""SCF's dead letter: ``{"RequestId":"…","ErrorCode":-1,"ErrorMessage":"…","Body":{"ClientContext":"<the event>",…}}``.

``ClientContext`` is the event as JSON text. The platform puts dead letters into a CMQ queue or topic, so a function
that reads that topic receives them as the bodies of CMQ records, and one that is invoked by hand as its event.

A dead letter in a message may have been written by anyone who may write to the topic. What it holds is therefore read as
messages are, and gives no more rights: no object is fetched for it, and no HTTP client is let in by it. Source: Tencent
Cloud, SCF dead letter queue.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from metric_forwarder.errors import UnknownTrigger
from metric_forwarder.model import Message
from metric_forwarder.triggers.decoding import DecodeContext, Decoded, HttpRefusal, checksum, coordinates_of
from metric_forwarder.triggers.traits import DEAD_LETTER, in_dead_letter

# A dead letter that fails becomes the content of another; quoting makes each about twice as long.
MAX_DEPTH = 5


def matches(event: Any) -> bool:
    return (
        isinstance(event, dict) and isinstance(event.get("Body"), dict) and "ClientContext" in event["Body"]
    )


def decode(event: dict[str, Any], context: DecodeContext) -> Decoded:
    """Read the event inside; the report shows the trigger of that event.

    An event that cannot be read becomes one broken message, since an exception would only make another dead letter.
    """
    from metric_forwarder import triggers  # noqa: PLC0415 - events hold dead letters, which hold events

    if context.depth >= MAX_DEPTH:
        return _broken(
            f"is a dead letter inside {MAX_DEPTH} others: it will not be delivered by trying again"
        )
    content = event["Body"]["ClientContext"]
    try:
        inside = json.loads(content) if isinstance(content, str) else content
    except (ValueError, RecursionError):
        return _broken('has a "Body.ClientContext" that is not JSON')
    try:
        decoded = triggers.decode(inside, context.nested())
    except UnknownTrigger as unknown:
        return _broken(f"holds no event: {unknown}")
    if isinstance(decoded, HttpRefusal):
        return _broken(f"holds an HTTP request that is refused: {decoded.reason}")
    request_id = event.get("RequestId")
    messages = decoded.messages
    if isinstance(request_id, str) and request_id:
        messages = _named(messages, coordinates_of("dead-letter", request_id, str(checksum(content))))
    return Decoded(in_dead_letter(decoded.traits), messages)


def _named(messages: Iterable[Message], letter: str) -> Iterator[Message]:
    """Name messages without coordinates by their letter, so that points of it that were delivered are recognised."""
    for number, message in enumerate(messages):
        if message.coordinates is None:
            yield message._replace(coordinates=f"{letter}#{number}")
        else:
            yield message


def open_letter(body: Any, context: DecodeContext) -> Iterable[Message] | None:
    """Return the messages of a dead letter that came as a message; None if ``body`` is not a dead letter."""
    if isinstance(body, str):
        # Only a body that mentions the member is decoded here; any other body is decoded once, later.
        if '"ClientContext"' not in body:
            return None
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return None
    return decode(body, context.in_message()).messages if matches(body) else None


def _broken(reason: str) -> Decoded:
    return Decoded(DEAD_LETTER, (Message("dead letter", None, broken=reason),))
