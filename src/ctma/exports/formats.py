"""Exports networks to files for other programs: ONNX, OpenVINO and torch programs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ctma._version import __version__
from ctma.checkpoints.header import find_checkpoint
from ctma.checkpoints.store import load_telling
from ctma.engines.graphs import make_example
from ctma.engines.prepared import refuse_prepared
from ctma.engines.rewriting import fold_norms, rewrite
from ctma.engines.tracing import UNTRACEABLE, trace
from ctma.errors import CtmaError, SettingError, UnknownNameError, extras, first_line
from ctma.exports.exported import KEY, Description
from ctma.exports.graphs import Probability, Stacked, trace_probability
from ctma.exports.stac import Tile, describe_for_stac
from ctma.files import refuse_existing, whole_file, write_json
from ctma.models.base import ChangeNetwork, check_network, check_numbers, evaluating

PURPOSES = ("qgis-deepness",)
"""Programs that need a special form of file."""

TILE = 512
"""Side of the tiles that QGIS cuts, in pixels; a multiple of every network's stride."""

OVERLAP = 10
"""Overlap of the tiles, in percent."""

_DEEPNESS = Tile(TILE, batch=1, scaling=255.0, images="input", found="output")
"""Input and output of a model for Deepness."""

_IR_VERSION = 8
_LARGEST_SIDE = 1 << 14


