"""Finds which files, on disk and elsewhere, are scenes and which are plain images."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ctma.errors import SettingError, warn
from ctma.inference.batch import check_there, find_partners

PLAIN = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
"""Suffixes of images whose georeference can only be in a file beside the image."""

REMOTE = ("/vsi", "http://", "https://", "s3://")
"""Beginnings of paths to rasters that are not on disk, or are in an archive."""


class Scene(NamedTuple):
    """Two rasters; a pair from folders has a name, which is also the name of its output folder."""

    name: str
    before: str
    after: str


def find_scenes(before: str, after: str) -> list[Scene]:
    """The pairs of rasters with a CRS in two files or folders; empty where these are images.

    Args:
        before: A file, a folder, a URL, or a ``/vsi…`` path.
        after: A path of the same kind. In folders, both rasters of a pair have the same name
            without suffix.

    Raises:
        DataError: If a file or a partner is missing.
        SettingError: If folders hold both images and rasters with a CRS.
    """
    local = [Path(path) for path in (before, after) if not path.startswith(REMOTE)]
    if len(local) < 2:
        check_there(*local)
        return [Scene("", before, after)]
    pairs = find_partners(Path(before), Path(after))
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
    for path, one in georeferences.items():
        if one.lost:
            warn(f"{path}: has {one.lost}, which the outputs will not have; gdalwarp makes a map")
    return False


def _is_plain(path: Path) -> bool:
    beside = (path.with_name(f"{path.name}.aux.xml"), *path.parent.glob(f"{path.stem}.?[gp]w"))
    return path.suffix.lower() in PLAIN and not any(file.is_file() for file in beside)
