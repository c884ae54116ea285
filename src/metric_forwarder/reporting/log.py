"""One JSON object a line on standard output, which the platform collects.

Not through ``logging``: the platform's runtime owns the root logger, its handlers and its level.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")


class JsonLog:
    """Writes lines of at least the level it was made with; never raises, since points may be delivered by then."""

    def __init__(self, level: str = "INFO") -> None:
        self._threshold = LEVELS.index(level)

    def writes(self, level: str) -> bool:
        """Whether lines of this level are written."""
        return LEVELS.index(level) >= self._threshold

    def write(self, level: str, event: str, **members: Any) -> None:
        if self.writes(level):
            line = {"level": level, "event": event, **members}
            # Not as ASCII, which is hard to read in many languages.
            _put(line, ensure_ascii=False) or _put(line, ensure_ascii=True)


def _put(line: Mapping[str, Any], *, ensure_ascii: bool) -> bool:
    text = json.dumps(line, ensure_ascii=ensure_ascii, separators=(",", ":"))
    try:
        # JSON can hold half a surrogate pair, which no encoding has; a stream may notice it only later.
        text.encode()
        # Looked up now, since runtimes and tests replace the stream.
        sys.stdout.write(f"{text}\n")
    except Exception:  # noqa: BLE001 - whatever a runtime's stream raises
        return False
    return True
