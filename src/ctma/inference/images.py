"""Predicts a change probability and a mask from two images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from ctma.data.images import read_image, take_picture
from ctma.data.pairs import size_text
from ctma.data.tiles import find_windows
from ctma.errors import ImageError, SettingError, warn
from ctma.inference.batch import FilePrediction, Prediction, predict_pairs
from ctma.inference.protocols import Protocol, find_protocol, sliding
from ctma.inference.ready import any_predictor
from ctma.inference.resolution import check_given_distance, coarseness_warning, find_enlargement
from ctma.inference.running import BasePredictor
from ctma.models.usage import Usage
from ctma.settings import check_threshold
from ctma.types import IMAGE_BANDS, Progress, ignore

if TYPE_CHECKING:
    from ctma.inference.predictor import Model


def check_takes_images(usage: Usage) -> None:
    """Refuses a network that takes other bands than images on disk have.

    Raises:
        SettingError: If the network's bands are not red, green and blue, in this order.
    """
    if usage.bands != IMAGE_BANDS:
        raise SettingError(
            f"this network takes {len(usage.bands)} bands ({', '.join(usage.bands)}), "
            f"images have {len(IMAGE_BANDS)} ({', '.join(IMAGE_BANDS)})"
        )


def predict(
    before: NDArray[Any] | Image | str | Path,
    after: NDArray[Any] | Image | str | Path,
    model: Model | BasePredictor,
    *,
    threshold: float | None = None,
    protocol: str = "auto",
    ground_sample_distance: float | None = None,
) -> Prediction:
    """Predicts what changed between two images.

    Args:
        before: An array (H, W, bands), uint8 or float in [0, 1], with the bands that the
            network's usage names; or a Pillow image; or the path of an image.
        after: An image of the same size.
        model: A predictor, as from ``ctma.load``; a network in memory, which is prepared anew at
            each call; or a checkpoint by name or path, which is loaded anew at each call.
        threshold: Probability above which a pixel counts as change; the checkpoint's by default.
        protocol: ``"whole"``, ``"crops"``, ``"sliding"`` or ``"auto"``. ``"auto"`` takes images
            of up to 1024 x 1024 pixels whole, and larger images in overlapping windows of 512
            pixels. Both numbers count pixels after enlargement or reduction.
        ground_sample_distance: Metres per pixel of the images. Where given, ctma enlarges or
            reduces the images to the distance that the network was trained at. By default ctma
            assumes that the images have that distance.

    Raises:
        ImageError: If the arrays do not fit each other or the network.
        UnknownNameError: If there is no such protocol.
        MissingExtraError: If the engine is not installed.
        SettingError: If the threshold or the distance is out of range, the checkpoint does not
            record its own distance, or the network takes other bands than a picture has.
    """
    check_threshold(threshold)
    predictor = any_predictor(model)
    usage = predictor.usage
    check_given_distance(usage, ground_sample_distance)
    ratio = find_enlargement(usage, ground_sample_distance)
    before, after = (_read(image, usage) for image in (before, after))
    _check_arrays(before, after, usage)
    run = _choose_protocol(protocol, before.shape, ratio)
    with predictor.look(ratio) as look:
        probability = run(look, *(_to_input(image) for image in (before, after)))
    if threshold is None:
        threshold = usage.threshold
    return Prediction(probability, (probability > threshold).astype(np.uint8))


def predict_files(
    before: str | Path,
    after: str | Path,
    model: Model | BasePredictor,
    output: str | Path,
    *,
    threshold: float | None = None,
    protocol: str = "auto",
    ground_sample_distance: float | None = None,
    overwrite: bool = False,
    on_progress: Progress = ignore,
) -> list[FilePrediction]:
    """Predicts two images or two folders of images, and writes masks and probabilities.

    For rasters with a CRS see ``ctma.predict_scene``. Warns where pixels are too coarse for the
    network.

    Args:
        before: An image or a folder.
        after: An image or a folder, as ``before``. In folders, both images of a pair have the
            same name without suffix.
        model: As for ``predict``.
        output: A folder for ``mask/NAME.png`` (0/255) and ``probability/NAME.png`` (0 to 255).
        threshold: As for ``predict``.
        protocol: As for ``predict``.
        ground_sample_distance: As for ``predict``.
        overwrite: Whether to replace files of other pairs too.
        on_progress: Called after every pair with the number of finished pairs and of all pairs.

    Raises:
        DataError: If partners are missing or there is nothing to predict.
        ImageError: If an image is unreadable or sizes differ.
        OutputError: If a file cannot be written, is an input, or was made from another pair.
        SettingError: If the network takes other bands than images have.
    """
    predictor = any_predictor(model)
    check_takes_images(predictor.usage)
    if line := coarseness_warning(predictor.usage, ground_sample_distance):
        warn(line)
    run = partial(
        predict,
        model=predictor,
        threshold=threshold,
        protocol=protocol,
        ground_sample_distance=ground_sample_distance,
    )
    return predict_pairs(
        Path(before),
        Path(after),
        Path(output),
        run,
        predictor.describe(),
        overwrite=overwrite,
        on_done=on_progress,
    )


def _read(image: NDArray[Any] | Image | str | Path, usage: Usage) -> NDArray[Any]:
    if isinstance(image, np.ndarray):
        return image
    if not isinstance(image, str | Path | Image):
        raise ImageError(
            f"an image of {type(image).__name__}: expected an array (H, W, bands), a picture of "
            "Pillow's, or a path"
        )
    check_takes_images(usage)
    return take_picture(image) if isinstance(image, Image) else read_image(image)


def _check_arrays(before: NDArray[Any], after: NDArray[Any], usage: Usage) -> None:
    if before.shape != after.shape:
        raise ImageError(f"before is {before.shape}, after is {after.shape}: sizes must be equal")
    if before.ndim != 3 or before.shape[2] != len(usage.bands) or not before.size:
        raise ImageError(
            f"images of shape {before.shape}, the network takes (H, W, {len(usage.bands)}): "
            f"{', '.join(usage.bands)}"
        )
    for image in (before, after):
        if image.dtype != np.uint8 and not _in_unit_range(image):
            raise ImageError(
                f"{size_text(image)} image of {image.dtype}: expected uint8, or float in [0, 1]"
            )


def _in_unit_range(image: NDArray[Any]) -> bool:
    return bool(np.issubdtype(image.dtype, np.floating) and image.min() >= 0 and image.max() <= 1)


def _to_input(image: NDArray[Any]) -> NDArray[Any]:
    """(bands, H, W), of 8 bits or in [0, 1]."""
    return (image if image.dtype == np.uint8 else image.astype(np.float32)).transpose(2, 0, 1)


def _choose_protocol(name: str, shape: tuple[int, ...], ratio: float) -> Protocol:
    """A protocol by name; ``auto`` counts pixels after enlargement or reduction."""
    if name != "auto":
        return find_protocol(name)
    sizes = find_windows(shape[0], shape[1], ratio)
    if sizes is None:
        return find_protocol("whole")
    return partial(sliding, window=sizes[0], stride=sizes[1])
