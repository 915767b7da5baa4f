"""The plots of a report as inline SVG.

Drawn with matplotlib's SVG backend alone (no pyplot, so no state between calls), with ids that depend on the
content only. Colours are placeholders that become CSS variables, so that a plot follows the page's light or
dark scheme; texts stay texts.
"""

import io
import re
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy

from assay_evidence.report import QualityComparison
from metrics_svc.reports.latencies import Distribution
from metrics_svc.reports.wording import Score, margin_words, name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS_PER_INCH = 72
"""The backend writes points; the page shows a point as a pixel."""
FONT = 12
FOREST_WIDTH = 460
FOREST_ROW = 46
CURVES_WIDTH, CURVES_HEIGHT = 330, 220
LONGEST_LABEL = 52
STEPS = 250
FEWEST_TICKS = 4
_TICK_STEPS: tuple[tuple[float, ...], ...] = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 4, 6),
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
)
"""Multiples of a power of ten, sparse to dense; the first that gives enough ticks is taken."""
LABEL_WIDTH = 0.18
"""Part of a time axis that a label such as ``200 ms`` takes up, with room around it."""
ROWS_PER_PLOT = 12
MOST_ROWS = 24
"""Metrics in a forest plot; the table has all of them."""


_TAG = re.compile(r"<[^>]*>")


class _Colour(StrEnum):
    """Placeholders for CSS variables: unlike each other and anything that matplotlib writes by itself."""

    INK = "#010203"
    MUTED = "#010204"
    GRID = "#010205"
    BAD = "#010206"
    GOOD = "#010207"
    OPEN = "#010208"
    BASELINE = "#010209"
    CANDIDATE = "#01020a"

    @property
    def variable(self) -> str:
        """The CSS variable that takes its place."""
        return f"var(--{self.name.lower()})"


_TONES = {
    "good": _Colour.GOOD,
    "bad": _Colour.BAD,
    "open": _Colour.OPEN,
    "plain": _Colour.MUTED,
}


def forest_plots(quality: Sequence[QualityComparison]) -> list[str]:
    """Differences of scores with their 90 and 95 % intervals, and the margin of each.

    One plot for the metrics of right and wrong, whose axis counts points, and one for the others, in their
    own unit. Metrics without an interval are left out.
    """
    shown = [one for one in quality if one.interval_95 is not None][:MOST_ROWS]
    plots: list[str] = []
    for kind, scale, unit in (("binary", 100.0, "points"), ("continuous", 1.0, "the metric's unit")):
        chosen = [one for one in shown if one.kind == kind]
        limits = _limits(chosen, scale=scale)
        for start in range(0, len(chosen), ROWS_PER_PLOT):
            part = chosen[start : start + ROWS_PER_PLOT]
            plots.append(_forest_plot(part, scale=scale, unit=unit, limits=limits))
    return plots


def _limits(quality: Sequence[QualityComparison], *, scale: float) -> tuple[float, float]:
    """Ends of the axis: all intervals, all margins and zero, with some room."""
    places = [0.0]
    for one in quality:
        places += [*(one.interval_95 or ()), *(one.interval_90 or ()), _margin_place(one) or 0.0]
    room = 0.06 * (max(places) - min(places)) or 0.01
    return (min(places) - room) * scale, (max(places) + room) * scale


def _margin_place(compared: QualityComparison) -> float | None:
    """Where the margin lies: a loss is negative where higher is better."""
    if compared.margin_test is None:
        return None
    return compared.margin_test.margin * (1 if compared.higher_is_better is False else -1)


def _forest_plot(
    quality: Sequence[QualityComparison], *, scale: float, unit: str, limits: tuple[float, float]
) -> str:
    height = FOREST_ROW * len(quality) + 52
    figure, axes = _figure(FOREST_WIDTH, height)
    axes.set_position((0.025, 44 / height, 0.95, 1 - 56 / height))
    for row, one in enumerate(quality):
        _forest_row(axes, one, y=-row, scale=scale)
    axes.set_ylim(-len(quality) + 0.55, 0.75)
    axes.set_yticks([])
    axes.set_xlim(*limits)
    axes.set_xlabel(f"candidate − baseline, {unit}", fontsize=FONT, color=_Colour.MUTED)
    return _svg(figure, title=f"Score differences with their intervals, {unit}")


def _forest_row(axes: "Axes", compared: QualityComparison, *, y: float, scale: float) -> None:
    """One metric: its name and numbers above, its intervals below, the margin as a dashed line."""
    assert compared.interval_95 is not None
    score, (_, tone) = Score(compared), margin_words(compared)
    colour = _TONES[tone]
    axes.plot([0, 0], [y - 0.3, y + 0.18], color=_Colour.INK, linewidth=1)
    if (margin := _margin_place(compared)) is not None:
        axes.plot([margin * scale] * 2, [y - 0.3, y + 0.18], color=_Colour.BAD, linewidth=1.4, dashes=(3, 2))
    low, high = (end * scale for end in compared.interval_95)
    axes.plot([low, high], [y, y], color=colour, linewidth=1.5, solid_capstyle="round")
    if compared.interval_90 is not None:
        axes.plot(
            [end * scale for end in compared.interval_90], [y, y], color=colour, linewidth=5, alpha=0.55
        )
    axes.plot([compared.difference * scale], [y], marker="o", markersize=6.5, color=colour)
    transform = axes.get_yaxis_transform()
    style: dict[str, Any] = {"transform": transform, "va": "bottom", "fontsize": FONT}
    axes.text(0, y + 0.22, name_of(compared.metric, longest=LONGEST_LABEL), color=_Colour.INK, **style)
    axes.text(1, y + 0.22, score.difference(compared.difference), color=_Colour.INK, ha="right", **style)


