"""Finds which files, on disk and elsewhere, are scenes and which are plain images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ctma.errors import SceneError, SettingError, warn
from ctma.inference.batch import check_there, find_partners

PLAIN = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
"""Suffixes of images whose georeference can only be in a file beside the image."""

_ADDRESS = re.compile(r"/vsi|[a-z][a-z0-9+._-]+:", re.IGNORECASE)
"""Beginnings of what GDAL opens although no file has the name: URLs, ``NETCDF:f.nc:red``."""


class Scene(NamedTuple):
    """Two rasters; a pair from folders has a name, which is also the name of its output folder."""

    name: str
    before: str
    after: str


def find_scenes(before: str, after: str, *, ignore_georeference: bool = False) -> list[Scene]:
    """The pairs of rasters with a CRS in two files or folders; empty where these are images.

    Args:
        before: A file, a folder, a URL, or another address that GDAL opens, such as ``/vsi…``.
        after: An address of the same kind. In folders, both rasters of a pair have the same name
            without suffix.
        ignore_georeference: Whether files and folders are images whatever their georeference says.

    Raises:
        DataError: If a file or a partner is missing.
        SceneError: If two files have transforms without a CRS that place them apart.
        SettingError: If folders hold both images and rasters with a CRS, or ``ignore_georeference``
            meets an address.
    """
    local = [Path(path) for path in (before, after) if not is_address(path)]
    if len(local) < 2:
        check_there(*local)
        if ignore_georeference:
            raise SettingError("`ignore_georeference`: is for files and folders on disk")
        return [Scene("", before, after)]
    pairs = find_partners(Path(before), Path(after))
    if ignore_georeference:
        return []
    if not Path(before).is_dir():
        return [Scene("", before, after)] if _are_scenes(before, after) else []
    pairs_of_files = [Scene(pair.name, str(pair.before), str(pair.after)) for pair in pairs]
    scenes = [scene for scene in pairs_of_files if _are_scenes(scene.before, scene.after)]
    if scenes and len(scenes) < len(pairs_of_files):
        (odd, *_) = (scene for scene in pairs_of_files if scene not in scenes)
        raise SettingError(
            f"{odd.before}: has no CRS, but {scenes[0].before} has one; give images and rasters "
            "apart"
        )
    return scenes


def is_address(path: str) -> bool:
    """Whether a path is no file or folder on disk, but a URL or another address for GDAL."""
    return _ADDRESS.match(path) is not None and not Path(path).exists()


def _are_scenes(before: str, after: str) -> bool:
    """Whether at least one of two files has a CRS."""
    candidates = [path for path in (before, after) if not _is_plain(Path(path))]
    if not candidates:
        return False
    try:
        from ctma.scene.georeference import find_georeference
    except ImportError:
        return False
    georeferences = {path: find_georeference(path) for path in candidates}
    if any(one.scene for one in georeferences.values()):
        return True
    places = [*georeferences.values()]
    if not places[0].agrees(places[-1]):
        raise SceneError(
            f"{before} and {after}: have no CRS, and their transforms place them apart; give them "
            "a CRS, or compare them pixel by pixel with `ignore_georeference`"
        )
    for path, one in georeferences.items():
        if one.lost:
            warn(f"{path}: has {one.lost}, which the outputs will not have; gdalwarp makes a map")
    return False


def _is_plain(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in PLAIN:
        return False
    world = f".{suffix[1]}{suffix[-1]}w"
    endings = [each for name in (world, f"{suffix}w", ".wld") for each in (name, name.upper())]
    beside = [path.with_suffix(ending) for ending in endings]
    return not any(file.is_file() for file in (path.with_name(f"{path.name}.aux.xml"), *beside))
