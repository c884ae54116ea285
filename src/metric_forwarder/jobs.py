"""A timer's message may be a job instead of a payload: ``{"replay": true}``."""

from typing import Any, NamedTuple

from metric_forwarder.payload import read_payload


class Replay(NamedTuple):
    """Redeliver the spool; with its dead letters if asked: ``{"replay": true, "deadLetters": true}``."""

    dead_letters: bool


Job = Replay


def read_job(body: Any) -> Job | None:
    """The job a timer's message asks for, or None if it is a payload."""
    points = read_payload(body).points
    asked = points[0] if len(points) == 1 else None
    if isinstance(asked, dict) and asked.get("replay") is True and asked.keys() <= {"replay", "deadLetters"}:
        return Replay(asked.get("deadLetters") is True)
    return None
