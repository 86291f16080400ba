"""Small plots as SVG, written by hand: lines over a number of callers, and bars."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 50
COLOURS = ("#0b62a4", "#c0392b", "#2e8b57", "#8e44ad", "#b7791f", "#555555")
_TICKS_MAX = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What a plot of lines shows."""

    title: str
    x_label: str
    y_label: str
    xs: Sequence[float]
    y_max: float

    def x(self, value: float) -> float:
        """Return where a value lies, by its logarithm."""
        low, high = math.log(min(self.xs)), math.log(max(self.xs))
        share = (math.log(value) - low) / (high - low or 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return where a value lies."""
        return HEIGHT - BOTTOM - value / self.y_max * (HEIGHT - TOP - BOTTOM)


def lines(axes: Axes, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Plot values over a logarithmic axis, a line for each name."""
    parts = [*_frame(axes), *_ticks(axes)]
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [(axes.x(x), axes.y(y)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts += _legend(number, name, colour)
    return _document(parts)


def bars(title: str, values: Mapping[str, float], unit: str) -> str:
    """Plot one bar for each name, with its value."""
    widest = max(values.values(), default=1) or 1
    room = WIDTH - 2 * RIGHT - 20
    parts = [_text(WIDTH / 2, 24, title, anchor="middle", size=15)]
    step = (HEIGHT - TOP - 20) / max(1, len(values))
    for number, (name, value) in enumerate(values.items()):
        y = TOP + number * step
        length = max(1.0, value / widest * room)
        colour = COLOURS[0] if "faregate" in name else "#9aa5b1"
        parts.append(
            f'<rect x="{RIGHT + 20}" y="{y:.1f}" width="{length:.1f}" height="{step * 0.7:.1f}"'
            f' fill="{colour}"/>'
        )
        middle = y + step * 0.45
        parts.append(_text(RIGHT + 12, middle, name, anchor="end"))
        parts.append(_text(RIGHT + 26 + length, middle, f"{value:.2f}{unit}"))
    return _document(parts)


def nice_max(values: Sequence[float]) -> float:
    """Return a round number that no value is above."""
    highest = max(values, default=1) or 1
    step = 10 ** math.floor(math.log10(highest))
    return next(float(step * part) for part in (1, 2, 5, 10) if step * part >= highest)


def _frame(axes: Axes) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    return [
        _text(WIDTH / 2, 24, axes.title, anchor="middle", size=15),
        f'<path d="M{LEFT},{TOP} V{bottom} H{right}" fill="none" stroke="#333"/>',
        _text((LEFT + right) / 2, HEIGHT - 12, axes.x_label, anchor="middle"),
        f'<g transform="translate(16,{(TOP + bottom) / 2}) rotate(-90)">'
        f"{_text(0, 0, axes.y_label, anchor='middle')}</g>",
    ]


def _ticks(axes: Axes) -> list[str]:
    parts = [_text(axes.x(x), HEIGHT - BOTTOM + 18, f"{x:,g}", anchor="middle") for x in axes.xs]
    for number in range(_TICKS_MAX):
        value = axes.y_max * number / (_TICKS_MAX - 1)
        y = axes.y(value)
        parts.append(f'<path d="M{LEFT},{y:.1f} H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{value:,g}", anchor="end"))
    return parts


def _legend(number: int, name: str, colour: str) -> list[str]:
    y = TOP + 12 + number * 22
    x = WIDTH - RIGHT + 14
    return [
        f'<rect x="{x}" y="{y - 9}" width="12" height="12" fill="{colour}"/>',
        _text(x + 18, y + 1, name),
    ]


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(text)}</text>"
    )


def _document(parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" fill="#222">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )
