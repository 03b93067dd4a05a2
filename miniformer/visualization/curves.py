"""How a training went: the curves of a log folder."""

import csv
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from miniformer.visualization.figures import new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "metrics.csv"
COUNTERS = ("step", "epoch")
SIDES = re.compile(r"^(train|val|test)[_/]|_(step|epoch)$")
LOGARITHMIC = re.compile(r"^lr|learning_rate")
COLUMNS = 3

Curve = list[tuple[float, float]]


def plot_training(log_folder: str | Path, *, path: str | Path | None = None) -> "Figure":
    """Draw every metric of a CSV log over the steps, training and validation in one panel.

    ``log_folder`` holds ``metrics.csv``, or folders ``version_N``, the parts of a run that was
    taken up again: where two of them tell of one step, the later is right.
    Learning rates are drawn on a logarithmic axis. FileNotFoundError when there is no log,
    ValueError when it holds no numbers; ImportError without matplotlib.
    """
    panels: dict[str, dict[str, Curve]] = defaultdict(dict)
    for name, curve in read_curves(find_logs(Path(log_folder))).items():
        panels[SIDES.sub("", name)][name] = curve
    if not panels:
        raise ValueError(f"{log_folder} holds no metrics")
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(4.6 * columns, 3.2 * rows + 0.3)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, (metric, curves) in zip(grid, panels.items(), strict=False):
        for name, curve in curves.items():
            marker = "o" if len(curve) < 30 else ""
            axes.plot(*zip(*curve, strict=True), label=name, marker=marker, markersize=3)
        axes.set(title=metric, xlabel="step", ylabel=metric)
        if LOGARITHMIC.search(metric) and all(y > 0 for c in curves.values() for _, y in c):
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(str(log_folder))
    return save(figure, path)


def find_logs(folder: Path) -> list[Path]:
    """``metrics.csv`` in the folder, or in each of its versions, the oldest first."""
    if (folder / FILE).is_file():
        return [folder / FILE]
    versions = [p for p in folder.glob("version_*") if (p / FILE).is_file()]
    if not versions:
        raise FileNotFoundError(f"{folder} holds no {FILE}, and no version_N with one")
    versions.sort(key=lambda p: int(re.sub(r"\D", "", p.name) or -1))
    return [version / FILE for version in versions]


def read_curves(files: Sequence[Path]) -> dict[str, Curve]:
    """Metric → its (step, value) pairs; cells that are empty or no number are passed over."""
    curves: dict[str, dict[float, float]] = defaultdict(dict)
    for file in files:
        with file.open(newline="", encoding="utf-8") as lines:
            for number, line in enumerate(csv.DictReader(lines)):
                step = _number(line.get("step"))
                place = float(number) if step is None else step
                for name, cell in line.items():
                    value = _number(cell)
                    if name not in COUNTERS and value is not None:
                        curves[name][place] = value
    return {name: sorted(curve.items()) for name, curve in curves.items()}


def _number(cell: str | None) -> float | None:
    try:
        value = float(cell or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
