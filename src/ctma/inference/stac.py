"""An exported model as a STAC item with the extension for machine learning models (MLM 1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ctma.files import sha256
from ctma.models.base import ChangeNetwork

EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.5.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)

_FORMS = {
    ".onnx": ("application/octet-stream; application=onnx", "onnx", "ONNX"),
    ".xml": ("application/xml; application=openvino", "openvino", "OpenVINO"),
    ".bin": ("application/octet-stream", "openvino-weights", "OpenVINO"),
    ".pt2": ("application/octet-stream; application=pytorch", "torch.export.save", "pytorch"),
}
"""Media type, artifact type and framework of each kind of file."""

_SHA_256 = "1220"
"""How a multihash of SHA-256 begins: its kind, and its length."""


def describe_for_stac(network: ChangeNetwork, files: Sequence[Path], side: int) -> dict[str, Any]:
    """A STAC item of an exported network.

    Args:
        network: What was exported.
        files: Its files, the model first.
        side: Pixels of a tile, -1 for any.
    """
    usage = network.usage
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    bands = [f"{date} {band}" for date in ("before", "after") for band in usage.bands]
    chosen = {
        "threshold": usage.threshold,
        "temperature": usage.temperature,
        "offset": usage.offset,
        "ground_sample_distance": usage.ground_sample_distance,
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [*EXTENSIONS],
        "id": files[0].stem,
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]],
        },
        "bbox": [-180, -90, 180, 90],
        "properties": {
            "datetime": now,
            "created": now,
            "description": "Finds what changed between two images of the same place",
            "mlm:name": files[0].stem,
            "mlm:architecture": network.name or type(network).__name__,
            "mlm:tasks": ["semantic-segmentation"],
            "mlm:framework": _FORMS[files[0].suffix][2],
            "mlm:total_parameters": sum(weight.numel() for weight in network.parameters()),
            "mlm:pretrained": True,
            "mlm:accelerator_constrained": False,
            "mlm:input": [_input(bands, side, usage.scaling)],
            "mlm:output": [_output(side)],
            "mlm:hyperparameters": {key: v for key, v in chosen.items() if v is not None},
        },
        "links": [],
        "assets": {
            "model" if number == 0 else "weights": _asset(path) for number, path in enumerate(files)
        },
    }


def _input(bands: Sequence[str], side: int, scaling: float) -> dict[str, Any]:
    return {
        "name": "before and after",
        "bands": [{"name": band} for band in bands],
        "input": {
            "shape": [-1, len(bands), side, side],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": [{"type": "min-max", "minimum": 0, "maximum": scaling}] * len(bands),
        "resize_type": None,
    }


def _output(side: int) -> dict[str, Any]:
    return {
        "name": "probability",
        "tasks": ["semantic-segmentation"],
        "result": {
            "shape": [-1, 1, side, side],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": [
            {"value": 0, "name": "unchanged", "description": "as before"},
            {"value": 1, "name": "changed", "description": "changed"},
        ],
        "post_processing_function": None,
    }


def _asset(path: Path) -> dict[str, Any]:
    media, artifact, _ = _FORMS[path.suffix]
    return {
        "href": f"./{path.name}",
        "type": media,
        "roles": ["mlm:model"],
        "title": path.name,
        "mlm:artifact_type": artifact,
        "file:checksum": _SHA_256 + sha256(path),
        "file:size": path.stat().st_size,
    }
