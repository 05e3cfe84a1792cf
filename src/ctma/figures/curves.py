"""Draws learning curves and precision-recall curves of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ctma.figures.sheets import check_format, printable
from ctma.files import whole_file

CURVES = {
    "val_f1": "validation F1",
    "val_loss": "validation loss",
    "train_loss_epoch": "training loss",
    "lr": "learning rate",
}

COLOURS = 10
"""Number of colours in matplotlib's cycle."""

LINES = ("-", "--", ":", "-.")
"""Line styles; the next style begins once all colours are used."""


def save_curves(path: str | Path, runs: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Draws the logged values of several runs, epoch by epoch.

    Args:
        path: The path of the picture; the suffix names the format.
        runs: The lines of each run's table, by name of the run.

    Raises:
        SettingError: If the suffix names no format.
        OutputError: If the file cannot be written.
    """
    kind = check_format(path)
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(2, 2).flat
    for axis, (column, title) in zip(axes, CURVES.items(), strict=True):
        for name, lines in runs.items():
            points = [(line["epoch"], line[column]) for line in lines if column in line]
            if points:
                axis.plot(*zip(*points, strict=True), marker=".", label=printable(name))
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    axes = figure.axes
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    _save(figure, path, kind)


def save_precision_recall(
    path: str | Path, curves: Mapping[str, Sequence[tuple[float, float]]]
) -> Path:
    """Draws precision over recall; returns the path.

    Args:
        path: The path of the picture; the suffix names the format.
        curves: Points (recall, precision) of each curve, in [0, 1], by name.

    Raises:
        SettingError: If the suffix names no format.
        OutputError: If the file cannot be written.
    """
    kind = check_format(path)
    figure = Figure(figsize=(9, 6), layout="constrained")
    axis = figure.subplots()
    for number, (name, points) in enumerate(curves.items()):
        if points:
            line = LINES[number // COLOURS % len(LINES)]
            color = f"C{number % COLOURS}"
            mark = "o" if len(points) == 1 else ""
            axis.plot(
                *zip(*points, strict=True),
                label=printable(name),
                color=color,
                linestyle=line,
                marker=mark,
            )
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    _save(figure, path, kind)
    return Path(path)


def save_reliability(
    path: str | Path, bins: Sequence[tuple[float, float, int]], title: str
) -> Path:
    """Draws what is said of objects against what is right; returns the path.

    Args:
        path: The path of the picture; the suffix names the format.
        bins: Mean probability said, share that is right, and number of objects, by tenths.
        title: The title.

    Raises:
        SettingError: If the suffix names no format.
        OutputError: If the file cannot be written.
    """
    kind = check_format(path)
    figure = Figure(figsize=(6, 6), layout="constrained")
    axis = figure.subplots()
    axis.plot((0, 1), (0, 1), color="0.6", linestyle="--", label="as said")
    if bins:
        said, right, counts = zip(*bins, strict=True)
        axis.plot(said, right, marker="o", label="found")
        for x, y, count in zip(said, right, counts, strict=True):
            axis.annotate(str(count), (x, y), textcoords="offset points", xytext=(6, -12))
    axis.set(
        xlabel="probability of an object, as said", ylabel="share of objects that are change",
        xlim=(0, 1), ylim=(0, 1), title=printable(title),
    )  # fmt: skip
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left")
    _save(figure, path, kind)
    return Path(path)


def _save(figure: Figure, path: str | Path, kind: str) -> None:
    with whole_file(path) as part:
        figure.savefig(part, format=kind, dpi=130)
