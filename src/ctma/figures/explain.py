"""The paper's two picture sheets, for any pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctma.data.dataset import to_tensor
from ctma.errors import SettingError
from ctma.figures.sheets import error_map, heat, save_sheet
from ctma.inference.protocols import check_numbers, to_unit_range
from ctma.inference.resolution import check_given_distance, find_enlargement
from ctma.inference.views import enlarge, evaluating, resize
from ctma.models.base import ChangeNetwork
from ctma.models.ctma import CTMA, Stages
from ctma.models.ctma_lite import STRIDES, CTMALite, LiteStages
from ctma.types import Pixels


@torch.no_grad()
def save_explanation(
    path: str | Path,
    before: Pixels,
    after: Pixels,
    model: ChangeNetwork,
    *,
    change: Pixels | None = None,
    threshold: float | None = None,
    ground_sample_distance: float | None = None,
) -> list[Path]:
    """Writes how CTMA came to its mask.

    The first sheet shows the images, the coarse mask and the final mask (and the label
    and errors where a label is given). The second, ``NAME.features.SUFFIX``, shows heat
    maps: of CTMA the difference features F, the motion features M1 and M2, and the level-3
    spatial feature of the unmasked branch; of CTMA-Lite the motion features, where it has
    any, and what it compares at each stride.

    Args:
        path: Where the first sheet goes.
        before: (H, W, 3).
        after: The same shape.
        model: A CTMA, of any size.
        change: Label in 0/1, (H, W).
        threshold: Change is where the probability exceeds it; the checkpoint's by default.
        ground_sample_distance: Metres a pixel; where given, the network sees the images
            enlarged or reduced to the distance it was trained at.

    Returns:
        Paths of both sheets.

    Raises:
        SettingError: If the network is no CTMA, the images are smaller than 64 pixels, the
            distance is not above 0, or the network does not know its own.
        OutputError: If a sheet cannot be written.
    """
    if not isinstance(model, CTMA | CTMALite):
        raise SettingError(f"explain shows the inside of CTMA, this is {type(model).__name__}")
    _check_fit(before, model, ground_sample_distance)
    ratio = find_enlargement(model, ground_sample_distance)
    inputs = (
        enlarge(to_unit_range(to_tensor(image)[None], model.usage.scaling), ratio, model)
        for image in (before, after)
    )
    with evaluating(model):
        stages = model.stages(*(images.to(model.device) for images in inputs))
    logits = resize(check_numbers(stages.fused_logits), before.shape[:2])
    threshold = model.usage.threshold if threshold is None else threshold
    mask = (_plane(model.probability(logits)) > threshold).astype(np.uint8)
    tiles: dict[str, Pixels] = {
        "before": before,
        "after": after,
        "coarse mask": _plane(stages.coarse_mask).astype(np.uint8),
        "final mask": mask,
    }
    if change is not None:
        tiles |= {"label": change, "errors": error_map(mask, change)}
    first, second = name_sheets(path)
    save_sheet(first, [tiles], "CTMA: from coarse to final mask")
    save_sheet(second, [_heat_maps(stages)], "CTMA: what the network looks at")
    return [first, second]


def name_sheets(path: str | Path) -> list[Path]:
    """Where both sheets go, the second beside the first.

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
    check_given_distance(model, ground_sample_distance)


def _array(features: Tensor) -> NDArray[np.float32]:
    return features[0].float().cpu().numpy()


def _plane(values: Tensor) -> NDArray[np.float32]:
    return _array(values)[0]
