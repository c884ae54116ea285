"""``replay``: deliver the records of the spool now."""

import contextlib
import io
import json
import os
import re
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import click

from metric_forwarder.cli.inputs import Unusable
from metric_forwarder.cli.invoke import time_limit_option
from metric_forwarder.cli.local_function import (
    FUNCTION,
    Handler,
    Invocation,
    invoke_handler,
    load_handler,
    make_context,
)
from metric_forwarder.cli.options import (
    env_file_option,
    example,
    json_option,
    log_level_option,
    quiet_option,
)
from metric_forwarder.model import BAD, Outcome
from metric_forwarder.reporting.ledger import MAX_PROBLEMS
from metric_forwarder.reporting.report import Report
from metric_forwarder.settings.redis_address import RedisAddress
from metric_forwarder.settings.settings import Settings
from metric_forwarder.spool.store import SpoolError, SpoolStore

_LOOK_EVERY_S = 0.2
_MOST_IN_VAIN = 2
# The outcomes that stay in the spool, and come again in the next round.
_STAYS = frozenset({Outcome.SPOOLED, Outcome.UNDELIVERED})

Rounds = Generator[Report, None, None]


class Replayed(NamedTuple):
    """The result of a replay: a report of all rounds, and how many records are still in the spool."""

    report: Report
    left: int


def _parse_function(_ctx: click.Context, _parameter: click.Parameter, text: str) -> str:
    if not re.fullmatch("[^/]+/[^/]+", text):
        raise click.BadParameter(f"{text!r} is not of the form NAMESPACE/NAME, such as {FUNCTION}.")
    return text


@click.command(epilog=example("metric-forwarder replay --dead-letters"))
@click.option("--dead-letters", is_flag=True, help="Also try the dead letters.")
@click.option(
    "--function",
    default=FUNCTION,
    callback=_parse_function,
    show_default=True,
    metavar="NAMESPACE/NAME",
    help="The deployed function that wrote the records; a spool keeps the records of each function apart.",
)
@time_limit_option
@json_option
@quiet_option
@log_level_option
@env_file_option
@click.pass_context
def replay(
    ctx: click.Context, *, dead_letters: bool, function: str, time_limit_s: float, as_json: bool, quiet: bool
) -> None:
    """Deliver the records of the spool.

    It works in rounds of the function's time limit, until the spool is empty or a round cannot deliver anything. The report
    covers all rounds. The status is 0 if everything was delivered; otherwise 1, also if there are only records of other
    functions.
    """
    from metric_forwarder.cli import display

    is_table = display.is_terminal() and not as_json and not quiet
    settings = Settings.read(os.environ, platform_region=os.environ.get("TENCENTCLOUD_REGION", ""))
    spool = _spool(settings, function)
    handler = load_handler()
    message = json.dumps({"replay": True, "deadLetters": dead_letters})

    def redeliver() -> Report:
        context = make_context(os.environ, time_limit_s)
        context["namespace"], _, context["function_name"] = function.partition("/")
        return _invoke(handler, message, context, io.StringIO() if quiet else None).report

    try:
        waiting = spool.waiting(dead_letters=dead_letters)
        watched = _watched(spool, redeliver, waiting, dead_letters=dead_letters)
        rounds = watched if is_table else _plain(redeliver)
        # The bar must end first, so that the report comes below it.
        with contextlib.closing(rounds):
            replayed = replay_all(spool, rounds, waiting, dead_letters=dead_letters)
        others = [] if waiting else spool.others()
    except SpoolError as error:
        raise Unusable(str(error)) from None
    invocation = Invocation(replayed.report)
    if is_table:
        display.print_invocation(display.terminal(), invocation)
    elif not quiet:
        display.print_json(replayed.report)
    if replayed.left:
        records = "1 record is" if replayed.left == 1 else f"{replayed.left} records are"
        click.echo(f"{records} still in the spool.", err=True)
    if others:
        named = ", ".join(others)
        click.echo(f"The records here are of {named}, not of {function}: name it with --function.", err=True)
    elif not waiting and isinstance(settings.spool, RedisAddress):
        click.echo(f"None is of {function}; Redis does not tell of others: check --function.", err=True)
    ctx.exit(0 if invocation.is_complete and not replayed.left and not others else 1)


