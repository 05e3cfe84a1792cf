"""Pictures and pairs of them."""

import numpy as np
from PIL import Image

LABEL = np.zeros((64, 64), np.uint8)
LABEL[8:24, 8:40] = 255
"""A label of 64 x 64 with one changed rectangle, 0/255."""


def write_pair(folder, name, before, after, change=None):
    """Writes one pair as A, B and label PNGs."""
    for kind, image in (("A", before), ("B", after), ("label", change)):
        if image is not None:
            path = folder / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


def write_split(folder, names, scale=1, seed=0):
    """Writes pairs of random pictures, each with the changed rectangle, stored as 0/``scale``."""
    for number, name in enumerate(names):
        images = random_image(seed + 2 * number), random_image(seed + 2 * number + 1)
        write_pair(folder, name, *images, LABEL // 255 * scale)


def random_image(seed, size=64, bands=3):
    """A picture with something to recognize: smooth noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (8, 8, bands), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(smooth)


def read(path):
    """A picture as it is stored."""
    return np.asarray(Image.open(path))