def latency_curves(
    baseline: Distribution | None, candidate: Distribution | None, *, title: str
) -> str | None:
    """Cumulative distributions of a time in both runs, on a logarithmic axis; ``None`` without a run."""
    runs = [
        (one, colour)
        for one, colour in ((baseline, _Colour.BASELINE), (candidate, _Colour.CANDIDATE))
        if one is not None
    ]
    if not runs:
        return None
    figure, axes = _figure(CURVES_WIDTH, CURVES_HEIGHT)
    axes.set_position((0.115, 0.15, 0.86, 0.76))
    axes.set_xscale("log")
    for one, colour in runs:
        seconds, shares = _steps(one)
        style: Any = "-" if colour is _Colour.CANDIDATE else (0, (5, 1.5))
        axes.plot(seconds, shares, color=colour, linewidth=1.8, drawstyle="steps-post", linestyle=style)
    axes.set_ylim(0, 101)
    axes.set_yticks([0, 25, 50, 75, 100], ["0 %", "25", "50", "75", "100"])
    _time_ticks(axes, runs=[one for one, _ in runs])
    axes.grid(visible=True, color=_Colour.GRID, linewidth=0.7)
    return _svg(figure, title=title)


def _steps(distribution: Distribution) -> tuple[list[float], list[float]]:
    """The corners of the curve, at most ``STEPS`` and those of the extremes; shares in percent."""
    steps = numpy.unique(numpy.floor(distribution.shares * STEPS), return_index=True)[1]
    kept = numpy.union1d(steps, [0, len(distribution.shares) - 1])
    seconds = [float(distribution.seconds[0]), *distribution.seconds[kept].tolist()]
    return seconds, [0.0, *(distribution.shares[kept] * 100).tolist()]


def _time_ticks(axes: "Axes", *, runs: Sequence[Distribution]) -> None:
    """Four to six round times as ticks, as far as the range allows."""
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    low = min(float(one.seconds[0]) for one in runs) / 1.15
    high = max(float(one.seconds[-1]) for one in runs) * 1.15
    ticks: list[float] = []
    for steps in _TICK_STEPS:
        ticks = [
            step * 10.0**exponent
            for exponent in range(-6, 5)
            for step in steps
            if low * 1.04 <= step * 10.0**exponent <= high / 1.06
        ]
        if len(ticks) >= FEWEST_TICKS:
            break
    ticks = _with_room(ticks, least=(high / low) ** LABEL_WIDTH)
    axes.set_xlim(low, high)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.set_xticklabels([_round_time(tick) for tick in ticks])


def _with_room(ticks: Sequence[float], *, least: float) -> list[float]:
    """Ticks of which each is at least so many times the one before."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or tick >= least * kept[-1]:
            kept.append(tick)
    return kept


def _round_time(seconds: float) -> str:
    """A round time without idle zeros."""
    if seconds >= 1:
        return f"{seconds:g} s"
    return f"{seconds * 1e3:g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:g} µs"


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    """An empty figure of this size in points with one pair of axes in the page's colours."""
    # Imported late: matplotlib takes longer to import than everything else in the service.
    import matplotlib
    from matplotlib.figure import Figure

    # Always the same values, so that it does no harm that they are the library's globals.
    matplotlib.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "report",
            "font.family": "sans-serif",
            "text.parse_math": False,
        }
    )
    figure = Figure(figsize=(width / POINTS_PER_INCH, height / POINTS_PER_INCH))
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_Colour.GRID)
    axes.tick_params(colors=_Colour.GRID, labelcolor=_Colour.MUTED, labelsize=FONT, length=3)
    return figure, axes


def _svg(figure: "Figure", *, title: str) -> str:
    """The figure as an ``svg`` element that scales with the page and has a name for screen readers."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # matplotlib writes a style for every element of the document, which here is the whole page.
    text = re.sub(r"<(style|metadata).*?</\1>", "", text, flags=re.DOTALL)
    referred = set(re.findall(r"[#]([\w.-]+)", "".join(_TAG.findall(text))))
    text = _TAG.sub(lambda tag: _tidy(tag[0], referred), text)
    text = re.sub(r"\n\s*", "\n", re.sub(r"<defs>\s*</defs>", "", text))
    width, height = (round(size * POINTS_PER_INCH) for size in figure.get_size_inches())
    escaped = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    opening = (
        f'<svg class="plot" role="img" aria-label="{escaped}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">'
    )
    return opening + text[text.index(">") + 1 :]


def _tidy(tag: str, referred: Collection[str]) -> str:
    """A tag in the page's colours and font, with two decimals, and with an id only where it is referred to.

    Groups would have the same ids in every plot of the page. Texts, which hold names, are not touched.
    """
    for colour in _Colour:
        tag = tag.replace(colour.value, colour.variable)
    tag = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in referred else "", tag)
    tag = re.sub(r"font-family: [^;\"]*", "font-family: inherit", tag)
    return re.sub(r"(\.\d\d)\d+", r"\1", tag)
