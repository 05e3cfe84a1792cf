"""Makes synthetic pairs from a seed: one landscape at two dates.

Buildings that appear or vanish are the change. Season, light, shadows, noise and a small
misregistration also differ between the dates, but are not change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from ctma.data.images import save_image
from ctma.files import whole_folder
from ctma.types import Pixels, Plane, Progress, ignore


@dataclass(frozen=True)
class Building:
    """A rectangular building.

    Attributes:
        x: Column of the centre, in pixels.
        y: Row of the centre, in pixels.
        length: Length, in pixels.
        width: Width, in pixels.
        angle: Angle, in radians.
        height: Height, as the length in pixels of the shadow for ``Light.shadow`` 1.
        colour: Colour of the roof: red, green, blue in [0, 255].
    """

    x: float
    y: float
    length: float
    width: float
    angle: float
    height: float
    colour: tuple[int, int, int]

    def corners(
        self, dx: float = 0.0, dy: float = 0.0, grow: float = 0.0
    ) -> list[tuple[float, float]]:
        """Corners as (column, row), moved by (dx, dy), enlarged by ``grow`` pixels."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        half = (self.length / 2 + grow, self.width / 2 + grow)
        return [
            (
                self.x + dx + along * half[0] * cos - across * half[1] * sin,
                self.y + dy + along * half[0] * sin + across * half[1] * cos,
            )
            for along, across in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]


@dataclass(frozen=True)
class Light:
    """Light, season and sensor of one date, which change the whole image.

    Attributes:
        sun: Direction of the shadows, in radians.
        shadow: Length of the shadows, as a share of a building's height.
        gains: Gains of red, green and blue.
        offset: Offset of all bands, in grey levels.
        season: State of the vegetation, from 0 (lush) to 1 (dry).
        blur: Radius of the blur, in pixels.
        noise: Standard deviation of the noise, in grey levels.
    """

    sun: float
    shadow: float
    gains: tuple[float, float, float]
    offset: float
    season: float
    blur: float
    noise: float


def synthetic_pair(size: int, seed: int) -> tuple[Pixels, Pixels, Pixels]:
    """Makes a synthetic pair with its label.

    Args:
        size: Side of the images, in pixels.
        seed: Seed of the pair; the result depends only on size and seed.

    Returns:
        Before and after, (size, size, 3) each, and the change, (size, size) in 0/1.
    """
    rng = np.random.default_rng(seed)
    ground = _Ground(size, rng)
    both, only_before, only_after = _buildings(size, rng)
    before = _render(ground, both + only_before, _light(rng), rng)
    after = _render(ground, _repainted(both, rng) + only_after, _light(rng), rng)
    after = _misregister(after, rng)
    label = Image.new("L", (size, size))
    for building in only_before + only_after:
        ImageDraw.Draw(label).polygon(building.corners(), fill=1)
    return before, after, np.asarray(label)


def write_synthetic(
    target: str | Path,
    counts: dict[str, int],
    *,
    size: int = 256,
    seed: int = 0,
    on_progress: Progress = ignore,
) -> None:
    """Writes a synthetic data set as ``SPLIT/{A,B,label}/NAME.png``, label 0/255.

    Args:
        target: A folder that does not exist yet.
        counts: Number of pairs for each split.
        size: Side of the images, in pixels.
        seed: Seed of the first pair; each pair has a different seed.
        on_progress: Called after every pair with the number of finished pairs and of all pairs.

    Raises:
        OutputError: If the target exists or cannot be written.
    """
    names = [(split, number) for split, count in counts.items() for number in range(count)]
    with whole_folder(target) as folder:
        for done, (split, number) in enumerate(names):
            before, after, change = synthetic_pair(size, seed + done)
            images = {"A": before, "B": after, "label": change * np.uint8(255)}
            for kind, image in images.items():
                save_image(folder / split / kind / f"{split}_{number:04d}.png", image)
            on_progress(done + 1, len(names))


class _Ground:
    """The ground under the buildings, the same at both dates: fields, soil, trees and roads."""

    def __init__(self, size: int, rng: np.random.Generator):
        self.size = size
        self.green = _noise(size, rng, scales=(4, 8, 16))
        self.soil = (_noise(size, rng, scales=(3, 6)) > rng.uniform(0.45, 0.8)).astype(np.float32)
        self.trees = (_noise(size, rng, scales=(24, 32)) > rng.uniform(0.6, 0.8)).astype(np.float32)
        self.texture = _noise(size, rng, scales=(32, 64))
        self.roads = self._roads(rng)

    def _roads(self, rng: np.random.Generator) -> Plane:
        roads = Image.new("L", (self.size, self.size))
        draw = ImageDraw.Draw(roads)
        for _ in range(int(rng.integers(0, 3))):
            start, end = (
                rng.uniform(-0.2, 1.2, 2) * self.size,
                rng.uniform(-0.2, 1.2, 2) * self.size,
            )
            if rng.random() < 0.5:
                line = [(start[0], -5), (end[0], self.size + 5)]
            else:
                line = [(-5, start[1]), (self.size + 5, end[1])]
            draw.line(line, fill=255, width=int(rng.integers(5, 11)))
        smooth = roads.filter(ImageFilter.GaussianBlur(0.7))
        return (np.asarray(smooth) / 255).astype(np.float32)

    def colours(self, season: float) -> NDArray[Any]:
        lush, dry = np.array([70, 105, 60]), np.array([150, 135, 95])
        field = lush + (dry - lush) * np.clip(season + 0.5 * (self.green[..., None] - 0.5), 0, 1)
        tree = np.array([45, 75, 45]) + season * np.array([45, 15, 5])
        image = _mix(field, np.array([165, 140, 115]), self.soil)
        image = _mix(image, tree, self.trees)
        image = _mix(image, np.array([120, 120, 122]), self.roads)
        return image * (0.85 + 0.3 * self.texture[..., None])


