"""The figure of docs/benchmarks.md: the cost of a point by the size of its event, and by its shape."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.rows import Row

Curves = Mapping[str, Mapping[int, float]]


def plot(curves: Curves, shapes: Sequence[Row], file: Path) -> None:
    """Draw both parts of the figure as SVG.

    Args:
        curves: microseconds of CPU a point, by subject and by the points of an event.
        shapes: the rows of ``benchmarks.shapes``.
        file: the file to write.
    """
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    sizes, bars = figure.subplots(1, 2)
    for name, curve in curves.items():
        sizes.loglog(list(curve), list(curve.values()), marker="o", markersize=3, label=name)
    sizes.set(xlabel="points in the event", ylabel="µs of CPU a point")
    sizes.grid(visible=True, alpha=0.3)
    sizes.legend(fontsize=7)
    names = [row.what for row in shapes]
    places = range(len(names), 0, -1)
    bars.barh(places, [row.value for row in shapes], height=0.6, label="CPU, the floor = 1")
    bars.plot([row.bound for row in shapes], places, "k|", markersize=7, label="bound")
    bars.set_yticks(places, names, fontsize=5.5)
    bars.axvline(1, color="grey", linewidth=0.8)
    bars.legend(fontsize=7)
    figure.savefig(file, format="svg", metadata={"Date": None})
