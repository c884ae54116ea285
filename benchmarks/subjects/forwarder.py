"""The forwarder, with its default settings except those in the arguments."""

import json
import os
from typing import Any

import index
from benchmarks.subjects import Handle, serve
from benchmarks.workload import CONTEXT, environ


def make(url: str, **settings: str) -> Handle:
    os.environ.update(environ(url, **settings))

    def handle(event: dict[str, Any]) -> Any:
        report = index.main_handler(event, CONTEXT)
        if "statusCode" in report:  # the reply to an HTTP request
            report = json.loads(report["body"])
        if report["status"] not in {"ok", "failed"} or report["outcomes"]["undelivered"]:
            raise RuntimeError(f"the event did not go through: {report['outcomes']}")
        return report

    return handle


if __name__ == "__main__":
    serve(make)