def _buildings(
    size: int, rng: np.random.Generator
) -> tuple[list[Building], list[Building], list[Building]]:
    """Makes buildings that stay, that vanish and that appear; no buildings overlap."""
    placed: list[Building] = []
    groups: tuple[list[Building], ...] = ([], [], [])
    angle = rng.uniform(0, np.pi / 2)
    for _ in range(max(4, int(14 * (size / 256) ** 2 * rng.uniform(0.5, 1.5)))):
        building = _building(size, angle + rng.normal(0, 0.05), rng)
        reach = max(building.length, building.width)
        if all(
            np.hypot(building.x - other.x, building.y - other.y)
            > 0.75 * (reach + max(other.length, other.width))
            for other in placed
        ):
            placed.append(building)
            groups[int(rng.choice(3, p=(0.5, 0.2, 0.3)))].append(building)
    return groups[0], groups[1], groups[2]


def _building(size: int, angle: float, rng: np.random.Generator) -> Building:
    roofs = ((175, 80, 65), (205, 205, 200), (140, 145, 155), (90, 100, 130), (185, 150, 120))
    base = np.array(roofs[int(rng.integers(len(roofs)))])
    colour = np.clip(base + rng.normal(0, 10) + rng.normal(0, 4, 3), 20, 245)
    x, y = rng.uniform(0, size, 2)
    return Building(
        x=x,
        y=y,
        length=rng.uniform(16, 44),
        width=rng.uniform(12, 26),
        angle=angle,
        height=rng.uniform(3, 10),
        colour=(int(colour[0]), int(colour[1]), int(colour[2])),
    )


def _repainted(buildings: list[Building], rng: np.random.Generator) -> list[Building]:
    """Changes the roof colours slightly, as at another date."""
    return [replace(building, colour=_tint(building.colour, rng)) for building in buildings]


def _tint(colour: tuple[int, int, int], rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (
        int(band + step) for band, step in zip(colour, rng.normal(0, 5, 3), strict=True)
    )
    return red, green, blue


def _light(rng: np.random.Generator) -> Light:
    brightness = rng.uniform(0.8, 1.2)
    gains = brightness * rng.uniform(0.93, 1.07, 3)
    return Light(
        sun=rng.uniform(0, 2 * np.pi),
        shadow=rng.uniform(0.3, 1.3),
        gains=(gains[0], gains[1], gains[2]),
        offset=rng.uniform(-12, 12),
        season=rng.uniform(0, 1),
        blur=rng.uniform(0.3, 0.8),
        noise=rng.uniform(2, 6),
    )


def _render(
    ground: _Ground, buildings: list[Building], light: Light, rng: np.random.Generator
) -> Pixels:
    image = Image.fromarray(np.clip(ground.colours(light.season), 0, 255).astype(np.uint8))
    image = _cast_shadows(image, buildings, light)
    draw = ImageDraw.Draw(image)
    for building in buildings:
        draw.polygon(building.corners(), fill=tuple(int(0.85 * band) for band in building.colour))
        first, _, third, fourth = building.corners(grow=-1)
        middle = building.corners(grow=-1)[1]
        ridge = [
            ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in ((first, fourth), (middle, third))
        ]
        draw.polygon([first, middle, ridge[1], ridge[0]], fill=building.colour)
    image = image.filter(ImageFilter.GaussianBlur(light.blur))
    pixels = np.asarray(image, np.float32) * np.array(light.gains, np.float32) + light.offset
    return np.clip(pixels + rng.normal(0, light.noise, pixels.shape), 0, 255).astype(np.uint8)


def _cast_shadows(image: Image.Image, buildings: list[Building], light: Light) -> Image.Image:
    shade = Image.new("L", image.size)
    draw = ImageDraw.Draw(shade)
    for building in buildings:
        reach = building.height * light.shadow
        for step in np.linspace(0, 1, 6):
            moved = (step * reach * np.cos(light.sun), step * reach * np.sin(light.sun))
            draw.polygon(building.corners(*moved), fill=140)
    dark = Image.new("RGB", image.size, (25, 28, 38))
    return Image.composite(dark, image, shade.filter(ImageFilter.GaussianBlur(0.6)))


def _misregister(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Shifts an image by up to 1.5 pixels in each direction and repeats the edge pixels."""
    dx, dy = rng.uniform(-1.5, 1.5, 2)
    margin = 2
    padded = Image.fromarray(
        np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    )
    height, width = image.shape[:2]
    box = (margin + dx, margin + dy, margin + dx + width, margin + dy + height)
    return np.asarray(padded.resize((width, height), Image.Resampling.BILINEAR, box))


def _noise(size: int, rng: np.random.Generator, scales: tuple[int, ...]) -> Plane:
    """Makes smooth noise in [0, 1]; ``scales`` are the numbers of noise cells per side."""
    total = np.zeros((size, size), np.float32)
    for cells in scales:
        coarse = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
        total += np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    low, high = total.min(), total.max()
    return ((total - low) / (high - low)).astype(np.float32)


def _mix(image: NDArray[Any], colour: NDArray[Any], share: Plane) -> NDArray[Any]:
    return image + (colour - image) * share[..., None]
