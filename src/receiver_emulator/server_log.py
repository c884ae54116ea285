"""The log of a server on ``aiohttp``, without the text of requests."""

import logging

from aiohttp.http_exceptions import HttpProcessingError


def server_log(name: str) -> logging.Logger:
    """Return a log that reports a request that is not HTTP, but not its text, which may hold a signature."""
    log = logging.getLogger(name)
    if not log.filters:
        log.addFilter(_without_request)
    return log


def _without_request(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.exc_info = None
    # aiohttp raises this, and logs it as a defect, if a client disconnects while the rest of its body is discarded.
    return not (isinstance(error, RuntimeError) and error.args == ("Connection closed.",))
