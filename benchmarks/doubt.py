"""Whether doubt tells what a network has not seen, and where its map is wrong.

    python benchmarks/doubt.py --shared DIR [--checkpoint ctma-lite]

First, images of other kinds against LEVIR-CD's validation: the area under the ROC curve of the mean
distance of their patches. Second, pixels with a label: the error rate of what is left when the
pixels of most doubt are dropped, and the area under the risk-coverage curve, by the closeness to
the threshold alone and joined with the distance, as in ``doubt.tif``.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from rasterio.windows import Window
from scipy import ndimage, stats

from ctma import SceneSettings, Scoring, load
from ctma.data.images import read_image
from ctma.data.readers import find_pairs
from ctma.data.synthetic import write_synthetic
from ctma.evaluation.scoring import score_pairs
from ctma.inference.doubt import PATCH, Seen, cut_patches, describe_patches
from ctma.scene.doubt import closeness, find_unlike, join_doubt
from ctma.scene.plan import Reader, make_plan
from ctma.scene.rasters import raster_settings

SIDE, MOST = 256, 80
SCENES = {
    "NAIP, 5 m": (("naip_wetland_2009.tif", "naip_wetland_2017.tif"), (1, 2, 3)),
    "Sentinel-2, 10 m": (("sentinel2_beirut_2016.tif", "sentinel2_beirut_2017.tif"), (1, 2, 3)),
    "the town, 1.1 m": (("vhr_town_t1.tif", "vhr_town_t2.tif"), (3, 2, 1)),
}


def read(pairs):
    return [(read_image(pair.before), read_image(pair.after)) for pair in pairs]


def read_scene(paths, bands, predictor):
    """Parts of a scene, as the network sees them."""
    with raster_settings():
        plan, _ = make_plan(
            *map(str, paths), predictor.usage, predictor.stride, SceneSettings(bands=bands)
        )
        side = round(SIDE / plan.enlargement)
        with Reader(plan) as reader:
            images = [
                reader.read_window(Window(column, row, side, side))
                for row in range(0, plan.grid.height - side + 1, side)
                for column in range(0, plan.grid.width - side + 1, side)
            ]
    return [
        tuple(
            np.asarray(
                Image.fromarray(to_bytes(255 * date.transpose(1, 2, 0))).resize((SIDE, SIDE))
            )
            for date in (one.before, one.after)
        )
        for one in images
        if one.valid.all()
    ]


def change(pairs, act, which=(0, 1)):
    return [
        tuple(act(image) if date in which else image for date, image in enumerate(pair))
        for pair in pairs
    ]


def to_bytes(values):
    return np.clip(values, 0, 255).astype(np.uint8)


def kinds(shared, predictor, random):
    val = read(find_pairs(shared / "levir_cd_05m", "val")[::4])
    yield "LEVIR-CD, validation", val
    for name, order in (("BGR", [2, 1, 0]), ("RBG", [0, 2, 1]), ("GRB", [1, 0, 2])):
        yield f"bands in the order {name}", change(val, lambda image, o=order: image[..., o])
    yield "night", change(val, lambda image: to_bytes(0.12 * image))
    yield "night after", change(val, lambda image: to_bytes(0.15 * image), which=(1,))

    def cover(image):
        clouds = ndimage.gaussian_filter(random.normal(size=image.shape[:2]), 24)
        share = np.clip(0.6 * clouds / clouds.std() + 0.6, 0, 1)[..., None]
        return to_bytes(image * (1 - share) + 240 * share)

    yield "clouds after", change(val, cover, which=(1,))
    yield "noise added", change(val, lambda x: to_bytes(x + random.normal(0, 30, x.shape)))
    yield "noise", change(val[:40], lambda x: random.integers(0, 256, x.shape, dtype=np.uint8))

    def water(image):
        colour = np.array([30, 60, 80]) + random.normal(0, 12, 3)
        waves = ndimage.gaussian_filter(random.normal(size=image.shape[:2]), 1.5)
        return to_bytes(colour + 4 * (waves / waves.std())[..., None])

    yield "water", change(val[:40], water)
    for name, (paths, bands) in SCENES.items():
        whole = [shared / "scenes" / path for path in paths]
        yield name, read_scene(whole, bands, predictor)[:MOST]
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(Path(folder) / "drawn", {"val": 30}, size=SIDE)
        yield "drawn", read(find_pairs(Path(folder) / "drawn", "val"))
    for name, folder, split in (
        ("Europe", "places/europe", "test"), ("New Zealand", "places/new_zealand", "test"),
        ("SVCD, validation", "svcd", "val"),
    ):  # fmt: skip
        yield name, read(find_pairs(shared / folder, split)[:MOST])


def distance_of(seen, pair):
    """The mean distance of the patches of a pair; of each patch, that of the farther date."""
    dates = [seen.distance(describe_patches(cut_patches(image / 255, 16))) for image in pair]
    return float(np.maximum(*dates).mean())


def tell_apart(seen, predictor, shared):
    found = {
        name: np.array([distance_of(seen, pair) for pair in pairs])
        for name, pairs in kinds(shared, predictor, np.random.default_rng(0))
    }
    (known, inside), *others = found.items()
    print(json.dumps({"kind": known, "unlike": round(float((inside > 1).mean()), 3)}))
    for name, outside in others:
        rank = stats.mannwhitneyu(outside, inside).statistic / (len(outside) * len(inside))
        told = {"kind": name, "auroc": round(float(rank), 3)}
        print(json.dumps(told | {"unlike": round(float((outside > 1).mean()), 3)}), flush=True)


def look(predictor, seen, pairs, scoring):
    """Closeness, doubt and error of all pixels."""
    near, doubt, wrong = [], [], []

    def judged(one):
        middle = [(side - PATCH) // 2 for side in one.change.shape]
        place = tuple(slice(first, first + PATCH) for first in middle)
        dates = [
            seen.distance(describe_patches(image[place][None] / np.float32(255)))
            for image in (one.before, one.after)
        ]
        far = float(find_unlike(np.max(dates)))
        close = closeness(one.probability, predictor.usage.threshold).ravel()
        near.append(close)
        doubt.append(join_doubt(far, close))
        wrong.append((one.mask != one.change).ravel())

    score_pairs(predictor, pairs, scoring, on_pair=judged)
    return [np.concatenate(each) for each in (near, doubt, wrong)]


def risk(doubt, wrong):
    """Error rates after dropping shares of the pixels, and the area under the curve; percent."""
    # Among equal doubt, the order is by chance.
    order = np.lexsort((np.random.default_rng(0).random(len(doubt)), doubt))
    errors = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    left = {
        f"without {drop} %": errors[int(len(order) * (1 - drop / 100)) - 1]
        for drop in (0, 10, 20, 30)
    }
    return {
        name: round(100 * float(one), 3) for name, one in (left | {"area": errors.mean()}).items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--checkpoint", default="ctma-lite")
    options = parser.parse_args()
    predictor = load(options.checkpoint)
    seen = Seen.read(predictor.usage.seen)
    tell_apart(seen, predictor, options.shared)
    sets = {
        "LEVIR-CD, validation": ("levir_cd_05m", "val"), "Europe": ("places/europe", "test"),
        "New Zealand": ("places/new_zealand", "test"),
    }  # fmt: skip
    found = {
        name: look(
            predictor, seen, find_pairs(options.shared / folder, split), Scoring(protocol="whole")
        )
        for name, (folder, split) in sets.items()
    }
    found["all together"] = [np.concatenate(each) for each in zip(*found.values(), strict=True)]
    for name, (near, doubt, wrong) in found.items():
        for kind, values in (("closeness", near), ("doubt", doubt)):
            print(json.dumps({"pixels": name, "by": kind, **risk(values, wrong)}), flush=True)


if __name__ == "__main__":
    main()