def replay_all(spool: SpoolStore, rounds: Iterator[Report], waiting: int, *, dead_letters: bool) -> Replayed:
    """Run rounds until the spool is empty, or two of them have taken nothing out of it.

    After a round in which everything failed the next one begins with another point: see ``delivery.guesses``.
    """
    report = next(rounds)
    left = spool.waiting(dead_letters=dead_letters)
    in_vain = 0 if left < waiting else 1
    while left and in_vain < _MOST_IN_VAIN:
        waiting = left
        report = merge(report, next(rounds), dead_letters=dead_letters)
        left = spool.waiting(dead_letters=dead_letters)
        in_vain = 0 if left < waiting else in_vain + 1
    return Replayed(report, left)


def merge(earlier: Report, later: Report, *, dead_letters: bool) -> Report:
    """Merge the reports of two rounds: records that stayed in the spool are counted only in the later round."""
    from metric_forwarder.reporting.report import status

    stays = {outcome.value for outcome in (_STAYS.union(BAD) if dead_letters else _STAYS)}
    before, after = earlier["outcomes"], later["outcomes"]
    outcomes = {name: after[name] + (0 if name in stays else before[name]) for name in after}
    errors = [error for error in earlier["errors"] if error["outcome"] not in stays] + later["errors"]
    omitted = earlier["errorsOmitted"] + later["errorsOmitted"] + max(0, len(errors) - MAX_PROBLEMS)
    codes = earlier["requests"]["returnCodes"]
    all_codes = {
        **codes,
        **{code: codes.get(code, 0) + n for code, n in later["requests"]["returnCodes"].items()},
    }
    return {
        **later,
        "status": status(
            {outcome: outcomes[outcome.value] for outcome in Outcome}, has_problems=bool(errors)
        ),
        "received": sum(outcomes.values()),
        "outcomes": outcomes,
        "requests": {
            "sent": earlier["requests"]["sent"] + later["requests"]["sent"],
            "retried": earlier["requests"]["retried"] + later["requests"]["retried"],
            "returnCodes": dict(sorted(all_codes.items())),
        },
        "dedupe": earlier["dedupe"] if earlier["dedupe"] == "degraded" else later["dedupe"],
        "durationMs": earlier["durationMs"] + later["durationMs"],
        "errors": errors[:MAX_PROBLEMS],
        "errorsOmitted": omitted,
        "filtered": _merge_filtered(earlier["filtered"], later["filtered"]),
    }


def _merge_filtered(earlier: list[dict[str, Any]], later: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge the reasons of two rounds, and add their counts."""
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for reason in [*earlier, *later]:
        key = reason["rule"], reason["message"]
        known = merged.get(key)
        merged[key] = {**known, "count": known["count"] + reason["count"]} if known else reason
    return list(merged.values())


def _spool(settings: Settings, function: str) -> SpoolStore:
    from metric_forwarder.machine import system_machine
    from metric_forwarder.spool.making import make_spool

    if not settings.spool:
        raise Unusable(
            "MF_SPOOL is empty: set it to where the function's spool is seen from here, such as file:///mnt/spool or "
            "redis://:password@10.0.0.5:6379"
        )
    return make_spool(settings, function, system_machine())


def _invoke(handler: Handler, message: str, context: dict[str, Any], log: io.StringIO | None) -> Invocation:
    return invoke_handler(handler, {"Type": "Timer", "Message": message}, context, log)


def _plain(redeliver: Callable[[], Report]) -> Rounds:
    while True:
        yield redeliver()


def _watched(
    spool: SpoolStore, redeliver: Callable[[], Report], waiting: int, *, dead_letters: bool
) -> Rounds:
    """Run rounds, with a bar that shows how much of the spool is done."""
    from metric_forwarder.cli import display

    with display.progress("Redelivering", waiting) as show, ThreadPoolExecutor(1) as pool:
        while True:
            # The log repeats the report, and would break the bar.
            with contextlib.redirect_stderr(io.StringIO()):
                running: Future[Report] = pool.submit(redeliver)
                while not wait([running], _LOOK_EVERY_S).done:
                    show(waiting - spool.waiting(dead_letters=dead_letters))
            show(waiting - spool.waiting(dead_letters=dead_letters))
            yield running.result()
