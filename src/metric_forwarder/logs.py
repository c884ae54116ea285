"""One JSON object a line on standard output, which the platform collects.

Not through ``logging``: the platform's runtime owns the root logger, with handlers and levels of its own.
"""

import json
import sys
from typing import Any

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")


class JsonLog:
    """Writes lines of at least the level it was made with."""

    def __init__(self, level: str = "INFO") -> None:
        self._threshold = LEVELS.index(level)

    def write(self, level: str, event: str, **members: Any) -> None:
        if LEVELS.index(level) >= self._threshold:
            line = {"level": level, "event": event, **members}
            text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
            # Half a surrogate pair, which JSON can spell, cannot be written as UTF-8.
            text = text.encode("utf-8", "backslashreplace").decode()
            # Looked up now: runtimes, and tests, replace the stream.
            sys.stdout.write(text + "\n")
