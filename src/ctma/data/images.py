"""Reads and writes 8-bit images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from ctma.errors import ImageError
from ctma.files import whole_file

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
"""Suffixes of the image files that ctma reads, in lower case."""

_OWNER = "ctma:pair"

_DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""Errors that Pillow raises for an unreadable file."""

_TINT = 40
"""Largest difference between the bands of a compressed grey image, in grey levels."""

_PNG_DEPTH, _JP2_DEPTH, _TIFF_BITS = 24, 14, 258
"""Where files store the bits per sample: PNG byte, byte after ``ihdr`` in JPEG 2000, TIFF tag."""

_TIFF_NODATA = 42113
"""The TIFF tag in which GDAL stores the nodata value, as text."""

_TIFF_KIND, _MASK = 254, 4
"""The TIFF tag of what an image of a file is, and its bit for a mask of another image."""

_CODESTREAM, _CODESTREAM_DEPTH = b"\xff\x4f\xff\x51", 42
"""First bytes of a JPEG 2000 codestream without a container, and its byte of bits per sample."""

_8_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Reads a colour image.

    Args:
        path: A PNG, JPEG, BMP, TIFF or WebP file of 8 bits per sample.

    Returns:
        (H, W, 3) in the order red, green, blue. The function turns the image upright, repeats a
        grey band three times and drops alpha.

    Raises:
        ImageError: If the file is missing, unreadable, truncated or not of 8 bits per sample.
    """
    return _read(path, "RGB")


def read_shorter_side(path: str | Path) -> int:
    """Reads the shorter side of an image, in pixels, from the file's header.

    Raises:
        ImageError: If the file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            return min(image.size)
    except _DAMAGE as error:
        raise _unreadable(path, error) from error


def take_picture(image: Image.Image) -> NDArray[np.uint8]:
    """Converts a Pillow image to the form of ``read_image``, (H, W, 3).

    Raises:
        ImageError: If the image, or the file of the image, does not have 8 bits per sample.
    """
    return _colours(image, getattr(image, "filename", "") or "a picture", "RGB")


def read_label(path: str | Path) -> NDArray[np.uint8]:
    """Reads the stored values of a label image, (H, W); for a palette image, the indices.

    Raises:
        ImageError: In the cases of ``read_image``; also if the label is coloured or transparent,
            or if its palette has a brighter colour for 0 than for the largest index.
    """
    return _read(path, "L")


