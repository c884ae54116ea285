"""``doctor``: finds what prevents delivery."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from metric_forwarder.cli.options import env_file_option, example, quiet_option
from metric_forwarder.errors import ProblemCollector
from metric_forwarder.settings.settings import Settings

if TYPE_CHECKING:
    from metric_forwarder.doctor import CheckResult


@click.command(epilog=example("metric-forwarder doctor"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
@quiet_option
@env_file_option
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool, quiet: bool) -> None:
    """Check whether points could be delivered.

    It checks settings, key (it reads the secret if there is one), region, network, clock, dedupe, spool, HTTP, the hosts
    that may be scraped, and whether the forwarder's own metrics have an address to be written to. It sends the destination an
    empty request, and no point. Every line is ok, or says what to do. With the event {"doctor": true}, the deployed function
    runs the same checks. The status is 0 if all is well, 1 if there is something to do, 2 if the settings cannot be used.
    """
    from metric_forwarder.cli import display
    from metric_forwarder.cli.local_function import FUNCTION
    from metric_forwarder.clients.http import HttpTransport
    from metric_forwarder.credentials import make_credentials
    from metric_forwarder.destinations.parts import Parts
    from metric_forwarder.destinations.server_clock import make_server_clocks
    from metric_forwarder.doctor import SETTINGS_CAN_BE_USED, DoctorContext, examine, run_checks
    from metric_forwarder.intake.making import make_mapping, make_relabel
    from metric_forwarder.intake.schema import PointSchema
    from metric_forwarder.machine import system_machine

    region = os.environ.get("TENCENTCLOUD_REGION", "")
    settings, problems = Settings.collect(os.environ, platform_region=region)
    found = ProblemCollector(problems)
    # What every event needs: with a bad one, no event would be handled, so no further check matters.
    found.collect(lambda: PointSchema(settings.kind.schema, settings.schema))
    found.collect(lambda: make_relabel(settings))
    found.collect(lambda: make_mapping(settings))
    found.check()
    machine = system_machine()
    credentials = make_credentials(settings, os.environ, machine)
    parts = Parts(credentials, lambda: HttpTransport(settings.ca_file), machine, make_server_clocks())
    context = DoctorContext(settings, parts, FUNCTION)
    if as_json or quiet:
        report = examine(context)
        if not quiet:
            display.print_json(report)
        ctx.exit(0 if report["status"] == "ok" else 1)
    display.print_check("settings", SETTINGS_CAN_BE_USED, is_ok=True)
    all_ok = True
    checks = run_checks(context)
    while (looked_at := _next(checks)) is not None:
        name, result = looked_at
        display.print_check(name, result.detail, is_ok=result.is_ok)
        all_ok = all_ok and result.is_ok
    ctx.exit(0 if all_ok else 1)


def _next(checks: Iterator[tuple[str, "CheckResult"]]) -> tuple[str, "CheckResult"] | None:
    from metric_forwarder.cli import display

    with display.waiting("the next check"):
        return next(checks, None)
