"""Charts of figures, by matplotlib."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import Figure

REMEDY: Final = "Charts need matplotlib. Try: pip install '.[bench]'"


def available() -> bool:
    """Whether charts can be made here."""
    return importlib.util.find_spec("matplotlib") is not None


def plot(name: str, figure: Figure, directory: Path) -> list[Path]:
    """Write the charts of a figure as SVG: beside its peers, and its series where it has one."""
    directory.mkdir(parents=True, exist_ok=True)
    made = [_bars(name, figure, directory / f"{name}.svg")]
    if figure.series:
        made.append(_lines(name, figure, directory / f"{name}-series.svg"))
    return made


def _bars(name: str, figure: Figure, file: Path) -> Path:
    values = {"job engine": figure.value, **{peer.name: peer.value for peer in figure.peers}}
    chart, axes = _axes(1.0 + 0.5 * len(values))
    bars = axes.barh(list(values), list(values.values()))
    axes.bar_label(bars, fmt="%.4g", padding=3)
    axes.invert_yaxis()
    better = "higher" if figure.higher_is_better else "lower"
    axes.set_xlabel(f"{figure.unit} ({better} is better)")
    axes.margins(x=0.15)
    return _saved(chart, axes, f"{name}: {figure.what}", file)


def _lines(name: str, figure: Figure, file: Path) -> Path:
    chart, axes = _axes(4.0)
    for label, points in figure.series.items():
        x, y = zip(*points, strict=True)
        axes.plot(x, y, label=label, marker="." if len(points) < 50 else "")
    axes.set_xlabel(figure.axes[0])
    axes.set_ylabel(figure.axes[1])
    if all(y >= 0 for points in figure.series.values() for _, y in points):
        axes.set_ylim(bottom=0)
    axes.legend()
    return _saved(chart, axes, name, file)


def _axes(height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Chart

    chart = Chart(figsize=(8, height), layout="constrained")
    FigureCanvasSVG(chart)
    return chart, chart.subplots()


def _saved(chart: Any, axes: Any, title: str, file: Path) -> Path:
    axes.set_title(title, fontsize=10)
    # Without a date two runs that found the same make the same file.
    chart.savefig(file, format="svg", metadata={"Date": None})
    return file