def read_ignored(path: str | Path) -> int | None:
    """Reads the stored value of pixels without a label: the nodata value of a GeoTIFF.

    A nodata value of 0 or 1 does not count: many programs tag the value of no change.

    Returns:
        The value; ``None`` for a label in which every pixel counts.

    Raises:
        ImageError: If the file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            text = image.tag_v2.get(_TIFF_NODATA, "") if isinstance(image, TiffImageFile) else ""
            value = float(text or "nan")
    except _DAMAGE as error:
        raise _unreadable(path, error) from error
    return int(value) if 1 < value <= 255 and value.is_integer() else None


def save_image(
    path: str | Path, pixels: NDArray[np.uint8], owner: str = "", nodata: int | None = None
) -> None:
    """Writes (H, W) or (H, W, 3) in the format of the path's suffix, whole or not at all.

    Args:
        path: The file to write.
        pixels: The image.
        owner: Only for a PNG: a text that names the image's source, for ``read_owner``.
        nodata: Only for a TIFF: the value of pixels without a label, for ``read_ignored``.
    """
    options: dict[str, Any] = {}
    if owner:
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text(_OWNER, owner)
    if nodata is not None:
        options["tiffinfo"] = {_TIFF_NODATA: str(nodata)}
    with whole_file(path) as part:
        Image.fromarray(pixels).save(part, **options)


def read_owner(path: str | Path) -> str:
    """Reads the source that a PNG names (see ``save_image``); empty if the PNG names none."""
    try:
        with Image.open(path) as image:
            return str(image.info.get(_OWNER, ""))
    except _DAMAGE:
        return ""


def _read(path: str | Path, mode: str) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            if image.format == "PNG":
                _check_png(path)
            if mode == "L" and _has_mask(path, image):
                raise ImageError(
                    f"{path}: label with a mask; write pixels without a label as a nodata value"
                )
            return _colours(image, path, mode)
    except ImageError:
        raise
    except _DAMAGE as error:
        raise _unreadable(path, error) from error


def _check_png(path: str | Path) -> None:
    """Compares a PNG with its checksums, not all of which Pillow looks at as it decodes."""
    with Image.open(path) as image:
        image.verify()


def _has_mask(path: str | Path, image: Image.Image) -> bool:
    """Whether a raster says in a mask, inside or beside the file, where it has no data."""
    if Path(f"{path}.msk").is_file():
        return True
    if not isinstance(image, TiffImageFile) or not image.tag_v2.next:
        return False
    with open(path, "rb") as file:
        head = file.read(8)
        following = ImageFileDirectory_v2(head + file.read(8) if 43 in head[2:4] else head)
        file.seek(image.tag_v2.next)
        following.load(file)
    return bool(following.get(_TIFF_KIND, 0) & _MASK)


def _colours(image: Image.Image, path: str | Path, mode: str) -> NDArray[np.uint8]:
    if image.mode not in _8_BIT_MODES or _stored_bits(path, image) > 8:
        raise ImageError(f"{path}: expected pixels of 8 bits; convert it first")
    upright = ImageOps.exif_transpose(image)
    if mode == "L":
        return _read_grey(upright, path)
    return np.asarray(upright.convert(mode))


def _read_grey(label: Image.Image, path: str | Path) -> NDArray[np.uint8]:
    """Reads a label's values; refuses ambiguous labels."""
    if label.has_transparency_data and np.asarray(label.convert("RGBA"))[..., 3].min() < 255:
        raise ImageError(f"{path}: label with transparent pixels; make it grey, 0 and 255")
    if label.mode == "P":
        values = np.asarray(label)
        lights = np.asarray(label.convert("L"))
        most = values.max()
        if most > 0 and lights[values == 0].max(initial=0) > lights[values == most].min():
            raise ImageError(
                f"{path}: palette label whose 0 is brighter than its {most}; make it grey"
            )
        return values
    colours = np.asarray(label.convert("RGB"))
    if label.mode not in ("1", "L", "LA") and (np.ptp(colours, axis=-1) > _TINT).any():
        raise ImageError(f"{path}: coloured label; make it grey, 0 and 255")
    return np.asarray(label.convert("L"))


def _stored_bits(path: str | Path, image: Image.Image) -> int:
    """Bits per sample in the file; Pillow silently cuts several 16-bit bands to 8 bits."""
    if not Path(path).is_file():
        return 8
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith(b"\x89PNG") and len(head) > _PNG_DEPTH:
        return head[_PNG_DEPTH]
    if head.startswith(_CODESTREAM):
        return (head[_CODESTREAM_DEPTH] & 0x7F) + 1
    place = head.find(b"ihdr") + _JP2_DEPTH
    if image.format == "JPEG2000" and _JP2_DEPTH <= place < len(head):
        return (head[place] & 0x7F) + 1
    if isinstance(image, TiffImageFile):
        return max(np.ravel(image.tag_v2.get(_TIFF_BITS, 8)))
    return 8


def _unreadable(path: str | Path, error: Exception) -> ImageError:
    path = Path(path)
    if not path.exists():
        return ImageError(f"{path}: no such file")
    if path.is_dir():
        return ImageError(f"{path}: is a folder, expected an image")
    if isinstance(error, Image.DecompressionBombError):
        reason = (
            f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels; cut it into "
            "tiles, or give it a CRS to make it a scene"
        )
    elif isinstance(error, UnidentifiedImageError):
        reason = "no PNG, JPEG, BMP, TIFF or WebP of 8 bits; rasters of other kinds need a CRS"
    else:
        reason = str(error).splitlines()[0].replace(f"'{path}'", "the file")
    return ImageError(f"{path}: cannot be read as an image ({reason})")
