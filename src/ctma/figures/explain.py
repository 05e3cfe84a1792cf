"""Draws the paper's two picture sheets for any pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctma.data.dataset import to_tensor, to_unit_range
from ctma.data.pairs import Pair, find_coding, read_pair, read_sample
from ctma.engines.prepared import Prepared
from ctma.errors import SettingError, warn
from ctma.figures.sheets import error_map, heat, save_sheet
from ctma.files import refuse_inputs
from ctma.inference.predictor import Model, as_predictor
from ctma.inference.resolution import check_given_distance, coarseness_warning, find_enlargement
from ctma.inference.views import resize, resize_for
from ctma.models.base import check_numbers, evaluating
from ctma.models.ctma import CTMA, Stages
from ctma.models.ctma_lite import STRIDES, CTMALite, LiteStages
from ctma.types import Pixels


def explain(
    before: str | Path,
    after: str | Path,
    model: Model,
    output: str | Path,
    *,
    label: str | Path | None = None,
    threshold: float | None = None,
    ground_sample_distance: float | None = None,
) -> list[Path]:
    """Draws how CTMA makes its mask, on two picture sheets.

    The first sheet shows the images, the coarse mask and the final mask. Where a label is given,
    the sheet also shows the label and the errors. The second sheet, ``NAME.features.SUFFIX``,
    shows heat maps:

    - For CTMA, the difference features F, the motion features M1 and M2, and the level-3 spatial
      feature of the unmasked branch.
    - For CTMA-Lite, the motion features, where the network has any, and the compared features at
      each stride.

    Args:
        before: An image.
        after: A later image of the same place.
        model: A predictor, a network in memory, or a checkpoint by name or path. The network
            must be a CTMA or CTMA-Lite; it runs without its engine.
        output: The path of the first sheet.
        label: The label's image, to show on the first sheet.
        threshold: Probability above which a pixel counts as change; the checkpoint's by default.
        ground_sample_distance: Metres per pixel of the images. Where given, ctma enlarges or
            reduces the images to the distance that the network was trained at.

    Returns:
        Paths of both sheets.

    Raises:
        SettingError: If the network is no CTMA, the images are smaller than 64 pixels, the
            distance is not above 0, or the checkpoint does not record its own distance.
        ImageError: If an image cannot be read.
        OutputError: If a sheet cannot be written, or would replace an input.
    """
    files = [Path(path) for path in (before, after, label) if path is not None]
    sheets = name_sheets(output)
    refuse_inputs(files, sheets)
    network = as_predictor(model).network
    change_file = None if label is None else Path(label)
    pair = Pair(files[0].stem, files[0], files[1], change_file)
    images = read_pair(pair)
    change = None if label is None else read_sample(pair, find_coding([pair]))[2]
    if not isinstance(network, CTMA | CTMALite):
        kind = "an exported model" if isinstance(network, Prepared) else type(network).__name__
        raise SettingError(f"explain shows the inside of CTMA and CTMA-Lite; this is {kind}")
    _check_fit(images[0], network, ground_sample_distance)
    if line := coarseness_warning(network.usage, ground_sample_distance):
        warn(line)
    stages, logits = _look(network, images, ground_sample_distance)
    threshold = network.usage.threshold if threshold is None else threshold
    mask = (_plane(network.probability(logits)) > threshold).astype(np.uint8)
    tiles: dict[str, Pixels] = {
        "before": images[0],
        "after": images[1],
        "coarse mask": _plane(stages.coarse_mask).astype(np.uint8),
        "final mask": mask,
    }
    if change is not None:
        tiles |= {"label": (change == 1).astype(np.uint8), "errors": error_map(mask, change)}
    save_sheet(sheets[0], [tiles], "CTMA: from coarse to final mask")
    save_sheet(sheets[1], [_heat_maps(stages)], "CTMA: what the network looks at")
    return sheets


@torch.no_grad()
def _look(
    network: CTMA | CTMALite, images: Sequence[Pixels], ground_sample_distance: float | None
) -> tuple[Stages | LiteStages, Tensor]:
    """The network's intermediate features, and its logits at the images' size."""
    ratio = find_enlargement(network.usage, ground_sample_distance)
    inputs = (
        resize_for(network, to_unit_range(to_tensor(image)[None], network.usage.scaling), ratio)
        for image in images
    )
    with evaluating(network):
        stages = network.stages(*(image.to(network.device) for image in inputs))
    return stages, resize(check_numbers(stages.fused_logits), images[0].shape[:2])


def name_sheets(path: str | Path) -> list[Path]:
    """The paths of both sheets, the second beside the first.

    Raises:
        SettingError: If the path names no file.
    """
    first = Path(path)
    if not first.name:
        raise SettingError("`output`: name a file, such as sheet.png")
    return [first, first.with_name(f"{first.stem}.features{first.suffix}")]


def _heat_maps(stages: Stages | LiteStages) -> dict[str, Pixels]:
    motion = {f"motion features M{n}": features for n, features in enumerate(stages.motion, 1)}
    if isinstance(stages, LiteStages):
        levels = zip(STRIDES, stages.levels, strict=True)
        features = motion | {f"compared at stride {stride}": level for stride, level in levels}
    else:
        features = {
            "difference features F": stages.difference,
            **motion,
            "spatial feature, level 3": stages.spatial,
        }
    means = {name: _array(feature).mean(axis=0) for name, feature in features.items()}
    return {
        f"{name}\nblue {plane.min():.2g}, red {plane.max():.2g}": heat(plane)
        for name, plane in means.items()
    }


def _check_fit(image: Pixels, model: CTMA | CTMALite, ground_sample_distance: float | None) -> None:
    if model.bands != image.shape[2]:
        raise SettingError(f"this network takes {model.bands} bands, images have {image.shape[2]}")
    if min(image.shape[:2]) < model.minimum_size:
        raise SettingError(f"explain takes images of at least {model.minimum_size} pixels a side")
    check_given_distance(model.usage, ground_sample_distance)


def _array(features: Tensor) -> NDArray[np.float32]:
    return features[0].float().cpu().numpy()


def _plane(values: Tensor) -> NDArray[np.float32]:
    return _array(values)[0]
