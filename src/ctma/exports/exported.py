"""Reads and runs exported models (ONNX or OpenVINO) without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from ctma._version import __version__
from ctma.devices import find_processor
from ctma.engines.runtimes import (
    INPUTS,
    Run,
    count_cores,
    onnx_errors,
    open_onnx,
    open_openvino,
)
from ctma.engines.sessions import SessionEngine, Shape
from ctma.errors import CheckpointError, SettingError, extras, first_line
from ctma.files import file_fingerprint
from ctma.models.usage import Usage
from ctma.types import MINIMUM_SIZE

if TYPE_CHECKING:
    from ctma.models.base import ChangeNetwork

RUNTIMES = {".onnx": "onnx", ".xml": "openvino"}
"""The runtime for each file suffix."""

PROBABILITY = "probability"
"""Name of the output of an exported model."""

_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}

_NEAREST = np.float32(1e-7)
"""Probabilities are clipped to this distance from 0 and 1 before ctma computes logits."""

KEY = "ctma"
"""Key of the description in a file's metadata."""


class Description(Usage):
    """The description of an exported model: how to use the model, and its source network.

    The model itself applies temperature and offset.

    Attributes:
        network: Name of the exported network.
        arguments: Arguments of the network for ``create_model``.
        precision: ``"float32"``, or ``"int8"`` for a quantised model.
        scores: For a quantised model, the scores that the quantisation measured.
        stride: Stride of the coarsest features, in pixels; image sizes that are multiples of the
            stride lose nothing.
        minimum_size: The smallest height and width of an input image, in pixels.
        checkpoint: Fingerprint of the weights.
        ctma_version: The version of ctma that wrote the model.
    """

    model_config = ConfigDict(extra="allow")

    network: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)
    precision: Literal["float32", "int8"] = "float32"
    scores: dict[str, Any] = Field(default_factory=dict)
    stride: int = Field(8, ge=1)
    minimum_size: int = Field(MINIMUM_SIZE, ge=1)
    checkpoint: str = ""
    ctma_version: str = ""


@dataclass(frozen=True)
class ExportedModel:
    """A file that holds an exported model.

    Attributes:
        path: The model's file.
        runtime: The runtime for the model, ``"onnx"`` or ``"openvino"``.
        description: The model's description; default values if another program wrote the file.
    """

    path: Path
    runtime: str
    description: Description

    @property
    def why(self) -> str:
        """Why ctma selects this runtime, as a phrase for messages."""
        return f"{self.path.name} is run by it"

    @property
    def fingerprint(self) -> str:
        """A hash of the content of the model's files."""
        files = [self.path, self.path.with_suffix(".bin")]
        return "".join(file_fingerprint(path) for path in files if path.is_file())

    @property
    def usage(self) -> Usage:
        """How the model takes images; its output is already calibrated."""
        return self.description.only().replace(temperature=1.0, offset=0.0)

    def open(
        self,
        shape: tuple[int, ...] | None = None,
        threads: int | None = None,
        streams: int | None = None,
    ) -> Callable[[], Run]:
        """Opens the model and returns a function that makes sessions.

        The arguments are those of ``open_openvino``. A session raises a CheckpointError if
        the model does not return a probability for each pixel.
        """
        if self.runtime == "onnx":
            opened = open_onnx(self.path, threads=threads, streams=streams, inputs=INPUTS)
        else:
            opened = open_openvino(
                self.path, self.description.precision, shape=shape, threads=threads,
                streams=streams, inputs=INPUTS,
            )  # fmt: skip
        return lambda: partial(self._run, opened())

    def _run(self, session: Run, *images: NDArray[np.float32]) -> NDArray[np.float32]:
        shape = images[0].shape
        expected = (shape[0], 1, *shape[2:])
        try:
            probability = session(*images)
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.path}: does not take float32 images of {shape} ({first_line(error)})"
            ) from error
        if probability.shape != expected or not np.isfinite(probability).all():
            raise CheckpointError(
                f"{self.path}: gives {probability.shape} values, or some that are no numbers, for "
                f"images of {shape}; expected {PROBABILITY} of {expected}"
            )
        return probability


