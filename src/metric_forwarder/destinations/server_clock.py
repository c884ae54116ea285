"""What is known of a destination's clock, by the replies of its servers."""

from collections import defaultdict

# The Date of a reply has whole seconds, and the reply took a moment: a smaller difference says nothing about a clock.
_SAME_CLOCK_S = 5.0


class ServerClock:
    """How far a destination's clock is ahead of this machine's.

    Attributes:
        offset_s: seconds; None until a reply has told, and the machine's own clock is unconfirmed so long.
        signing_offset_s: for signatures, which use this machine's clock until one is refused for its time.
    """

    def __init__(self) -> None:
        self.offset_s: float | None = None
        self.signing_offset_s = 0.0

    def learn(self, told_s: float | None, now_s: float) -> None:
        """The destination replied with this time; None: it says nothing against our clock, nor against what it said before."""
        offset_s = (self.offset_s or 0.0) if told_s is None else told_s - now_s
        self.offset_s = offset_s if abs(offset_s) >= _SAME_CLOCK_S else 0.0

    def agree(self, told_s: float | None, now_s: float) -> None:
        """Another server replied, perhaps: two clocks that agree are right, but of two that differ any may be wrong."""
        if self.offset_s is None and told_s is not None and abs(told_s - now_s) < _SAME_CLOCK_S:
            self.offset_s = 0.0


# By the scope of a destination. They outlive changes of settings, which make the destination anew.
ServerClocks = defaultdict[str, ServerClock]


def make_server_clocks() -> ServerClocks:
    return defaultdict(ServerClock)
