"""Charts as plain SVG: a line chart of latency against throughput, and bars of where CPU goes."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 80, 24, 48, 64
COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd")
STYLE = "font-family='sans-serif' font-size='13' fill='#333'"


def line_chart(
    title: str,
    across: str,
    up: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
) -> str:
    """An SVG document: named series of (x, y) points, both axes from zero."""
    points = [point for line in series.values() for point in line] or [(1.0, 1.0)]
    most_x = _round_up(max(x for x, _ in points))
    most_y = _round_up(max(y for _, y in points))

    def place(x: float, y: float) -> tuple[float, float]:
        wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + x / most_x * wide, HEIGHT - BOTTOM - y / most_y * high

    parts = [_text(LEFT, 26, title, weight="bold")]
    for step in range(5):
        x, _ = place(most_x * step / 4, 0)
        _, y = place(0, most_y * step / 4)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, "#ddd"))
        parts.append(_text(LEFT - 8, y + 4, _spell(most_y * step / 4), "end"))
        parts.append(_text(x, HEIGHT - BOTTOM + 20, _spell(most_x * step / 4), "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, across, "middle"))
    parts.append(_text(LEFT, TOP - 6, up))
    for index, (name, line) in enumerate(series.items()):
        color = COLORS[index % len(COLORS)]
        places = [place(x, y) for x, y in sorted(line)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{color}' stroke-width='2'/>")
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{color}'/>" for x, y in places]
        parts.append(_text(WIDTH - RIGHT - 90, TOP + 16 * (index + 1), name, color=color))
    return _document(parts)


def bar_chart(title: str, unit: str, bars: Mapping[str, float]) -> str:
    """An SVG document: one horizontal bar per name."""
    most = _round_up(max(bars.values(), default=1.0) or 1.0)
    step = (HEIGHT - TOP - 20) / max(1, len(bars))
    parts = [_text(LEFT, 26, f"{title} ({unit})", weight="bold")]
    for index, (name, value) in enumerate(bars.items()):
        y, wide = TOP + index * step, value / most * (WIDTH - 2 * LEFT - 120)
        color = COLORS[index % len(COLORS)]
        parts.append(
            f"<rect x='{LEFT + 80}' y='{y:.1f}' width='{wide:.1f}' "
            f"height='{step * 0.7:.1f}' fill='{color}'/>"
        )
        parts.append(_text(LEFT + 72, y + step * 0.45, name, "end"))
        parts.append(_text(LEFT + 88 + wide, y + step * 0.45, _spell(value)))
    return _document(parts)


def _document(parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}'>\n"
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>\n{body}\n</svg>\n"
    )


def _text(
    x: float, y: float, text: str, anchor: str = "start", weight: str = "normal", color: str = ""
) -> str:
    style = STYLE if not color else STYLE.replace("#333", color)
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' font-weight='{weight}' {style}>"
        f"{escape(text)}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{color}'/>"


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... that `value` does not exceed."""
    step = 1e-3
    while True:
        for factor in (1, 2, 5):
            if value <= factor * step:
                return factor * step
        step *= 10


def _spell(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"
