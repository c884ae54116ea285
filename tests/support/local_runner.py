"""Loads and calls a function the way Tencent's local runner does, traps included; run as a program.

What it does was read in the runner's public source: the entry file is loaded under an empty module name from another
folder, standard output is an object with hardly more than ``write``, the root logger is at DEBUG with a handler there,
the environment is set from ``context["environ"]`` at each invocation, and the context holds seconds and texts.
"""

import importlib.util
import json
import logging
import os
import sys
from typing import Any


class Console:
    """Standard output as the runner replaces it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        sys.__stderr__.write(f"{text}\n")  # type: ignore[union-attr]  # a program has one


def main(entry: str, environ: str, events: list[Any]) -> None:
    sys.path = [path for path in sys.path if path != os.path.dirname(entry)]  # noqa: PTH120 - as the runner has it
    output = sys.stdout
    sys.stdout = Console(sys.stdout)  # that is the trap
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))
    os.chdir(os.path.dirname(entry))  # noqa: PTH120 - as the runner has it
    spec = importlib.util.spec_from_file_location("", entry)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for event in events:
        for pair in environ.split(";"):
            name, value = pair.split("=", 1)
            os.environ[name] = value
        context = {
            "environ": environ,
            "request_id": "r-1",
            "time_limit_in_ms": 3,
            "memory_limit_in_mb": "256",
        }
        try:
            reply = module.main_handler(event, context)
        except Exception as error:  # noqa: BLE001 - the runner catches everything
            reply = {"errorMessage": str(error), "type": type(error).__name__}
        output.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main(*json.loads(sys.stdin.read()))
