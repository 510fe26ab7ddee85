"""Line charts and bars as inline SVG, with no library and no script: colours are the page's CSS variables."""

from collections.abc import Sequence
import dataclasses
from html import escape
import math

_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 40
_MOST_POINTS = 600


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """A named line: `x` and `y` of equal length. `faint` draws it thin and pale and leaves it out of the legend."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 1
    faint: bool = False
    dots: bool = False


def line_chart(series: Sequence[Series], *, x_label: str, y_label: str, y_range: tuple[float, float] | None = None,
               logarithmic: bool = False, percent: bool = False) -> str:
    """Returns an `<svg>` of the series; points that are not finite (or not above 0 where logarithmic) are left out.

    Returns "" where no point is left.
    """
    series = [_finite(each, logarithmic) for each in series]
    points = [(x, y) for each in series for x, y in zip(each.x, each.y)]
    if not points:
        return ""
    xs, ys = zip(*points)
    x_low, x_high = _spread(min(xs), max(xs))
    y_low, y_high = y_range or _spread(*_bulk(ys))
    if logarithmic:
        y_low, y_high = math.log10(min(ys)), math.log10(max(ys))
        y_low, y_high = _spread(y_low, y_high)

    def at(x: float, y: float) -> tuple[float, float]:
        y = min(max(math.log10(y) if logarithmic else y, y_low), y_high)
        across = (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)
        up = (y - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)
        return _LEFT + across, _HEIGHT - _BOTTOM - up

    parts = [f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(y_label)} against {escape(x_label)}">']
    y_ticks = _decades(y_low, y_high) if logarithmic else ticks(y_low, y_high)
    for tick in y_ticks:
        _, y = at(x_low, tick)
        text = f"{tick:.0%}" if percent else short(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for tick in ticks(x_low, x_high):
        x = at(tick, y_low if not logarithmic else 10**y_low)[0]
        parts.append(f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{short(tick)}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}"/>')
    parts.append(f'<text class="label" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>')
    for each in series:
        places = [at(x, y) for x, y in _thin(list(zip(each.x, each.y)))]
        if not places:
            continue
        style = f"line c{each.colour}" + (" faint" if each.faint else "")
        parts.append(f'<path class="{style}" d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in places) + '"/>')
        if each.dots or len(places) == 1:
            parts += [f'<circle class="dot c{each.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
    parts.append("</svg>")
    named = [each for each in series if not each.faint and each.x]
    keys = "".join(f'<span><i class="key c{each.colour}"></i>{escape(each.name)}</span>' for each in named)
    legend = f'<div class="legend">{keys}</div>' if len(named) > 1 else ""
    return f'<figure><figcaption>{escape(y_label)}</figcaption>{"".join(parts)}{legend}</figure>'


def smooth(values: Sequence[float], span: int) -> list[float]:
    """Returns an exponential moving average over about `span` values, without the bias of its start."""
    keep = 1 - 1 / max(1, span)
    total, weight, smoothed = 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        smoothed.append(total / weight if weight else math.nan)
    return smoothed


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Returns round numbers in [low, high], about that many."""
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [each * step for each in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Returns round numbers between 10**low and 10**high: tenfold ones, and twice and five times those in a short range."""
    factors = (1, 2, 5) if high - low < 3 else (1,)
    found = [factor * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for factor in factors]
    return [each for each in found if low - 1e-9 <= math.log10(each) <= high + 1e-9]


def short(value: float) -> str:
    """Returns a number in few characters: 0.05, 120, 1.5k, 3M, 2G."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _finite(series: Series, logarithmic: bool) -> Series:
    kept = [(x, y) for x, y in zip(series.x, series.y) if math.isfinite(x) and math.isfinite(y) and (y > 0 or not logarithmic)]
    return dataclasses.replace(series, x=[x for x, _ in kept], y=[y for _, y in kept])


def _bulk(values: Sequence[float]) -> tuple[float, float]:
    """The range of all but the highest hundredth: one spike must not flatten the curve."""
    ordered = sorted(values)
    return ordered[0], ordered[max(0, math.ceil(0.99 * len(ordered)) - 1)]


def _spread(low: float, high: float) -> tuple[float, float]:
    if high > low:
        return low, high
    room = abs(low) * 0.1 or 1.0
    return low - room, high + room


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    stride = math.ceil(len(points) / _MOST_POINTS)
    return points if stride <= 1 else [*points[::stride], points[-1]]


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """Returns horizontal bars from (label, value of 0 or more, the value as text)."""
    most = max((value for _, value, _ in rows), default=0) or 1
    cells = "".join(
        f'<tr><th>{escape(label)}</th><td class="bar"><i style="width:{100 * value / most:.1f}%"></i></td>'
        f'<td class="number">{escape(text)}</td></tr>'
        for label, value, text in rows
    )
    return f'<table class="bars">{cells}</table>' if rows else ""
