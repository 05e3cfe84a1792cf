"""From two images to a change probability and a mask."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from ctma.data.dataset import to_tensor
from ctma.data.images import read_image, take_picture
from ctma.data.pairs import size_text
from ctma.errors import ImageError, SettingError
from ctma.inference.batch import Prediction, predict_pairs
from ctma.inference.engines.choice import prepare
from ctma.inference.protocols import find_protocol, sliding
from ctma.inference.resolution import check_given_distance, find_enlargement
from ctma.inference.tiles import find_windows
from ctma.inference.views import evaluating, look_as
from ctma.models.base import ChangeNetwork
from ctma.settings import check_threshold
from ctma.types import IMAGE_BANDS, Progress, ignore


def check_takes_images(network: ChangeNetwork) -> None:
    """Refuses a network that takes other bands than images on disk have.

    Raises:
        SettingError: If it does, or takes them in another order.
    """
    if network.usage.bands != IMAGE_BANDS:
        raise SettingError(
            f"this network takes {network.bands} bands ({', '.join(network.usage.bands)}), "
            f"images have {len(IMAGE_BANDS)} ({', '.join(IMAGE_BANDS)})"
        )


def predict(
    before: NDArray | Image | str | Path,
    after: NDArray | Image | str | Path,
    model: ChangeNetwork,
    *,
    threshold: float | None = None,
    protocol: str = "auto",
    tta: bool = False,
    ground_sample_distance: float | None = None,
    engine: str = "auto",
    precision: str = "auto",
    cache: bool = True,
) -> Prediction:
    """Predicts what changed between two images.

    Args:
        before: (H, W, bands), uint8 or float in [0, 1], bands as the network's usage names
            them; or a picture of Pillow's, or the path
            of an image.
        after: The same size.
        model: A network, as from ``load_model``; it runs on the device it is on, in evaluation
            mode, and is left in the mode it was in.
        threshold: Change is where the probability exceeds it; the checkpoint's by default.
        protocol: ``"whole"``, ``"crops"``, ``"sliding"``; ``"auto"`` sees images of up
            to 1024 x 1024 pixels whole, larger ones in overlapping windows of 512, both as the
            network sees them.
        tta: Average over flipped views; takes four times as long.
        ground_sample_distance: Metres a pixel; where given, the network sees the images
            enlarged or reduced to the distance it was trained at.
        engine: What runs the network, see :func:`ctma.prepare`.
        precision: ``"float32"``, ``"bf16"``, or ``"auto"``, see there.
        cache: Whether what was prepared is kept on disk for the next start.

    Raises:
        ImageError: If the arrays do not fit each other or the network.
        UnknownNameError: If there is no such protocol, engine or precision.
        MissingExtraError: If the engine is not installed.
        SettingError: If the threshold or the distance is out of range, the model does not know
            its own distance, or it takes other bands than a picture has.
    """
    check_threshold(threshold)
    with evaluating(model):
        check_given_distance(model, ground_sample_distance)
        ratio = find_enlargement(model, ground_sample_distance)
        before, after = (_read(image, model) for image in (before, after))
        _check_arrays(before, after, model)
        run = _choose_protocol(protocol, before.shape, ratio)
        inputs = [_to_input(image, model) for image in (before, after)]
        prepared = prepare(model, engine, precision, keep=cache)
        batch = run(look_as(prepared, enlargement=ratio, tta=tta), *inputs)
    probability = batch[0, 0].cpu().numpy()
    if threshold is None:
        threshold = model.usage.threshold
    return Prediction(probability, (probability > threshold).astype(np.uint8))


def predict_files(
    before: Path,
    after: Path,
    model: ChangeNetwork,
    output: Path,
    *,
    overwrite: bool = False,
    on_done: Progress = ignore,
    **options: Any,
) -> list[dict[str, Any]]:
    """As :func:`predict_pairs`, with a network; its arguments, results and errors are these.

    Args:
        before: An image or a folder.
        after: The same kind.
        model: A network, as from ``load_model``.
        output: A folder.
        overwrite: See there.
        on_done: See there.
        **options: For :func:`predict`.

    Raises:
        SettingError: If the network takes other bands than images have.
    """
    check_takes_images(model)
    how = {name: options.pop(name) for name in ("engine", "precision") if name in options}
    prepared = prepare(model, **how, keep=options.pop("cache", True))
    run = partial(predict, model=prepared, **options)
    told = {
        "engine": prepared.engine, "precision": prepared.precision, "engine_why": prepared.why
    }  # fmt: skip
    return predict_pairs(before, after, output, run, told, overwrite=overwrite, on_done=on_done)


def _read(image: NDArray | Image | str | Path, model: ChangeNetwork) -> NDArray:
    if isinstance(image, np.ndarray):
        return image
    if not isinstance(image, str | Path | Image):
        raise ImageError(
            f"an image of {type(image).__name__}: expected an array (H, W, bands), a picture of "
            "Pillow's, or a path"
        )
    check_takes_images(model)
    return take_picture(image) if isinstance(image, Image) else read_image(image)


def _check_arrays(before: NDArray, after: NDArray, model: ChangeNetwork) -> None:
    if before.shape != after.shape:
        raise ImageError(f"before is {before.shape}, after is {after.shape}: sizes must be equal")
    if before.ndim != 3 or before.shape[2] != model.bands or not before.size:
        raise ImageError(
            f"images of shape {before.shape}, the network takes (H, W, {model.bands}): "
            f"{', '.join(model.usage.bands)}"
        )
    for image in (before, after):
        if image.dtype != np.uint8 and not _in_unit_range(image):
            raise ImageError(
                f"{size_text(image)} image of {image.dtype}: expected uint8, or float in [0, 1]"
            )


def _in_unit_range(image: NDArray) -> bool:
    return bool(np.issubdtype(image.dtype, np.floating) and image.min() >= 0 and image.max() <= 1)


def _to_input(image: NDArray, model: ChangeNetwork) -> Tensor:
    """(1, bands, H, W) on the network's device, of 8 bits or in [0, 1]."""
    values = image if image.dtype == np.uint8 else image.astype(np.float32)
    return to_tensor(values)[None].to(model.device)


def _choose_protocol(name: str, shape: tuple[int, ...], ratio: float) -> Callable[..., Tensor]:
    """By name; ``auto`` counts pixels as the network sees them."""
    if name != "auto":
        return find_protocol(name)
    found = find_windows(shape[0], shape[1], ratio)
    if found is None:
        return find_protocol("whole")
    return partial(sliding, window=found[0], stride=found[1])
