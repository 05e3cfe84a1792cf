"""Real pairs in which no building changed, made of images before and after a disaster.

    python benchmarks/unchanged.py DATA

``DATA`` holds ``buildings/xbd`` and ``buildings/ida_bd``: images of single dates, named
``…_pre_disaster`` and ``…_post_disaster``. The two images of a place make a pair of the folder
``DATA/unchanged``, with a label of 0. Season, light, clouds and water differ; buildings do not.
"""

import argparse
import shutil
from pathlib import Path

from PIL import Image

SETS = ("xbd", "ida_bd")
BEFORE, AFTER = "_pre_disaster", "_post_disaster"


def copy_pair(before, folder):
    """Copies a pair of one size and writes its label; says whether there is such a pair."""
    after = before.with_name(before.name.replace(BEFORE, AFTER))
    if not after.exists():
        return False
    sizes = {Image.open(path).size for path in (before, after)}
    if len(sizes) > 1:
        return False
    name = before.stem.replace(BEFORE, "")
    shutil.copy(before, folder / "A" / f"{name}.jpg")
    shutil.copy(after, folder / "B" / f"{name}.jpg")
    Image.new("L", sizes.pop()).save(folder / "label" / f"{name}.png")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    folder = options.data / "unchanged/train"
    for part in ("A", "B", "label"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    images = (options.data / "buildings" / name / "image" for name in SETS)
    befores = [path for place in images for path in sorted(place.glob(f"*{BEFORE}.jpg"))]
    count = sum([copy_pair(before, folder) for before in befores])
    print(f"{count} pairs in {folder}")


if __name__ == "__main__":
    main()
