"""Makes the parts of an intake from the settings."""

import sys
from collections.abc import Callable

from metric_forwarder.clients.http import HttpTransport
from metric_forwarder.clock import Clock
from metric_forwarder.credentials import Credentials, FixedCredentials
from metric_forwarder.dedupe.identity import Identifier
from metric_forwarder.destinations.parts import Parts, make_destination
from metric_forwarder.destinations.server_clock import make_server_clocks
from metric_forwarder.formats.samples import Decoder, FormatHint
from metric_forwarder.intake.given_times import GivenTimes
from metric_forwarder.intake.intake import Intake
from metric_forwarder.intake.points import IntakeParts, IntakeRules, Relabel
from metric_forwarder.intake.schema import PointSchema
from metric_forwarder.intake.series import SeriesCache
from metric_forwarder.machine import system_machine
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.secret import Secret
from metric_forwarder.settings.settings import Settings


def make_intake(
    settings: Settings,
    clock: Clock,
    ledger: Ledger,
    watch_relabel: Callable[[Relabel], Relabel] = lambda relabel: relabel,
) -> Intake:
    """Make an intake to look at messages without sending them.

    ``watch_relabel`` wraps the relabel rules, if there are any; the intake calls the wrapper in their place.
    """
    parts = make_intake_parts(settings, clock)
    if parts.rules.relabel is not None:
        parts = parts._replace(rules=parts.rules._replace(relabel=watch_relabel(parts.rules.relabel)))
    return Intake(parts, ledger, round(clock.time() * 1000))


def make_intake_parts(settings: Settings, clock: Clock) -> IntakeParts:
    """Make the parts of an intake that sends nothing, so it needs no key and no region.

    The age of points is not checked, because it depends on when they are sent.
    """
    no_credentials = FixedCredentials(Credentials("", Secret("")))
    destination = make_destination(
        settings,
        Parts(no_credentials, HttpTransport, system_machine(clock), make_server_clocks()),
    )
    rules = intake_rules(settings, make_relabel(settings), make_mapping(settings))
    return IntakeParts(
        PointSchema(settings.kind.schema, settings.schema),
        Identifier(destination.scope, settings.dedupe_by),
        destination,
        rules._replace(max_age_s=0, max_explained=sys.maxsize),
        SeriesCache(),
        GivenTimes(),
    )


def intake_rules(settings: Settings, relabel: Relabel | None, mapping: Decoder | None) -> IntakeRules:
    return IntakeRules(
        settings.batch_max_bytes,
        settings.namespace,
        max_age_s=settings.max_age_s,
        max_ahead_s=settings.max_ahead_s,
        format_of=settings.format.find if settings.format else None,
        hint=FormatHint(settings.influx_precision, resource_attributes=settings.otlp_resource),
        relabel=relabel,
        mapping=mapping,
    )


def make_relabel(settings: Settings) -> Relabel | None:
    """Make what applies labels and rules to each point; None if there are none.

    Raises:
        ConfigError: a rule is not valid.
    """
    rules, labels, namespace = settings.relabel, settings.labels, settings.namespace
    if not rules and not labels:
        return None
    # Only a function that has rules needs them.
    from metric_forwarder.intake.relabel import read_relabeller  # noqa: PLC0415

    relabeller = read_relabeller(rules, labels)
    return lambda point: relabeller.relabel(point, namespace)


def make_mapping(settings: Settings) -> Decoder | None:
    """Make the reader of JSON in an unknown format; None if there is no mapping.

    Raises:
        ConfigError: the mapping cannot be used.
    """
    if not settings.mapping:
        return None
    # Only a function that has a mapping needs it.
    from metric_forwarder.formats.mapping import read_mapping  # noqa: PLC0415

    return read_mapping(settings.mapping)
