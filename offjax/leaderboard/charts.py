"""Small SVG charts for the page, colored by CSS so that they follow its theme.

A series carries its key as `data-method`, by which the page's script hides it, and its
color as a class `s0`…`s9`. All are 360 wide, so that text stays readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape

from offjax.leaderboard.statistics import Estimate

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 34
COLORS = 10


class Style(NamedTuple):
    """How a column is drawn everywhere on the page."""

    key: str
    label: str
    place: int

    @property
    def classes(self) -> str:
        """Color class; from the eleventh on also a dash pattern."""
        dash = f" d{self.place // COLORS % 4}" if self.place >= COLORS else ""
        return f"s{self.place % COLORS}{dash}"

    @property
    def short(self) -> str:
        """The label in at most 18 characters; variants differ at their end."""
        label = self.label
        return label if len(label) <= 18 else f"{label[:6]}…{label[-11:]}"


class Series(NamedTuple):
    """A line with its band; arrays [points], NaN bounds where there is none."""

    style: Style
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Point(NamedTuple):
    """A dot of a scatter plot."""

    style: Style
    x: float
    y: float
    title: str


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most about `most` round numbers within [low, high]."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low] if math.isfinite(low) else []
    raw = span / most
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + i) * step, 10) for i in range(count)]


def short(value: float) -> str:
    """A tick's label: 20k, 1.5M, 0.25."""
    for scale, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds in words: 45s, 12m, 3.5h."""
    for scale, suffix in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= scale:
            return f"{seconds / scale:.3g}{suffix}"
    return f"{seconds:.3g}s"


def _limits(values: Iterable[np.ndarray], pad: float = 0.04) -> tuple[float, float]:
    pooled = np.concatenate([np.ravel(v) for v in values])
    pooled = pooled[np.isfinite(pooled)]
    if not pooled.size:
        return 0.0, 1.0
    low, high = float(pooled.min()), float(pooled.max())
    if low == high:
        return low - 1.0, high + 1.0
    return low - pad * (high - low), high + pad * (high - low)


class _Frame:
    """Axes of a chart: maps values to places and draws ticks and labels."""

    floor = HEIGHT - BOTTOM

    def __init__(
        self,
        x_limits: tuple[float, float],
        y_limits: tuple[float, float],
        log_x: bool = False,
    ) -> None:
        self.log_x, self.y_limits = log_x, y_limits
        self.x_limits = tuple(map(math.log10, x_limits)) if log_x else x_limits

    def x(self, value: np.ndarray | float) -> np.ndarray:
        low, high = self.x_limits
        value = np.log10(value) if self.log_x else np.asarray(value, np.float64)
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: np.ndarray | float) -> np.ndarray:
        low, high = self.y_limits
        share = (np.asarray(value, np.float64) - low) / (high - low)
        return self.floor - share * (self.floor - TOP)

    def axes(
        self, x_label: str, y_label: str, x_text: Callable[[float], str] = short
    ) -> str:
        floor = self.floor
        parts = []
        for tick in nice_ticks(*self.y_limits):
            y = float(self.y(tick))
            parts.append(
                f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
                f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">'
                f"{short(tick)}</text>"
            )
        for tick in self._x_ticks():
            x = float(self.x(tick))
            parts.append(
                f'<text x="{x:.1f}" y="{floor + 14}" text-anchor="middle">'
                f"{x_text(tick)}</text>"
            )
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(
            f'<path class="axis" d="M{LEFT} {floor}H{WIDTH - RIGHT}"/>'
            f'<text class="name" x="{middle}" y="{HEIGHT - 4}" '
            f'text-anchor="middle">{escape(x_label)}</text>'
            f'<text class="name" transform="translate(8 {(TOP + floor) / 2:.0f}) '
            f'rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
        )
        return "".join(parts)

    def _x_ticks(self) -> list[float]:
        low, high = self.x_limits
        if not self.log_x:
            # Updates and counts: a label between two of them would mean nothing.
            ticks = nice_ticks(low, high)
            return [t for t in ticks if t == round(t)] if high - low > 1 else ticks
        decades = range(math.ceil(low), math.floor(high) + 1)
        if len(decades) >= 2:
            return [10.0**d for d in decades]
        return nice_ticks(10.0**low, 10.0**high, 4)


def _svg(height: int, title: str, body: str) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{body}</svg>"
    )


def _path(x: np.ndarray, y: np.ndarray) -> str:
    pairs = zip(x.tolist(), y.tolist(), strict=True)
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in pairs)


def _band(frame: _Frame, series: Series) -> str:
    known = np.isfinite(series.low) & np.isfinite(series.high)
    if not known.any():
        return ""
    x = frame.x(series.x[known])
    outline = _path(
        np.concatenate([x, x[::-1]]),
        frame.y(np.concatenate([series.low[known], series.high[known][::-1]])),
    )
    return f'<path class="band" d="{outline}Z"/>'


def lines(
    series: Sequence[Series],
    title: str,
    x_label: str,
    y_label: str,
    y_limits: tuple[float, float] | None = None,
) -> Markup:
    """Lines with bands; a single point is drawn as a dot."""
    x_limits = _limits([s.x for s in series], 0.0)
    if y_limits is None:
        y_limits = _limits([v for s in series for v in (s.y, s.low, s.high)])
    frame = _Frame(x_limits, y_limits)
    drawn = []
    for s in series:
        x, y = frame.x(s.x), frame.y(s.y)
        mark = (
            f'<circle class="dot" cx="{x[0]:.1f}" cy="{y[0]:.1f}" r="3"/>'
            if len(x) == 1
            else f'<path class="line" d="{_path(x, y)}"/>'
        )
        drawn.append(
            f'<g class="series {s.style.classes}" data-method="{escape(s.style.key)}">'
            f"<title>{escape(s.style.label)}</title>{_band(frame, s)}{mark}</g>"
        )
    return _svg(HEIGHT, title, frame.axes(x_label, y_label) + "".join(drawn))


def scatter(points: Sequence[Point], title: str, x_label: str, y_label: str) -> Markup:
    """Dots over a logarithmic time axis."""
    xs = np.array([p.x for p in points])
    ys = np.array([p.y for p in points])
    low, high = float(xs.min()) / 1.3, float(xs.max()) * 1.3
    frame = _Frame((low, high), _limits([ys]), log_x=True)
    drawn = [
        f'<g class="series {p.style.classes}" data-method="{escape(p.style.key)}">'
        f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4">'
        f"<title>{escape(p.title)}</title></circle></g>"
        for p, x, y in zip(points, frame.x(xs), frame.y(ys), strict=True)
    ]
    return _svg(HEIGHT, title, frame.axes(x_label, y_label, duration) + "".join(drawn))


def interval_rows(rows: Sequence[tuple[Style, Estimate]], title: str) -> Markup:
    """One bar per method: the interval, with a tick at the value."""
    pitch = 22
    height = TOP + BOTTOM + pitch * len(rows) - 14
    labels = 118
    values = np.array([estimate for _, estimate in rows], np.float64)
    low, high = _limits([values], 0.05)
    scale = (WIDTH - labels - RIGHT) / (high - low)
    floor = height - BOTTOM + 12
    body = []
    for tick in nice_ticks(low, high, 4):
        x = labels + (tick - low) * scale
        body.append(
            f'<path class="grid" d="M{x:.1f} {TOP - 6}V{floor}"/>'
            f'<text x="{x:.1f}" y="{floor + 13}" text-anchor="middle">{short(tick)}'
            "</text>"
        )
    for i, (style, estimate) in enumerate(rows):
        y = TOP + pitch * i + 4
        x = labels + (estimate.value - low) * scale
        bar = ""
        text = f"{style.label}: {estimate.value:.1f}"
        if math.isfinite(estimate.low):
            start, end = (labels + (v - low) * scale for v in estimate[1:])
            bar = (
                f'<rect class="bar" x="{start:.1f}" y="{y - 5}" '
                f'width="{max(end - start, 1):.1f}" height="10" rx="2"/>'
            )
            text += f" [{estimate.low:.1f}, {estimate.high:.1f}]"
        body.append(
            f'<g class="series {style.classes}" data-method="{escape(style.key)}">'
            f"<title>{escape(text)}</title>"
            f'<text class="name" x="{labels - 8}" y="{y + 4}" text-anchor="end">'
            f"{escape(style.short)}</text>{bar}"
            f'<path class="value" d="M{x:.1f} {y - 7}v14"/></g>'
        )
    return _svg(height, title, "".join(body))
