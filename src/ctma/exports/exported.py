"""Reads and runs exported models (ONNX or OpenVINO) without torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from ctma.engines.runtimes import INPUTS, Run, onnx_errors, open_onnx, open_openvino
from ctma.errors import CheckpointError, SettingError, extras, first_line
from ctma.models.usage import Usage
from ctma.types import MINIMUM_SIZE

RUNTIMES = {".onnx": "onnx", ".xml": "openvino"}
"""The runtime for each file suffix."""

PROBABILITY = "probability"
"""Name of the output of an exported model."""

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
            f"{model.path}: takes {input_text} and gives {', '.join(signature.outputs)}; expected "
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
