"""How far images are from what a network was trained on.

Patches of both dates are described by simple values: brightness, colour, contrast, and how much
detail there is at each scale. The distance of a patch to the nearest description in the training
data tells whether the network has seen its like: the area of applicability (H. Meyer, E. Pebesma,
"Predicting into unknown space?", Methods in Ecology and Evolution 12, 2021).
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctma.errors import CheckpointError, DataError

PATCH = 64
"""Side of a patch, in pixels as the network sees them."""

CENTRES = 128
"""Number of descriptions that stand for the training data."""

EDGE = 0.95
"""Share of left-out training patches that count as seen."""

LEAST_PATCHES = 4 * CENTRES

DARK = 0.02
"""Added to brightness before ratios and logarithms, so that black patches have some."""

STEADY = 0.05
"""Added to the variances that distances are divided by."""

Descriptions = NDArray[np.float64]
"""(patches, features)"""


def describe_patches(patches: NDArray[np.floating]) -> Descriptions:
    """Describes patches of one date.

    Args:
        patches: (N, PATCH, PATCH, bands) in [0, 1].
    """
    values = np.asarray(patches, np.float32)
    grey = values.mean(axis=3)
    brightness, spread = grey.mean(axis=(1, 2)), grey.std(axis=(1, 2))
    tints = values.mean(axis=(1, 2)) - brightness[:, None]
    colours = (values - grey[..., None]).std(axis=(1, 2))
    features = [
        np.log(brightness + DARK),
        np.log(spread + DARK / 4),
        *(tints / (brightness + DARK)[:, None]).T,
        *np.log(colours + DARK / 4).T,
        *_describe_detail(grey),
    ]
    return np.stack(features, axis=1).astype(np.float64)


def _describe_detail(grey: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """At each scale: how much detail there is, and how much of the detail is in edges."""
    found = []
    for _ in range(4):
        steps = np.diff(grey, axis=2), np.diff(grey, axis=1)
        size = np.mean([np.abs(step).mean(axis=(1, 2)) for step in steps], axis=0)
        power = np.sqrt(np.mean([np.square(step).mean(axis=(1, 2)) for step in steps], axis=0))
        found += [np.log(size + DARK / 10), size / (power + DARK / 200)]
        # Half the size: means of 2 x 2 pixels.
        halved = grey[:, ::2] + grey[:, 1::2]
        grey = np.asarray((halved[:, :, ::2] + halved[:, :, 1::2]) / 4, np.float32)
    return found


@dataclass(frozen=True)
class Seen:
    """What the training images look like.

    Attributes:
        middle: (features,) mean of the descriptions.
        axes: (features, features) to coordinates in which distances are measured.
        centres: (CENTRES, features) the descriptions that stand for all, in these coordinates.
        edge: Distance below which a patch counts as seen.
    """

    middle: NDArray[np.float32]
    axes: NDArray[np.float32]
    centres: NDArray[np.float32]
    edge: float

    def distance(self, descriptions: Descriptions) -> NDArray[np.float64]:
        """(N,) distance of each patch to what was seen; above 1 it counts as not seen.

        Raises:
            DataError: If the patches have other bands than the training images.
        """
        if descriptions.shape[1] != len(self.middle):
            raise DataError("the images have other bands than the training images")
        found = _to_nearest((descriptions - self.middle) @ self.axes, self.centres)
        return np.asarray(found / self.edge)

    def write(self) -> str:
        """As text, for the header of a checkpoint."""
        parts = (self.middle, self.axes, self.centres)
        values = np.concatenate([[self.edge, len(self.middle)], *(part.ravel() for part in parts)])
        return base64.b64encode(zlib.compress(values.astype("<f4").tobytes(), 9)).decode()

    @classmethod
    def read(cls, text: str) -> Seen:
        """Reads what ``write`` gave.

        Raises:
            CheckpointError: If the text is damaged.
        """
        try:
            values = np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), "<f4")
            edge, features = float(values[0]), int(values[1])
            rows = values[2:].reshape(-1, features)
        except (binascii.Error, zlib.error, ValueError, IndexError) as error:
            raise CheckpointError("what the network has seen (`seen`) is damaged") from error
        return cls(rows[0], rows[1 : features + 1], rows[features + 1 :], edge)


def learn_seen(groups: list[Descriptions]) -> Seen:
    """Learns what training images look like.

    Args:
        groups: The descriptions of each image or pair; patches of a group are alike.

    Raises:
        DataError: If there are too few patches.
    """
    count = sum(map(len, groups))
    if count < LEAST_PATCHES:
        raise DataError(
            f"{count} patches of {PATCH} x {PATCH}: at least {LEAST_PATCHES} are needed"
        )
    everything = np.concatenate(groups)
    middle = everything.mean(axis=0)
    deviation = everything.std(axis=0) + 1e-6
    powers, turn = np.linalg.eigh(np.cov(((everything - middle) / deviation).T))
    axes = turn / np.sqrt(powers + STEADY) / deviation[:, None]
    halves = [np.concatenate(groups[first::2]) for first in (0, 1)]
    placed = [(half - middle) @ axes for half in halves]
    apart = _to_nearest(placed[1], _find_centres(placed[0]))
    centres = _find_centres((everything - middle) @ axes)
    return Seen(
        middle.astype(np.float32), axes.astype(np.float32), centres.astype(np.float32),
        float(np.quantile(apart, EDGE)),
    )  # fmt: skip


def _to_nearest(placed: NDArray[np.floating], centres: NDArray[np.floating]) -> NDArray[Any]:
    """(N,) distance of each place to the nearest centre."""
    return np.array([np.linalg.norm(centres - place, axis=1).min() for place in placed])


def _find_centres(placed: Descriptions) -> NDArray[np.float64]:
    from scipy.cluster.vq import kmeans2

    centres, _ = kmeans2(placed, CENTRES, minit="++", seed=0, missing="warn")
    return np.asarray(centres)


def cut_patches(image: NDArray[np.floating], most: int) -> NDArray[np.floating]:
    """Patches of an image, spread over it.

    Args:
        image: (H, W, bands) in [0, 1].
        most: Largest number of patches.

    Returns:
        (N, PATCH, PATCH, bands); none of an image that is smaller than a patch.
    """
    rows, columns = (range(0, side - PATCH + 1, PATCH) for side in image.shape[:2])
    corners = [(row, column) for row in rows for column in columns]
    step = max(1, -(-len(corners) // most))
    parts = [image[row : row + PATCH, column : column + PATCH] for row, column in corners[::step]]
    return np.stack(parts) if parts else np.zeros((0, PATCH, PATCH, image.shape[2]))
