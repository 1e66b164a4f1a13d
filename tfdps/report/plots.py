"""Epsilon over steps, by RDP and by PLD: the numbers, and an SVG that follows the page's colours."""

import dataclasses
import io
import re

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tfdps.accounting import accountants
from tfdps.accounting.events import part

_PLD_POINTS = 8  # a point takes about a second
_RDP_POINTS = 200
# Colours that nobody would choose, each replaced by a variable of the page's style sheet.
_INK, _MUTED, _LINE, _RDP, _PLD = "#010101", "#010102", "#010103", "#010104", "#010105"
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _LINE: "var(--line)",
    _RDP: "var(--rdp)",
    _PLD: "var(--pld)",
}


@dataclasses.dataclass(frozen=True)
class Spending:
    """Epsilon as it was spent: `rdp` and `pld` are lists of (steps, epsilon), from (0, 0) on."""

    rdp: list
    pld: list

    @property
    def at_end(self):
        """{"rdp": epsilon, "pld": epsilon} of all steps."""
        return {"rdp": self.rdp[-1][1], "pld": self.pld[-1][1]}

    def table(self):
        """Returns [(steps, epsilon by RDP, epsilon by PLD)] at the steps of the PLD points."""
        by_rdp = dict(self.rdp)
        return [(steps, by_rdp[steps], by_pld) for steps, by_pld in self.pld]


def spending(charges, delta):
    """Returns the Spending of a ledger's charges, in their order, at `delta`.

    Args:
      charges: a list of NoiseEvent, at least one step in all.
      delta: in (0, 1).
    """
    total = sum(charge.steps for charge in charges)
    few = _grid(total, _PLD_POINTS)
    many = sorted(set(few) | set(_grid(total, _RDP_POINTS)))

    def curve(points, accountant):
        return [
            (k, accountants.epsilon_of(part(charges, 0, k), delta=delta, accountant=accountant))
            for k in points
        ]

    return Spending(rdp=curve(many, "rdp"), pld=curve(few, "pld"))


def _grid(total, points):
    """0 and up to `points` whole numbers up to `total`, closer at first, where epsilon grows fast."""
    grid = np.rint(total * (np.arange(points + 1) / points) ** 2).astype(int)
    return sorted({int(k) for k in grid})


def epsilon_svg(spent, *, target, width, height, prefix):
    """Returns the plot as an <svg> element, a text; the same for the same numbers.

    Args:
      spent: a Spending.
      target: the target epsilon, drawn as a line, or None.
      width, height: inches of 72 CSS pixels.
      prefix: goes before every id in the element, so that two plots can share a page.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    if target is not None:
        axes.axhline(
            target, color=_MUTED, linestyle=(0, (4, 3)), linewidth=1.2, label=f"target {target:g}"
        )
    axes.plot(*zip(*spent.rdp, strict=True), color=_RDP, linewidth=2, label="RDP")
    axes.plot(
        *zip(*spent.pld, strict=True),
        color=_PLD,
        linewidth=2,
        marker="o",
        markersize=4.5,
        label="PLD",
    )
    _dress(axes)
    file = io.StringIO()
    # These settings exist as global ones only; they hold for this drawing.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tfdps"}):
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    return _inline(file.getvalue(), prefix)


def _dress(axes):
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("noisy steps", color=_MUTED)
    axes.set_ylabel("epsilon", color=_MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda steps, _: f"{steps:,.0f}"))
    axes.tick_params(color=_LINE, labelcolor=_MUTED, labelsize=9)
    axes.grid(color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_LINE)
    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)
    axes.legend(frameon=False, labelcolor=_INK, loc="lower right")  # the curves leave it empty


def _inline(svg, prefix):
    """The bare element: no XML prologue, no metadata, the page's colours, ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{prefix}-", svg)
    return svg.replace("<svg", '<svg class="plot" aria-hidden="true"', 1)
