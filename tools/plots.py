"""Draw what `make bench` measured of growth: `docs/performance/*.svg`.

    python tools/plots.py [BENCH_JSON]

The pictures have no background and middling colours, so that they can be read on light pages and on dark ones.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "performance"
REGIONS, NODES_IN_REGION = 3, 3
"""Growth in pods is drawn for labs of so many regions, growth in regions for labs of so many nodes in each."""

Point: TypeAlias = dict[str, float]
Growth: TypeAlias = dict[str, list[Point]]

GREY = "#7d8590"
COLOURS = ("#4c8dd6", "#d9822b", "#3fa45b", "#c9508a", "#8a6fd1")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "meshproof",
    "font.size": 9,
    "text.color": GREY,
    "axes.facecolor": "none",
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.titlesize": 9,
    "axes.titlecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
}
STAGES = {
    "up_s": "lab up",
    "place_s": "probe pods",
    "facts_s": "facts",
    "matrix_s": "probes",
    "judging_s": "judging",
}
MEMORY = {"lab_mb": "lab", "judging_mb": "judging process"}
WORK = {"probes": "probes", "execs": "execs"}


@dataclass(frozen=True)
class Picture:
    """One picture: a panel for each profile, a curve for each quantity.

    Attributes:
        name: of its file.
        along: the quantity on the horizontal axis.
        label: what that is, in words.
        curves: the quantities, in words.
        unit: of the vertical axis.
        drawn: which measurements it shows.
        logarithmic: whether both axes are, so that slopes tell powers.
    """

    name: str
    along: str
    label: str
    curves: dict[str, str]
    unit: str
    drawn: Callable[[Point], bool]
    logarithmic: bool = False


def _in_pods(point: Point) -> bool:
    return point["regions"] == REGIONS


def _in_regions(point: Point) -> bool:
    return point["nodes"] == NODES_IN_REGION * point["regions"] and point["pods"] == NODES_IN_REGION * point["nodes"]


PODS, MORE_REGIONS = f"probe pods in {REGIONS} regions", f"regions of {NODES_IN_REGION} nodes, 3 probe pods on each"
PICTURES = (
    Picture("pods-time", "pods", PODS, STAGES, "seconds", _in_pods),
    Picture("pods-memory", "pods", PODS, MEMORY, "MB", _in_pods),
    Picture("pods-work", "pods", PODS, WORK, "number", _in_pods, logarithmic=True),
    Picture("regions-time", "regions", MORE_REGIONS, STAGES, "seconds", _in_regions),
    Picture("regions-memory", "regions", MORE_REGIONS, MEMORY, "MB", _in_regions),
)


def draw(picture: Picture, growth: Growth) -> bytes:
    """The picture as SVG, the same bytes for the same measurements."""
    figure, panels = plt.subplots(
        1, len(growth), figsize=(3.6 * len(growth), 2.5), sharey=True, squeeze=False, layout="constrained"
    )
    for panel, (profile, points) in zip(panels[0], growth.items(), strict=True):
        shown = sorted(filter(picture.drawn, points), key=lambda point: point[picture.along])
        places = [point[picture.along] for point in shown]
        for (quantity, words), colour in zip(picture.curves.items(), COLOURS, strict=False):
            panel.plot(places, [point[quantity] for point in shown], "o-", color=colour, label=words)
        if picture.logarithmic:
            panel.set(xscale="log", yscale="log")
            panel.minorticks_off()
        panel.set_xticks(places, [f"{place:g}" for place in places])
        panel.set(title=profile, xlabel=picture.label)
    panels[0][0].set_ylabel(picture.unit)
    panels[0][0].legend()
    if not picture.logarithmic:
        panels[0][0].set_ylim(bottom=0)
    svg = BytesIO()
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return svg.getvalue()


def main(arguments: Sequence[str]) -> int:
    """Read the measurements and write the pictures."""
    source = Path(arguments[0]) if arguments else ROOT / "reports" / "bench.json"
    try:
        growth: Growth = json.loads(source.read_text())["growth"]
    except (OSError, ValueError, KeyError) as error:
        print(f"plots: {source} holds no measurements of growth ({error!r}); `make bench` makes them", file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        for picture in PICTURES:
            (FOLDER / f"{picture.name}.svg").write_bytes(draw(picture, growth))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
