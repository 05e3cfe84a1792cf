"""The exceptions that ctma raises for mistakes that a user can correct.

Every message is one line: what is wrong, where, and what to do. Messages name arguments of
Python in backticks. The command line replaces these names with its options, prints the line
and exits with code 2.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

MOST_NAMES = 10
"""Number of suggested names where no existing name is similar."""


class CtmaError(Exception):
    """Base class of all errors that a user can correct."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets other processes send the error complete, whatever arguments its class takes."""
        return _restore, (type(self), self.args)


class CtmaWarning(UserWarning):
    """A warning to the user; the work continues."""


def warn(line: str) -> None:
    """Warns the user with one line; the command line prints this line."""
    warnings.warn(line, CtmaWarning, stacklevel=3)


def _restore(kind: type[CtmaError], args: tuple[Any, ...]) -> CtmaError:
    error = kind.__new__(kind)
    error.args = args
    return error


class UnknownNameError(CtmaError, ValueError):
    """A network, recipe, key or protocol that does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        """Suggests the most similar names.

        Args:
            kind: The kind of name, such as ``"network"``.
            name: The unknown name.
            known: All existing names of this kind.
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
    """A data folder that lacks needed files, or holds wrong ones."""


class CheckpointError(CtmaError, ValueError):
    """A checkpoint that cannot be read, or whose weights do not fit."""


class OutputError(CtmaError, OSError):
    """An output that cannot be written."""


class MissingExtraError(CtmaError, ImportError):
    """A missing package, which an extra of ctma may install."""

    def __init__(self, package: str, extra: str | None):
        """Names the missing package, and the extra of ctma that installs the package, if any."""
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
"""The extra that installs each optional package."""


@contextmanager
def extras() -> Iterator[None]:
    """Turns the absence of an optional package into an error that names its extra.

    Raises:
        MissingExtraError: Instead of ``ModuleNotFoundError``, where an extra installs the package.
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
    """The first informative line of an error's message, at most 160 characters."""
    lines = (line.strip() for line in str(error).splitlines())
    # OpenVINO's messages begin with places in OpenVINO's source code.
    message_lines = [
        line for line in lines if line and not line.startswith(("Exception from ", "Check '"))
    ]
    return (message_lines or [type(error).__name__])[0][:160]


def one_line(error: CtmaError) -> str:
    """An error's message on one line.

    An error from a data loader's process contains the traceback of that process. The last line
    of the traceback is the message.
    """
    message = str(error)
    if "Traceback" in message:
        message = message.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(message.split())
