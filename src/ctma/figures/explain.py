"""The paper's two picture sheets, for any pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctma.checkpoints import load_model
from ctma.data.dataset import PairDataset, find_label_scale, read_pair, to_tensor
from ctma.data.readers import Pair
from ctma.errors import SettingError
from ctma.evaluation.protocols import unit_range
from ctma.figures.sheets import error_map, heat, save_sheet
from ctma.models import MINIMUM_SIZE, ChangeNetwork
from ctma.models.ctma import CTMA

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

    Returns:
        Paths of both sheets.

    Raises:
        SettingError: If the network is no CTMA, or the images are smaller than 64 pixels.
        OutputError: If a sheet cannot be written.
    """
    if not isinstance(model, CTMA):
        raise SettingError(f"explain shows the inside of CTMA, this is {type(model).__name__}")
    if min(before.shape[:2]) < MINIMUM_SIZE:
        raise SettingError(f"explain takes images of at least {MINIMUM_SIZE} pixels a side")
    device = next(model.parameters()).device
    inputs = (unit_range(to_tensor(image)[None].to(device)) for image in (before, after))
    stages = model.stages(*inputs)
    mask = (_plane(stages.fused_logits.sigmoid()) > threshold).astype(np.uint8)

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


def explain_files(
    before: Path,
    after: Path,
    checkpoint: Path,
    output: Path,
    *,
    label: Path | None = None,
    threshold: float | None = None,
) -> list[Path]:
    """:func:`save_explanation` from files.

    Args:
        before: An image.
        after: The same size.
        checkpoint: A checkpoint of ours or an original ``.pth``.
        output: Where the first sheet goes.
        label: A label image, 0/1 or 0/255.
        threshold: The checkpoint's by default.

    Raises:
        ImageError: If an image is unreadable or sizes differ.
        CheckpointError: If the checkpoint cannot be read.
    """
    model = load_model(checkpoint)
    pair = Pair(before.stem, before, after, label)
    change = None
    if label is not None:
        images = PairDataset([pair], find_label_scale([pair])).read(0)
        change = images[2]
    return save_explanation(
        output,
        *read_pair(pair),
        model,
        change=change,
        threshold=model.header.threshold if threshold is None else threshold,
    )


def _array(features: Tensor) -> NDArray[np.float32]:
    return features[0].float().cpu().numpy()


def _plane(values: Tensor) -> NDArray[np.float32]:
    return _array(values)[0]