class Exported(SessionEngine):
    """Runs an exported model; loads no torch for arrays.

    Args:
        model: An exported model, as returned by ``read_exported``.
        network: The model's signature as a network; only ``run`` needs it.
    """

    def __init__(self, model: ExportedModel, network: ChangeNetwork | None = None):
        if network is not None:
            self.network = network
        self.model = model
        self.precision = model.description.precision
        self.streams = None
        self._forget_sessions()

    @property
    def name(self) -> str:  # type: ignore[override]
        """The runtime of the model's file."""
        return self.model.runtime

    @property
    def precisions(self) -> tuple[str, ...]:  # type: ignore[override]
        """The precision of the model's file."""
        return (self.precision,)

    @property
    def packages(self) -> tuple[str, ...]:  # type: ignore[override]
        """The package of the runtime."""
        return (_PACKAGES[self.model.runtime],)

    @property
    def shapes(self) -> int:  # type: ignore[override]
        """Number of input shapes that get their own session."""
        return 4 if self.model.runtime == "openvino" else 0

    def run_arrays(
        self, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Logits of the model's probability; see ``SessionEngine.run_arrays``."""
        probability = super().run_arrays(before, after).clip(_NEAREST, 1 - _NEAREST)
        return np.log(probability / (1 - probability))

    def open(self, form: str, shape: Shape | None) -> Callable[[], Run]:
        """Opens the model's file and returns a function that makes sessions."""
        return self.model.open(shape, self.threads(), self.streams)

    def threads(self) -> int:
        """Number of threads that compute where there is one caller."""
        return int(os.environ.get("OMP_NUM_THREADS") or count_cores())

    def describe(self) -> dict[str, str]:
        """All facts that the bits of the outputs depend on."""
        return {
            "ctma": __version__,
            "device": "cpu",
            "engine": self.name,
            "precision": self.precision,
            # Below float32, rounding depends on the processor.
            "units": "" if self.precision == "float32" else find_processor(),
            **self.versions(),
        }

    def computed(self) -> None:
        """Returns ``None``: only the model's file determines how it computes."""
        return None


def is_exported(path: str | Path) -> bool:
    """Whether a path has the suffix of an exported model."""
    return Path(path).suffix in RUNTIMES


def read_exported(path: str | Path) -> ExportedModel:
    """Reads an exported model and checks its signature.

    Args:
        path: An ``.onnx`` file, or an ``.xml`` file with its ``.bin`` file in the same folder.

    Raises:
        CheckpointError: If the file is missing or damaged, or the model has another signature.
        MissingExtraError: If the runtime is not installed.
    """
    model, signature = _read(Path(path).absolute())
    _check_signature(model, signature)
    return model


def read_description(path: str | Path) -> ExportedModel:
    """As ``read_exported``, but accepts other signatures of ctma files, such as for QGIS."""
    model, signature = _read(Path(path).absolute())
    if signature.told is None:
        _check_signature(model, signature)
    return model


class _Signature(NamedTuple):
    """Inputs and outputs, each with its number of channels, and the description as text."""

    inputs: dict[str, int | None]
    outputs: dict[str, int | None]
    told: str | None


def _read(path: Path) -> tuple[ExportedModel, _Signature]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    runtime = RUNTIMES[path.suffix]
    try:
        signature = _READERS[runtime](path)
    except (RuntimeError, ValueError, OSError) as error:
        whole = f"{path} with {path.with_suffix('.bin').name}" if path.suffix == ".xml" else path
        raise CheckpointError(f"{whole}: cannot be read ({first_line(error)})") from error
    try:
        description = Description(**json.loads(signature.told or "{}"))
    except SettingError as error:
        raise CheckpointError(f"{path}: damaged description ({error})") from error
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged description ({first_line(error)})") from error
    return ExportedModel(path, runtime, description), signature


def _check_signature(model: ExportedModel, signature: _Signature) -> None:
    bands = len(model.description.bands)
    if signature.inputs != dict.fromkeys(INPUTS, bands) or [*signature.outputs] != [PROBABILITY]:
        input_text = ", ".join(
            f"{name} of {count} bands" for name, count in signature.inputs.items()
        )
        raise CheckpointError(
            f"{model.path}: takes {input_text or 'nothing'} and gives "
            f"{', '.join(signature.outputs) or 'nothing'}; expected "
            f"before and after of {bands} bands each, (B, bands, H, W), and {PROBABILITY}"
        )


def _read_onnx(path: Path) -> _Signature:
    with extras():
        import onnxruntime
    with onnx_errors():
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs, outputs = (
        {port.name: _channels(port.shape) for port in ports}
        for ports in (session.get_inputs(), session.get_outputs())
    )
    return _Signature(inputs, outputs, session.get_modelmeta().custom_metadata_map.get(KEY))


def _read_openvino(path: Path) -> _Signature:
    with extras():
        import openvino
    # OpenVINO would try the parsers of all other formats, which print lines of their own.
    with path.open("rb") as file:
        if b"<net" not in file.read(4096):
            raise ValueError("begins with no <net>, as OpenVINO's models do")
    model = openvino.Core().read_model(path)
    inputs, outputs = (
        {
            port.any_name: _channels(
                [None if size.is_dynamic else size.get_length() for size in port.partial_shape]
            )
            for port in ports
        }
        for ports in (model.inputs, model.outputs)
    )
    description = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None
    return _Signature(inputs, outputs, description)


_READERS: dict[str, Callable[[Path], _Signature]] = {"onnx": _read_onnx, "openvino": _read_openvino}


def _channels(shape: list[Any]) -> int | None:
    """Returns C of a shape (B, C, H, W); ``None`` for other shapes, or if C is unknown."""
    return shape[1] if len(shape) == 4 and isinstance(shape[1], int) else None
