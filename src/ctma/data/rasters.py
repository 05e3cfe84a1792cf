"""Pairs of any bands and any type: GeoTIFFs as the images of a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctma.data.images import read_image
from ctma.data.pairs import Pair
from ctma.data.scaling import Scaling, percentile_scaling, unit_scaling
from ctma.errors import DataError, ImageError, extras, first_line
from ctma.models.usage import Usage
from ctma.types import IMAGE_BANDS, Pixels, Ranges, name_bands

if TYPE_CHECKING:
    from rasterio import DatasetReader

SUFFIXES = {".tif", ".tiff"}
"""Suffixes of images that may hold other bands or types than 8-bit colours."""

ALPHA = "alpha"
"""The name of a band of transparency."""

SAMPLED_PAIRS, SAMPLED_SIDE = 128, 64
"""Number of pairs, and pixels along a side of each, from which ranges are estimated."""


class Raster(NamedTuple):
    """A GeoTIFF in memory.

    Attributes:
        values: (bands, H, W), as stored.
        valid: (H, W), true where there are data.
        names: The names of the bands.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_]
    names: tuple[str, ...]

    @property
    def is_image(self) -> bool:
        """Whether these are 8-bit colours, as in any other image file."""
        return self.values.dtype == np.uint8 and self.names in (IMAGE_BANDS, name_bands(1))


def read_raster(path: Path) -> Raster:
    """Reads all bands of a GeoTIFF but alpha.

    Raises:
        ImageError: If the file is missing, damaged or not a raster of real numbers.
        MissingExtraError: If rasterio is not installed.
    """
    with _opened(path) as raster:
        names = describe_bands(raster)
        bands = [number for number, name in enumerate(names, start=1) if name != ALPHA]
        values, valid = raster.read(bands), raster.dataset_mask() > 0
    if np.iscomplexobj(values):
        raise ImageError(f"{path}: holds complex values, expected real numbers")
    if np.issubdtype(values.dtype, np.floating):
        valid &= np.isfinite(values).all(axis=0)
    return Raster(values, valid, tuple(names[number - 1] for number in bands))


def describe_bands(raster: DatasetReader) -> tuple[str, ...]:
    """The names of all bands of a raster, in lower case; ``ALPHA`` for a band of transparency.

    The names are the descriptions of the bands, else the colours that all bands are tagged with,
    else those of ``name_bands``. A band with another description is no alpha, whatever its tag:
    GDAL tags the fourth band of 8 bits as alpha.
    """
    told = [str(name or "").lower() for name in raster.descriptions]
    kinds = [kind.name for kind in raster.colorinterp]
    alpha = [
        name == ALPHA or (kind == ALPHA and not name)
        for name, kind in zip(told, kinds, strict=True)
    ]
    colours = [index for index, transparent in enumerate(alpha) if not transparent]
    if all(told[index] for index in colours):
        names = [told[index] for index in colours]
    elif sorted(kinds[index] for index in colours) == sorted(IMAGE_BANDS):
        names = [kinds[index] for index in colours]
    else:
        names = [*name_bands(len(colours))]
    coming = iter(names)
    return tuple(ALPHA if transparent else next(coming) for transparent in alpha)


@contextmanager
def _opened(path: Path) -> Iterator[DatasetReader]:
    """Opens a raster; errors as of ``read_raster``."""
    with extras():
        import rasterio
        from rasterio.errors import RasterioError
    try:
        with rasterio.open(path) as raster:
            yield raster
    except (RasterioError, OSError) as error:
        raise ImageError(f"{path}: cannot be read as a raster ({first_line(error)})") from error


