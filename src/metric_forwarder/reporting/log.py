"""One JSON object a line on standard output, which the platform collects.

Not through ``logging``: the platform's runtime owns the root logger, its handlers and its level.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from metric_forwarder.machine import standard_output

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")


class JsonLog:
    """Writes lines of at least its level; never raises, since points may be delivered by then.

    An instance has one: so a part that writes to it outlives a change of the level.

    Args:
        stdout: gives the stream; asked at each line.
    """

    def __init__(self, level: str = "INFO", stdout: Callable[[], TextIO] = standard_output) -> None:
        self.set_level(level)
        self._stdout = stdout

    def set_level(self, level: str) -> None:
        """Write lines of at least this level from now on."""
        self._threshold = LEVELS.index(level)

    def writes(self, level: str) -> bool:
        """Whether lines of this level are written."""
        return LEVELS.index(level) >= self._threshold

    def write(self, level: str, event: str, **members: Any) -> None:
        if self.writes(level):
            line = {"level": level, "event": event, **members}
            # Not as ASCII, which is hard to read in many languages.
            self._put(line, ensure_ascii=False) or self._put(line, ensure_ascii=True)

    def _put(self, line: Mapping[str, Any], *, ensure_ascii: bool) -> bool:
        text = json.dumps(line, ensure_ascii=ensure_ascii, separators=(",", ":"))
        try:
            # JSON can hold half a surrogate pair, which no encoding has; a stream may notice it only later.
            text.encode()
            self._stdout().write(f"{text}\n")
        except Exception:  # noqa: BLE001 - whatever a runtime's stream raises
            return False
        return True