def export(
    model: ChangeNetwork | str | Path,
    output: str | Path,
    *,
    purpose: str | None = None,
    stac: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Exports a network to a file, whole or not at all.

    The exported model returns calibrated probabilities. The inputs ``before`` and ``after`` are
    (B, bands, H, W), from 0 to 1: stored values divided by ``scaling``, or as shares of their
    ``ranges``. The output ``probability`` is (B, 1, H, W). Batch size, height and width are free.
    For a ``.pt2`` file, height and width must be multiples of the network's stride. The metadata
    under the key ``ctma`` hold all fields of the network's ``usage``.

    Args:
        model: A network, as from ``load_model``, or a checkpoint by name or path.
        output: The file to write: ``.onnx``, ``.xml`` (with the weights in a ``.bin`` file in the
            same folder) or ``.pt2``.
        purpose: ``"qgis-deepness"`` writes an ``.onnx`` file for the QGIS plug-in Deepness: one
            input of both dates, (1, 2 bands, 512, 512), and the metadata that Deepness reads.
        stac: Also write a STAC item, ``OUTPUT.stac.json``, with the extension for machine
            learning models.
        overwrite: Replace existing files.

    Returns:
        The paths of the written files.

    Raises:
        SettingError: If the network cannot be exported in this format.
        CheckpointError: If the network returns values that are not finite.
        UnknownNameError: If the purpose is unknown.
        OutputError: If a file cannot be written, or exists and ``overwrite`` is false.
        MissingExtraError: If a package that the export needs is not installed.
    """
    network = load_telling(find_checkpoint(model)) if isinstance(model, str | Path) else model
    check_network(network)
    output = Path(output)
    refuse_prepared(network)
    if purpose is not None and purpose not in PURPOSES:
        raise UnknownNameError("purpose", purpose, PURPOSES)
    if output.suffix not in _WRITERS or (purpose and output.suffix != ".onnx"):
        kinds = ".onnx" if purpose else ", ".join(_WRITERS)
        raise SettingError(f"`output` {output}: its suffix says what it becomes: {kinds}")
    item = output.with_name(f"{output.name}.stac.json")
    files = [output, *([output.with_suffix(".bin")] if output.suffix == ".xml" else [])]
    for path in (*files, item) if stac else files:
        refuse_existing(path, overwrite)
    write = _write_for_deepness if purpose else _WRITERS[output.suffix]
    try:
        with evaluating(network):
            with torch.no_grad():
                check_numbers(network(*make_example(network, fits=True)).fine)
            write(network, output)
    except CtmaError:
        raise
    except UNTRACEABLE as error:
        raise SettingError(
            f"{type(network).__name__}: cannot be written as {output.suffix} ({first_line(error)})"
        ) from error
    if stac:
        write_json(item, describe_for_stac(network, files, _DEEPNESS if purpose else None))
        files.append(item)
    return files


def describe_network(network: ChangeNetwork, **known: Any) -> Description:
    """Makes the description of an exported network.

    Args:
        network: The network to export.
        **known: Further fields of ``Description``.
    """
    return Description(
        network=network.name,
        arguments=network.arguments,
        stride=network.stride,
        minimum_size=network.minimum_size,
        checkpoint=network.fingerprint()[:16],
        ctma_version=__version__,
        **dict(network.usage),
        **known,
    )


def save_openvino(model: Any, output: Path, description: Description) -> None:
    """Writes an OpenVINO model with its description, whole or not at all.

    If the new weights cannot replace those of an existing model, the existing model is deleted.
    """
    with extras():
        import openvino
    model.set_rt_info(description.model_dump_json(), [KEY])
    with whole_file(output) as text, whole_file(output.with_suffix(".bin")) as weights:
        openvino.serialize(model, text, weights)
        # Delete the old .xml file first: it does not fit the new .bin file.
        output.unlink(missing_ok=True)


def _write_onnx(network: ChangeNetwork, output: Path) -> None:
    metadata = {KEY: describe_network(network).model_dump_json()}
    _save_onnx(trace_probability(network, "onnx"), output, metadata)


def _write_openvino(network: ChangeNetwork, output: Path) -> None:
    with extras():
        import openvino
    model = openvino.Core().read_model(trace_probability(network, "openvino"))
    save_openvino(model, output, describe_network(network))


def _write_program(network: ChangeNetwork, output: Path) -> None:
    folded = Probability(fold_norms(network).to(memory_format=torch.contiguous_format)).eval()
    least = -(-network.minimum_size // network.stride)
    sides = [
        network.stride * torch.export.Dim(name, min=least, max=_LARGEST_SIDE // network.stride)
        for name in ("rows", "columns")
    ]
    free = {0: torch.export.Dim("batch"), 2: sides[0], 3: sides[1]}
    # Trace with two pairs: torch would fix the batch size of a single pair to 1.
    example = [date.repeat(2, 1, 1, 1) for date in make_example(network, fits=True)]
    with torch.no_grad():
        program = torch.export.export(folded, tuple(example), dynamic_shapes=(free, free))
    metadata = {f"{KEY}.json": describe_network(network).model_dump_json()}
    # Torch's own writer ends the process where a disk is full.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files=metadata)
    with whole_file(output) as part:
        part.write_bytes(content.getvalue())


def _write_for_deepness(network: ChangeNetwork, output: Path) -> None:
    usage = network.usage
    distance = usage.ground_sample_distance
    if distance is None:
        raise SettingError(
            "`purpose` qgis-deepness: the checkpoint does not say the ground sample distance it "
            "was trained at (ctma convert --gsd adds it)"
        )
    if usage.ranges is not None:
        raise SettingError(
            "`purpose` qgis-deepness: Deepness gives values of 8 bits, this network takes others"
        )
    example = torch.rand(1, 2 * network.bands, TILE, TILE)
    images, output_name = _DEEPNESS.images, _DEEPNESS.found
    graph = trace(Stacked(rewrite(network)), [example], output_name, inputs=(images,), free=False)
    settings = {
        "model_type": "Segmentor",
        "class_names": {"0": "unchanged", "1": "changed"},
        "resolution": 100 * distance,
        "tile_size": TILE,
        "tiles_size": TILE,
        "tiles_overlap": OVERLAP,
        "seg_thresh": usage.threshold,
        "seg_small_segment": 0,
        "standardization_mean": [0.0] * (2 * network.bands),
        "standardization_std": [1.0] * (2 * network.bands),
    }
    metadata = {name: json.dumps(value) for name, value in settings.items()}
    _save_onnx(graph, output, metadata | {KEY: describe_network(network).model_dump_json()})


def _save_onnx(graph: bytes, output: Path, metadata: dict[str, str]) -> None:
    with extras():
        import onnx
    model = onnx.load_from_string(graph)
    model.ir_version = _IR_VERSION
    onnx.helper.set_model_props(model, metadata)
    with whole_file(output) as part:
        onnx.save(model, part)


_WRITERS: dict[str, Callable[[ChangeNetwork, Path], None]] = {
    ".onnx": _write_onnx,
    ".xml": _write_openvino,
    ".pt2": _write_program,
}
