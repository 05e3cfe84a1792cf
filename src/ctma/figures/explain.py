"""The paper's two picture sheets, for any pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctma.errors import SettingError
from ctma.figures.sheets import error_map, heat, save_sheet
from ctma.models import MINIMUM_SIZE, ChangeNetwork
from ctma.models.ctma import CTMA
from ctma.models.views import resized, seen
from ctma.resolution import check_given_distance, enlargement

Image = NDArray[np.uint8]


@torch.no_grad()
def save_explanation(
    path: str | Path,
    before: Image,
    after: Image,
    model: ChangeNetwork,
    *,
    change: Image | None = None,
    threshold: float = 0.5,
    ground_sample_distance: float | None = None,
) -> list[Path]:
    """Writes how CTMA came to its mask.

    The first sheet shows the images, the coarse mask and the final mask (and the label
    and errors where a label is given). The second, ``NAME.features.SUFFIX``, shows heat
    maps of the difference features F, the motion features M1 and M2, and the level-3
    spatial feature of the unmasked branch.

    Args:
        path: Where the first sheet goes.
        before: (H, W, 3).
        after: The same shape.
        model: A CTMA network.
        change: Label in 0/1, (H, W).
        threshold: Change is where the probability exceeds it.
        ground_sample_distance: Metres a pixel; where given, the network sees the images
            enlarged or reduced to the distance it was trained at.

    Returns:
        Paths of both sheets.

    Raises:
        SettingError: If the network is no CTMA, the images are smaller than 64 pixels, the
            distance is not above 0, or the network does not know its own.
        OutputError: If a sheet cannot be written.
    """
    if not isinstance(model, CTMA):
        raise SettingError(f"explain shows the inside of CTMA, this is {type(model).__name__}")
    if model.bands != before.shape[2]:
        raise SettingError(f"this network takes {model.bands} bands, images have {before.shape[2]}")
    if min(before.shape[:2]) < MINIMUM_SIZE:
        raise SettingError(f"explain takes images of at least {MINIMUM_SIZE} pixels a side")
    check_given_distance(model, ground_sample_distance)
    ratio = enlargement(model, ground_sample_distance)
    device = next(model.parameters()).device
    inputs = (seen(_to_input(image).to(device), ratio) for image in (before, after))
    stages = model.stages(*inputs)
    logits = resized(stages.fused_logits, before.shape[:2])
    mask = (_plane(model.probability(logits)) > threshold).astype(np.uint8)

    tiles: dict[str, Image] = {
        "before": before,
        "after": after,
        "coarse mask": _plane(stages.coarse_mask).astype(np.uint8),
        "final mask": mask,
    }
    if change is not None:
        tiles |= {"label": change, "errors": error_map(mask, change)}
    features = {
        "difference features F": heat(_array(stages.difference)),
        "motion features M1": heat(_array(stages.motion[0])),
        "motion features M2": heat(_array(stages.motion[1])),
        "spatial feature, level 3": heat(_array(stages.spatial)),
    }
    first = Path(path)
    second = first.with_name(f"{first.stem}.features{first.suffix}")
    save_sheet(first, [tiles], "CTMA: from coarse to final mask")
    save_sheet(second, [features], "CTMA: what the network looks at")
    return [first, second]


def _to_input(image: Image) -> Tensor:
    """(H, W, C) of 8 bits to (1, C, H, W) in [0, 1]."""
    return torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]


def _array(features: Tensor) -> NDArray[np.float32]:
    return features[0].float().cpu().numpy()


def _plane(values: Tensor) -> NDArray[np.float32]:
    return _array(values)[0]
