"""Describes an exported model as a STAC item with the machine learning extension (MLM 1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from ctma.engines.runtimes import INPUTS
from ctma.exports.exported import PROBABILITY
from ctma.files import sha256
from ctma.models.base import ChangeNetwork
from ctma.types import Ranges

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
"""First bytes of a SHA-256 multihash, in hexadecimal: the hash type and its length."""


class Tile(NamedTuple):
    """Input and output of an exported model that does not take two images of any size.

    Attributes:
        side: Side of a tile in pixels; -1 for any side.
        batch: Number of tiles in a batch; -1 for any number.
        scaling: The stored value that maps to 1.
        images: Name of the input.
        found: Name of the output.
    """

    side: int
    batch: int
    scaling: float
    images: str
    found: str


def describe_for_stac(
    network: ChangeNetwork, files: Sequence[Path], tile: Tile | None = None
) -> dict[str, Any]:
    """Makes a STAC item of an exported network.

    Args:
        network: The exported network.
        files: Paths of the exported files, the model first.
        tile: Input and output of the model; by default those in ``ctma.export``.
    """
    usage = network.usage
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    tile = tile or Tile(-1, -1, usage.scaling, " and ".join(INPUTS), PROBABILITY)
    bands = [f"{date} {band}" for date in INPUTS for band in usage.bands]
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
            "mlm:input": [_input(bands, tile, usage.ranges)],
            "mlm:output": [_output(tile)],
            "mlm:hyperparameters": {key: v for key, v in chosen.items() if v is not None},
        },
        "links": [],
        "assets": {
            "model" if number == 0 else "weights": _asset(path) for number, path in enumerate(files)
        },
    }


def _input(
    bands: Sequence[str], tile: Tile, ranges: tuple[Ranges, Ranges] | None
) -> dict[str, Any]:
    each = [(0.0, tile.scaling)] * len(bands) if ranges is None else [*chain(*ranges)]
    return {
        "name": tile.images,
        "bands": [{"name": band} for band in bands],
        "input": {
            "shape": [tile.batch, len(bands), tile.side, tile.side],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": [
            {"type": "min-max", "minimum": low, "maximum": high} for low, high in each
        ],
        "resize_type": None,
    }


def _output(tile: Tile) -> dict[str, Any]:
    return {
        "name": tile.found,
        "tasks": ["semantic-segmentation"],
        "result": {
            "shape": [tile.batch, 1, tile.side, tile.side],
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
