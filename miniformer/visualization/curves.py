"""How a training went: the curves of a log folder."""

import csv
import math
import re
from collections import defaultdict
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

    ``log_folder`` holds ``metrics.csv``, or folders ``version_N`` of which the last is taken.
    Learning rates are drawn on a logarithmic axis. FileNotFoundError when there is no log,
    ValueError when it holds no numbers; ImportError without matplotlib.
    """
    file = find_log(Path(log_folder))
    panels: dict[str, dict[str, Curve]] = defaultdict(dict)
    for name, curve in read_curves(file).items():
        panels[SIDES.sub("", name)][name] = curve
    if not panels:
        raise ValueError(f"{file} holds no metrics")
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
    figure.suptitle(str(file.parent))
    return save(figure, path)


def find_log(folder: Path) -> Path:
    """``metrics.csv`` in the folder or in its last version."""
    if (folder / FILE).is_file():
        return folder / FILE
    versions = [p for p in folder.glob("version_*") if (p / FILE).is_file()]
    if not versions:
        raise FileNotFoundError(f"{folder} holds no {FILE}, and no version_N with one")
    return max(versions, key=lambda p: int(re.sub(r"\D", "", p.name) or -1)) / FILE


def read_curves(file: Path) -> dict[str, Curve]:
    """Metric → its (step, value) pairs; cells that are empty or no number are passed over."""
    curves: dict[str, Curve] = defaultdict(list)
    with file.open(newline="", encoding="utf-8") as lines:
        for number, line in enumerate(csv.DictReader(lines)):
            step = _number(line.get("step"))
            place = float(number) if step is None else step
            for name, cell in line.items():
                value = _number(cell)
                if name not in COUNTERS and value is not None:
                    curves[name].append((place, value))
    return dict(curves)


def _number(cell: str | None) -> float | None:
    try:
        value = float(cell or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
