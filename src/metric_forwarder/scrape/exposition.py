"""The text that a target exposes → the readings with names to keep."""

import re
from collections.abc import Callable, Iterator

from metric_forwarder.formats.lines import numbered_lines
from metric_forwarder.formats.prometheus_text import AFTER_END, read_line
from metric_forwarder.formats.samples import FormatHint, InvalidSample, Reading, Sample

# The name of a line's metric before its labels. If it is quoted among them, the whole line must be read to find it.
_name = re.compile(r"[ \t]*([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*[{ \t]").match
# Characters after which the deadline is checked again.
_WATCH_EVERY = 4096
_HINT = FormatHint()
_END = "# EOF"
_HALF = (
    "has no line break at its end, and the reply no length, so it may be cut off: let the target end its last line, or send "
    "Content-Length"
)

Keep = Callable[[str], bool]


class Exposition:
    """A text, read once from its beginning to its end.

    Args:
        open_metrics: whether it is OpenMetrics, by its content type.
        keep: whether a name is kept; the rest of a line with another name is not read.
        watch: called every few thousand characters; may raise to give up.
        may_be_cut: whether nothing tells that the text is whole: then a last line without a line break may be half of one.

    Attributes:
        lines: the number of samples read so far, kept or not.
        misfit: the first line that should be a sample, if it is none and its name is not kept: perhaps a page of an error.
    """

    def __init__(
        self,
        text: str,
        *,
        open_metrics: bool,
        keep: Keep,
        watch: Callable[[], None],
        may_be_cut: bool = False,
    ) -> None:
        is_open_ended = may_be_cut and not open_metrics and not text.endswith("\n")
        self._text, _, self._rest = text.rpartition("\n") if is_open_ended else (text, "", "")
        self._open_metrics = open_metrics
        self._keep = keep
        self._watch = watch
        self.lines = 0
        self.misfit: InvalidSample | None = None

    def readings(self) -> Iterator[Reading]:
        unwatched, number, is_ended = _WATCH_EVERY, 0, False
        for number, line in numbered_lines(self._text):
            unwatched += 1 + len(line)
            if unwatched > _WATCH_EVERY:
                unwatched = 0
                self._watch()
            if line.startswith("#") or not line or line.isspace():
                is_ended = is_ended or (self._open_metrics and line == _END)
                continue
            self.lines += 1
            found = _name(line)
            if is_ended:
                if found is None or self._keep(found[1]):
                    yield InvalidSample(f"line {number}", "eof", AFTER_END, None)
            elif found is None:
                yield from self._read_quoted(number, line)
            elif self._keep(found[1]):
                yield from read_line(number, line, _HINT, open_metrics=self._open_metrics)
            elif self.lines == 1:
                read = read_line(number, line, _HINT, open_metrics=self._open_metrics)
                self.misfit = next((each for each in read if isinstance(each, InvalidSample)), None)
        if self._rest and not self._rest.startswith("#"):
            yield InvalidSample(f"line {number + 1}", "eof", _HALF, None)
        if self._open_metrics and not is_ended:
            yield InvalidSample(
                f"line {number}", "eof", "ends without # EOF, so it was cut off: check the target", None
            )

    def _read_quoted(self, number: int, line: str) -> Iterator[Reading]:
        """Read a line to find the name of its metric; nothing if that is not kept, not even its exemplar."""
        for reading in read_line(number, line, _HINT, open_metrics=self._open_metrics):
            if isinstance(reading, Sample) and not self._keep(reading.metric):
                return
            yield reading
