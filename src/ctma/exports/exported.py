"""Models that were exported to ONNX or to OpenVINO's form; read and run without torch."""

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
"""What runs a file of each suffix."""

PROBABILITY = "probability"
"""What the output of an exported model is called."""

KEY = "ctma"
"""Where its description stands among a file's metadata."""


class Description(Usage):
    """What an exported model says about itself: how it is used, and what it came from.

    Temperature and offset are applied inside the model.

    Attributes:
        network: The network that was exported.
        arguments: Those it was made with.
        precision: ``"float32"``, or ``"int8"`` where it was quantised.
        scores: Of a quantised model, what its gate measured.
        stride: Pixels of its coarsest features; sizes that are its multiples lose nothing.
        minimum_size: The smallest height and width, in pixels, that it takes.
        checkpoint: Fingerprint of the weights.
        ctma_version: The version of ctma that wrote it.
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
    """An exported model that was found to have the signature of one.

    Attributes:
        path: Its file.
        runtime: What runs it, ``"onnx"`` or ``"openvino"``.
        description: What it says about itself; the defaults where another program wrote it.
    """

    path: Path
    runtime: str
    description: Description

    @property
    def why(self) -> str:
        """Why its runtime runs it, for people."""
        return f"{self.path.name} is run by it"

    def open(
        self,
        shape: tuple[int, ...] | None = None,
        threads: int | None = None,
        streams: int | None = None,
    ) -> Callable[[], Run]:
        """What makes sessions; arguments as of ``open_openvino``.

        Sessions raise a CheckpointError where the model gives no probability of each pixel.
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
            found = session(*images)
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.path}: does not take float32 images of {shape} ({first_line(error)})"
            ) from error
        if found.shape != expected or not np.isfinite(found).all():
            raise CheckpointError(
                f"{self.path}: gives {found.shape} values, or some that are no numbers, for images "
                f"of {shape}; expected {PROBABILITY} of {expected}"
            )
        return found


def is_exported(path: str | Path) -> bool:
    """Whether a checkpoint is an exported model, by its suffix."""
    return Path(path).suffix in RUNTIMES


def read_exported(path: str | Path) -> ExportedModel:
    """Reads an exported model and checks its signature.

    Args:
        path: ``.onnx``, or ``.xml`` with its ``.bin`` beside it.

    Raises:
        CheckpointError: If it is missing or damaged, or has another signature.
        MissingExtraError: If what runs it is not installed.
    """
    model, signature = _read(Path(path).absolute())
    _check_signature(model, signature)
    return model


def read_description(path: str | Path) -> ExportedModel:
    """As ``read_exported``, but a file of ours may have another signature, as QGIS wants it."""
    model, signature = _read(Path(path).absolute())
    if signature.told is None:
        _check_signature(model, signature)
    return model


class _Signature(NamedTuple):
    """Inputs and outputs with their channels, and the description as text."""

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
        found = ", ".join(f"{name} of {count} bands" for name, count in signature.inputs.items())
        raise CheckpointError(
            f"{model.path}: takes {found} and gives {', '.join(signature.outputs)}; expected "
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
    told = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None
    return _Signature(inputs, outputs, told)


_READERS: dict[str, Callable[[Path], _Signature]] = {"onnx": _read_onnx, "openvino": _read_openvino}


def _channels(shape: list[Any]) -> int | None:
    """Of (B, C, H, W); ``None`` where there are other dimensions, or they are not known."""
    return shape[1] if len(shape) == 4 and isinstance(shape[1], int) else None
