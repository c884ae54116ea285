"""A plot of several curves on two logarithmic axes, as SVG."""

from collections.abc import Mapping
from math import ceil, floor, log10

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 20, 50
_COLOURS = ("#0b6bcb", "#7a7a7a", "#00a3a3", "#b0b0b0", "#d9822b", "#c23030", "#8a4fbf")

Curves = Mapping[str, Mapping[int, float]]


def plot(curves: Curves, x_label: str, y_label: str) -> str:
    """Draw the curves, each labelled at its end."""
    xs = [log10(x) for curve in curves.values() for x in curve]
    ys = [log10(y) for curve in curves.values() for y in curve.values()]
    area = _Area(floor(min(xs)), ceil(max(xs)), floor(min(ys)), ceil(max(ys)))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        *area.grid(),
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">{x_label}</text>',
        f'<text x="16" y="{_HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 16 {_HEIGHT / 2})">{y_label}</text>',
    ]
    ends = _apart({name: area.y(list(curve.values())[-1]) for name, curve in curves.items()})
    for (name, curve), colour in zip(curves.items(), _COLOURS, strict=False):
        points = " ".join(f"{area.x(x):.1f},{area.y(y):.1f}" for x, y in curve.items())
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = area.x(max(curve)) if max(curve) < 10**area.x_to else _WIDTH - _RIGHT
        parts.append(f'<text x="{at + 6:.1f}" y="{ends[name] + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


class _Area:
    """Where values are on the page; the limits are powers of ten."""

    def __init__(self, x_from: int, x_to: int, y_from: int, y_to: int) -> None:
        self.x_from, self.x_to, self.y_from, self.y_to = x_from, x_to, y_from, y_to

    def x(self, value: float) -> float:
        share = (log10(value) - self.x_from) / (self.x_to - self.x_from)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (log10(value) - self.y_from) / (self.y_to - self.y_from)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def grid(self) -> list[str]:
        lines = []
        for power in range(self.x_from, self.x_to + 1):
            x = self.x(10**power)
            lines += [
                f'<path d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#ddd"/>',
                f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{10**power:,}</text>',
            ]
        for power in range(self.y_from, self.y_to + 1):
            y = self.y(10**power)
            lines += [
                f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>',
                f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10**power:,}</text>',
            ]
        return lines


def _apart(ends: Mapping[str, float]) -> dict[str, float]:
    """Labels that would lie on each other, moved down."""
    placed: dict[str, float] = {}
    lowest = float("-inf")
    for name in sorted(ends, key=lambda name: ends[name]):
        lowest = placed[name] = max(ends[name], lowest + 14)
    return placed
