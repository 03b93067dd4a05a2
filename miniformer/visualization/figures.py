"""Figures that no global state knows of, and their way to a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")


def new_figure(width: float, height: float) -> "Figure":
    """A figure of this size in inches; ImportError names the line that installs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib: pip install 'miniformer-retrieval[viz]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: "Figure", path: str | Path | None) -> "Figure":
    """Write the figure, in the format that the suffix names, when there is a path; returns it."""
    if path is not None:
        suffix = Path(path).suffix
        if suffix not in FORMATS:
            raise ValueError(f"{path}: unknown picture format; known: {', '.join(FORMATS)}")
        # Text in an SVG stays text, so that it can be searched and read aloud.
        options: dict[str, Any] = {"dpi": 150} if suffix == ".png" else {}
        from matplotlib import rc_context

        with rc_context({"svg.fonttype": "none"}):
            figure.savefig(path, **options)
    return figure
