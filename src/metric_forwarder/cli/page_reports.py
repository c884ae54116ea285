"""Shows the function's reports on the page of an emulated receiver, if an environment variable names one."""

import json
import os
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.request import Request, urlopen

import click

_TIMEOUT_S = 2.0


def show_on_page(report: Mapping[str, Any]) -> None:
    """Send a report to the page that METRIC_FORWARDER_PAGE names, if it is set.

    A reply without counts of points, such as that to a refused HTTP request, is not sent. If the page cannot be reached,
    one line on standard error says so; the event itself is not affected.
    """
    from receiver_emulator.options import PAGE_VARIABLE

    page = os.environ.get(PAGE_VARIABLE, "").rstrip("/")
    if not page or "outcomes" not in report:
        return
    if not page.startswith(("http://", "https://")):
        click.echo(f"{PAGE_VARIABLE} is not a URL: set it to one such as http://127.0.0.1:8080", err=True)
        return
    try:
        with urlopen(Request(f"{page}/-/reports", json.dumps(report).encode()), timeout=_TIMEOUT_S):  # noqa: S310 - checked above
            return
    except (OSError, ValueError, HTTPException):
        click.echo(
            f"The report is not on the page: the address in {PAGE_VARIABLE} did not accept it.", err=True
        )
