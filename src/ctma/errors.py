"""The exceptions that ctma raises for mistakes a user can mend.

Every message is one line: what is wrong, where, and what to do. Arguments stand in it in
backticks, as Python callers know them; the command line turns them into its options,
prints the line and exits with code 2.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

MOST_NAMES = 10
"""How many names are suggested where none is near."""


class CtmaError(Exception):
    """Base of all errors that a user can mend."""

    def __reduce__(self) -> tuple[Any, ...]:
        """So that they come whole from other processes, whatever they are made of."""
        return _restore, (type(self), self.args)


class CtmaWarning(UserWarning):
    """What a user should know of, although the work goes on."""


def warn(line: str) -> None:
    """Warns of what a user should know, by one line; the command line prints it."""
    warnings.warn(line, CtmaWarning, stacklevel=3)


def _restore(kind: type[CtmaError], args: tuple[Any, ...]) -> CtmaError:
    error = kind.__new__(kind)
    error.args = args
    return error


class UnknownNameError(CtmaError, ValueError):
    """A network, recipe, key or protocol that does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        """Says which names come nearest.

        Args:
            kind: What was looked up, such as ``"network"``.
            name: The name that was given.
            known: All names that exist.
        """
        known, name = sorted(set(known)), str(name)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:MOST_NAMES]
        advice = f"did you mean {', '.join(near)}?" if near else "there is none"
        super().__init__(f"unknown {kind} {name!r}: {advice}")


class SettingError(CtmaError, ValueError):
    """A setting of the wrong type or outside its range."""


class ImageError(CtmaError, ValueError):
    """An image that cannot be used: unreadable, truncated, of the wrong kind or size."""


class DataError(CtmaError, ValueError):
    """A data folder that does not hold what is needed."""


class CheckpointError(CtmaError, ValueError):
    """A checkpoint that cannot be read, or whose weights do not fit."""


class OutputError(CtmaError, OSError):
    """An output that cannot be written."""


class MissingExtraError(CtmaError, ImportError):
    """A part that is installed only with an extra."""

    def __init__(self, package: str, extra: str | None):
        """Names the package that is missing and the extra of ctma that brings it, if one does."""
        what = package if extra is None else f"'ctma[{extra}]'"
        super().__init__(f"{package} is not installed: pip install {what}")


_TRAINING = ("imagehash", "lightning", "tensorboard")
_SCENES = (
    "affine", "geopandas", "pyarrow", "pyogrio", "pyproj", "rasterio", "scipy", "shapely",
)  # fmt: skip
_ENCODERS = ("segmentation_models_pytorch",)
_ARRAYS = ("dask", "distributed", "odc", "rioxarray", "xarray")
EXTRAS = (
    dict.fromkeys(_TRAINING, "train")
    | dict.fromkeys(_SCENES, "scene")
    | dict.fromkeys(_ARRAYS, "dask")
    | dict.fromkeys(_ENCODERS, "unet")
    | {"openvino": "openvino", "onnx": "onnx", "onnxruntime": "onnx", "nncf": "quantize"}
)
"""The extra that brings each package which is not always installed."""


@contextmanager
def extras() -> Iterator[None]:
    """Turns the absence of an optional package into an error that names its extra.

    Raises:
        MissingExtraError: Instead of ``ModuleNotFoundError``, where an extra would help.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise MissingExtraError(package, EXTRAS[package]) from error


class SceneError(CtmaError, ValueError):
    """Two rasters that cannot be compared: no CRS, no overlap, too few bands, damage."""


def first_line(error: Exception) -> str:
    """The first line of an error's message that says something, shortened."""
    lines = (line.strip() for line in str(error).splitlines())
    # OpenVINO says first where in its own source that was.
    told = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    return (told or [type(error).__name__])[0][:160]


def one_line(error: CtmaError) -> str:
    """An error's message on one line.

    An error from a loader's process comes wrapped in that process's traceback, whose last
    line is the message.
    """
    message = str(error)
    if "Traceback" in message:
        message = message.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(message.split())
