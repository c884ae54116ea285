"""What is known of a destination's clock, by the replies of its servers."""

from collections import defaultdict

# The Date of a reply has whole seconds, and the reply took a moment: a smaller difference says nothing about a clock.
_SAME_CLOCK_S = 5.0


class ServerClock:
    """How far a destination's clock is ahead of this machine's.

    Attributes:
        offset_s: seconds; None while no reply has confirmed this machine's clock, or shown that it is wrong.
        signing_offset_s: for signatures, which use this machine's clock until one is refused for its time.
    """

    def __init__(self) -> None:
        self.offset_s: float | None = None
        self.signing_offset_s = 0.0

    def learn(self, theirs_s: float | None, ours_s: float) -> None:
        """The destination replied at this time; None: it says nothing against our clock, nor against what it said before."""
        offset_s = (self.offset_s or 0.0) if theirs_s is None else theirs_s - ours_s
        self.offset_s = offset_s if abs(offset_s) >= _SAME_CLOCK_S else 0.0

    def agree(self, theirs_s: float | None, ours_s: float) -> None:
        """A server replied that may not be the destination: if its clock agrees with ours, ours is right; if not, either may be wrong."""
        if self.offset_s is None and theirs_s is not None and abs(theirs_s - ours_s) < _SAME_CLOCK_S:
            self.offset_s = 0.0


# By the scope of a destination. They are kept when settings change and the destination is made again.
ServerClocks = defaultdict[str, ServerClock]


def make_server_clocks() -> ServerClocks:
    return defaultdict(ServerClock)