def find_bands(names: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """The places of bands by their names, from 0.

    Bands without names are taken in order, if they are as many as wanted.

    Returns:
        The places; ``None`` if the bands are not there.
    """
    if all(name in names for name in wanted):
        return [names.index(name) for name in wanted]
    unnamed = tuple(names) == name_bands(len(names))
    return [*range(len(names))] if unnamed and len(names) == len(wanted) else None


def read_date(path: Path, usage: Usage, date: int) -> Pixels:
    """Reads one date as the network of a usage takes it.

    Args:
        path: An image; a GeoTIFF for other bands than red, green and blue, or other types than
            8 bits.
        usage: How the network takes images.
        date: 0 for the date before, 1 for the date after.

    Returns:
        (H, W, bands) uint8. Pixels without data are 0.

    Raises:
        ImageError: If the file is unreadable, or lacks bands of the network.
    """
    if path.suffix.lower() not in SUFFIXES:
        return _check_count(read_image(path), usage, path)
    if usage.bands == IMAGE_BANDS and usage.ranges is None:
        image = _read_as_image(path)
        if image is not None:
            return image
    raster = read_raster(path)
    return _scale(raster, _choose(raster, usage.bands, path), usage, date, path)


def read_any(path: Path) -> tuple[Pixels, tuple[str, ...]]:
    """Reads an image of any bands and type, for a look at the image alone.

    Returns:
        (H, W, 3) uint8 and the names of all bands. Bands that are not 8-bit colours are scaled by
        the image's own values; the first three are shown, or the first band three times.

    Raises:
        ImageError: If the file is unreadable.
    """
    if not is_raster(path):
        return read_image(path), IMAGE_BANDS
    raster = read_raster(path)
    if raster.is_image or not raster.valid.any():
        return read_image(path), IMAGE_BANDS
    shown = raster.values[:3] if len(raster.values) >= 3 else raster.values[:1].repeat(3, axis=0)
    picture = percentile_scaling(shown[:, raster.valid]).to_8_bits(shown)
    return picture * raster.valid[..., None], raster.names


def settle_usage(usage: Usage, pairs: Sequence[Pair]) -> Usage:
    """How a network takes the images of a data set: with the ranges of the data set's values.

    Args:
        usage: How the network takes images.
        pairs: Pairs of the data set. The ranges are estimated from an even sample of these.

    Returns:
        The same usage, where it has ranges already, or where the images have 8 bits.
    """
    dates = pairs[0].before, pairs[0].after
    if usage.ranges is not None or not all(map(is_raster, dates)):
        return usage
    if all(read_raster(path).values.dtype == np.uint8 for path in dates):
        return usage
    sample = pairs[:: -(-len(pairs) // SAMPLED_PAIRS)]
    before, after = (
        _estimate([pair.before if date == 0 else pair.after for pair in sample], usage)
        for date in (0, 1)
    )
    return usage.replace(ranges=(before, after))


def _read_as_image(path: Path) -> Pixels | None:
    """A GeoTIFF of colours or greys as any other image file, and 0 where it has no data.

    ``None`` for other bands, and for a GeoTIFF with a mask.
    """
    if not is_raster(path):
        return read_image(path)
    with _opened(path) as raster:
        names = [name for name in describe_bands(raster) if name != ALPHA]
        masked = [flag.name for flag in raster.mask_flag_enums[0]] == ["per_dataset"]
        if masked or tuple(names) not in (IMAGE_BANDS, name_bands(1)):
            return None
        holes = not {*raster.nodatavals} <= {None, 0}
        valid = raster.dataset_mask() > 0 if holes else None
    image = read_image(path)
    return image if valid is None else image * valid[..., None]


def is_raster(path: Path) -> bool:
    """Whether a file may hold bands that only rasterio reads; without rasterio, none does."""
    return path.suffix.lower() in SUFFIXES and find_spec("rasterio") is not None


def _estimate(paths: Sequence[Path], usage: Usage) -> Ranges:
    """The ranges of a date's values over a data set."""
    values = []
    for path in paths:
        raster = read_raster(path)
        step = -(-max(raster.valid.shape) // SAMPLED_SIDE)
        chosen = raster.values[_choose(raster, usage.bands, path), ::step, ::step]
        values.append(chosen[:, raster.valid[::step, ::step]])
    whole = np.concatenate(values, axis=1)
    if whole.dtype == np.uint8:
        return unit_scaling(len(whole), usage.scaling).ranges
    if not whole.size:
        raise DataError(f"{paths[0].parent}: no image has a valid pixel")
    return percentile_scaling(whole).ranges


def _choose(raster: Raster, bands: Sequence[str], path: Path) -> list[int]:
    places = find_bands(raster.names, bands)
    if places is None:
        raise ImageError(
            f"{path}: has the bands {', '.join(raster.names)}, the network takes {', '.join(bands)}"
        )
    return places


def _scale(raster: Raster, places: list[int], usage: Usage, date: int, path: Path) -> Pixels:
    values = raster.values[places]
    if usage.ranges is not None and values.dtype != np.uint8:
        return Scaling.of(usage.ranges[date]).to_8_bits(values) * raster.valid[..., None]
    if values.dtype != np.uint8:
        raise ImageError(f"{path}: holds values of {values.dtype}, expected pixels of 8 bits")
    return (values * raster.valid).transpose(1, 2, 0)


def _check_count(image: Pixels, usage: Usage, path: Path) -> Pixels:
    if usage.bands != IMAGE_BANDS:
        raise ImageError(
            f"{path}: has the bands {', '.join(IMAGE_BANDS)}, the network takes "
            f"{', '.join(usage.bands)}; other bands are read from GeoTIFFs"
        )
    return image
