"""The options of an emulated receiver."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from metric_forwarder.put_monitor_data.server import (
    DEFAULT_CLOCK_TOLERANCE_S,
    PATHS,
    Catalogue,
    RequestLimits,
)

EXAMPLE_SECRET_ID = "AKIDexampleexampleexample0000000000"  # noqa: S105 -- an identifier, and a fake
EXAMPLE_SECRET_KEY = "exampleexampleexampleexample0000"  # noqa: S105 -- a documented fake, no account has it
# The address of the page on which commands that run the function show its reports; the function itself does not read it.
PAGE_VARIABLE = "METRIC_FORWARDER_PAGE"
EXAMPLE_ACCOUNTS: Mapping[str, str] = MappingProxyType({EXAMPLE_SECRET_ID: EXAMPLE_SECRET_KEY})


@dataclass(frozen=True)
class EmulatorOptions:
    """How the receiver listens, which accounts it knows, and what it accepts. None as a limit means no limit.

    Attributes:
        host: the address to listen on; with the default, other machines have no access.
        port: 0 chooses a free one.
        accounts: SecretId → SecretKey.
        max_body_bytes: of a POST's body or a GET's query string; a larger one is refused with 1015.
        max_points_per_request: a request with more points is refused with 1018.
        max_points_per_period: for each SecretId, in each ``period_s`` counted from the epoch; otherwise 1018.
        period_s: the receiver aggregates over 300 s.
        max_name_length: characters of a metric's or a dimension's name; a longer one is refused with 1020.
        max_requests_per_second: for each SecretId, in any second; otherwise 1006. Refused requests do not count.
        refuse_reused_nonce: reply 1021 to a nonce that this SecretId used before, within the clock's tolerance. API v1
            forbids to use one again; whether the receiver refuses it is not published.
        clock_tolerance_s: the largest difference between a request's timestamp and the receiver's clock; otherwise 1021.
        clock_offset_s: the difference between the receiver's clock, which its ``Date`` header shows, and this machine's.
        latency_s: how long every request to the protocol's paths waits before it is processed.
        catalogue: the namespaces, metrics and dimensions that exist (1016, 1019, 1017); None: any legal name.
        seed: of the random numbers for faults whose rate is below 1.
    """

    host: str = "127.0.0.1"
    port: int = 0
    accounts: Mapping[str, str] = field(default_factory=lambda: EXAMPLE_ACCOUNTS, repr=False)
    max_body_bytes: int | None = None
    max_points_per_request: int | None = None
    max_points_per_period: int | None = None
    period_s: float = 300.0
    max_name_length: int | None = None
    max_requests_per_second: int | None = None
    refuse_reused_nonce: bool = False
    clock_tolerance_s: float = DEFAULT_CLOCK_TOLERANCE_S
    clock_offset_s: float = 0.0
    latency_s: float = 0.0
    catalogue: Catalogue | None = None
    seed: int | None = None

    @property
    def request_limits(self) -> RequestLimits:
        return RequestLimits(self.max_body_bytes, self.max_points_per_request, self.max_name_length)


_LONGEST_LATENCY_S = 3600


def _is_limit(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def _is_latency(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LONGEST_LATENCY_S


# The limits that can be set while the receiver runs: the name in its interface → the option, and a check of its value.
LIMITS: Mapping[str, tuple[str, Callable[[object], bool]]] = MappingProxyType(
    {
        "maxRequestsPerSecond": ("max_requests_per_second", _is_limit),
        "maxPointsPerRequest": ("max_points_per_request", _is_limit),
        "maxBodyBytes": ("max_body_bytes", _is_limit),
        "maxNameLength": ("max_name_length", _is_limit),
        "latencySeconds": ("latency_s", _is_latency),
    }
)


def exports(url: str, options: EmulatorOptions) -> Mapping[str, str]:
    """Return the variables with which the function sends to the receiver at this base URL; values are quoted for a shell."""
    secret_id, secret_key = next(iter(options.accounts.items()))
    is_example = options.accounts == EXAMPLE_ACCOUNTS
    return {
        "MF_RECEIVER_URL": shlex.quote(url + PATHS[0]),
        "MF_SECRET_ID": shlex.quote(secret_id),
        # A user's own key is not printed, since terminals are recorded.
        "MF_SECRET_KEY": shlex.quote(secret_key) if is_example else "'<the key you gave for it>'",
        "MF_REGION": "gz",
        PAGE_VARIABLE: shlex.quote(url),
    }


def try_commands(url: str, options: EmulatorOptions) -> list[str]:
    """Return command lines that send a first point."""
    return [
        *(f"export {name}={value}" for name, value in exports(url, options).items()),
        "metric-forwarder send --namespace pc --metric diskusage --value 0.3 --dimension diskname=sda",
    ]
