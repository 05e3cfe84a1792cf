"""Predicts images with exported models where torch is not installed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ctma.data.tiles import find_windows, windows
from ctma.engines.runtimes import Run
from ctma.errors import ImageError, SettingError
from ctma.exports.exported import ExportedModel, read_exported
from ctma.inference.batch import FilePrediction, Prediction, predict_pairs
from ctma.settings import check_threshold
from ctma.types import IMAGE_BANDS, Pixels, Progress, ignore


def predict_files_without_torch(
    before: Path,
    after: Path,
    checkpoint: Path,
    output: Path,
    *,
    threshold: float | None = None,
    protocol: str = "auto",
    overwrite: bool = False,
    on_progress: Progress = ignore,
) -> list[FilePrediction]:
    """Predicts images with an exported model, as ``ctma.predict_files`` with torch.

    Args:
        before: An image or a folder.
        after: An image or a folder, as ``before``.
        checkpoint: An exported model.
        output: A folder.
        threshold: Probability above which a pixel counts as change; the model's by default.
        protocol: ``"whole"``; ``"auto"`` takes overlapping windows for large images.
        overwrite: Whether to replace files of other pairs too.
        on_progress: Called after every pair with the number of finished pairs and of all pairs.

    Raises:
        SettingError: If the model takes other bands than images have, or the protocol needs torch.
    """
    model = read_exported(checkpoint)
    if model.description.bands != IMAGE_BANDS:
        raise SettingError(f"the model takes {', '.join(model.description.bands)}, no images")
    computing = {
        "engine": model.runtime,
        "precision": model.description.precision,
        "engine_why": model.why,
    }
    session = model.open()()
    run = partial(_predict, model=model, session=session, threshold=threshold, protocol=protocol)
    return predict_pairs(
        before, after, output, run, computing, overwrite=overwrite, on_done=on_progress
    )


def _predict(
    before: Pixels,
    after: Pixels,
    model: ExportedModel,
    session: Run,
    *,
    threshold: float | None,
    protocol: str,
) -> Prediction:
    """Predicts what changed between two images with an exported model, without torch.

    Args:
        before: (H, W, bands) uint8.
        after: (H, W, bands) uint8, of the same size.
        model: An exported model, as from ``read_exported``.
        session: A session of this model.
        threshold: Probability above which a pixel counts as change; the model's by default.
        protocol: ``"whole"``; ``"auto"`` takes overlapping windows for large images.

    Raises:
        ImageError: If the images do not fit each other or the model.
        SettingError: If the protocol needs torch.
    """
    check_threshold(threshold)
    if protocol not in ("auto", "whole"):
        raise SettingError(f"`protocol` {protocol}: needs torch; take auto or whole without it")
    description = model.description
    if before.shape != after.shape or before.shape[2:] != (len(description.bands),):
        raise ImageError(
            f"images of {before.shape} and {after.shape}: expected two of (H, W, "
            f"{len(description.bands)})"
        )
    height, width = before.shape[:2]
    scaling = np.float32(description.scaling)
    planes = [
        np.minimum(image.transpose(2, 0, 1)[None] / scaling, 1).astype(np.float32)
        for image in (before, after)
    ]
    sizes = None if protocol == "whole" else find_windows(height, width)
    total, count = np.zeros((2, height, width), np.float32)
    for place in windows(height, width, *(sizes or (max(height, width),) * 2)):
        rows, columns = place.area
        parts = [_fill(plane[..., rows, columns], description.minimum_size) for plane in planes]
        seen = session(*parts)[0, 0, : place.height, : place.width]
        total[rows, columns] += seen
        count[rows, columns] += 1
    probability = total / count
    limit = description.threshold if threshold is None else threshold
    return Prediction(probability, (probability > limit).astype(np.uint8))


def _fill(image: NDArray[np.float32], least: int) -> NDArray[np.float32]:
    """Pads an image below the least size by repeating its last rows and columns."""
    missing = [(0, max(least - length, 0)) for length in image.shape[-2:]]
    return np.ascontiguousarray(np.pad(image, [(0, 0), (0, 0), *missing], mode="edge"))
