"""Whether the intervals of `ctma area` hold: simulated surveys on real maps with known truth.

    python benchmarks/survey.py --shared DIR -o FOLDER [--surveys 2000] [--points 300]

The maps: the test scenes of LEVIR-CD side by side, those with least change, validation crops of
which few show change (rare), and the same map grown by ten pixels, so that it misses hardly
anything and strata are without an error. The shipped weights make the maps. For each simulated
survey, places are drawn with another seed and answered with the label. Printed is, for each value,
the share of surveys whose 95 % interval holds the true value: the interval that ctma gives, the
plain one (1.96 standard errors to both sides), and for areas the one that the map's probability
assists, with its mean width beside that of the plain one.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin
from scipy import ndimage

from ctma import SampleSettings, SceneSettings, predict_scene
from ctma.data.images import read_image
from ctma.data.pairs import find_coding, read_change
from ctma.data.readers import find_pairs
from ctma.scene.finished import read_finished
from ctma.scene.strips import STEPS
from ctma.survey.allocation import share_points
from ctma.survey.estimators import Answered, Survey
from ctma.survey.strata import Strata

PROFILE = {
    "driver": "GTiff", "dtype": "uint8", "crs": CRS.from_epsg(32614),
    "transform": from_origin(5e5, 3.4e6, 0.5, 0.5), "compress": "deflate", "tiled": True,
}  # fmt: skip


def lay_side_by_side(pairs, across):
    """Both dates and the label of pairs, in rows of ``across``."""
    coding = find_coding(pairs)
    kinds = zip(
        *(
            (read_image(pair.before), read_image(pair.after), read_change(pair.change, coding))
            for pair in pairs
        ),
        strict=True,
    )
    whole = len(pairs) // across * across
    return [
        np.concatenate([
            np.concatenate(images[start : start + across], axis=1)
            for start in range(0, whole, across)
        ])
        for images in kinds
    ]  # fmt: skip


def choose(shared):
    """Name, pairs, and pairs in a row of each map."""
    test = find_pairs(shared / "levir_cd_05m", "test")
    val = find_pairs(shared / "levir_cd_05m", "val")
    coding = find_coding(val)
    shares = np.array([read_change(pair.change, coding).mean() for pair in val])
    still = [val[i] for i in np.flatnonzero(shares == 0)[:180]]
    some = [val[i] for i in np.flatnonzero((shares > 0) & (shares < 0.08))[::3][:12]]
    coding = find_coding(test)
    by_change = sorted(test, key=lambda pair: read_change(pair.change, coding).mean())
    return {
        "test": (test, 3), "little change": (by_change[:2], 2), "rare": (still + some, 16),
    }  # fmt: skip


def make_map(folder, pairs, across):
    before, after, label = lay_side_by_side(pairs, across)
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in (("before", before), ("after", after)):
        height, width, bands = image.shape
        with rasterio.open(
            folder / f"{name}.tif", "w", height=height, width=width, count=bands, **PROFILE
        ) as raster:
            raster.write(np.moveaxis(image, -1, 0))
    np.save(folder / "label.npy", label)
    paths = (folder / "before.tif", folder / "after.tif")
    predict_scene(*paths, "ctma-lite", folder / "OUT", SceneSettings(picture=False))


def read_map(folder, settings, grow):
    """The strata, the code and the probability of each pixel, and the label."""
    strata = Strata(read_finished(folder / "OUT"), settings)
    parts = strata.describe()
    codes, stored = (
        np.concatenate([getattr(strip, name) for strip in strata])
        for name in ("codes", "probability")
    )
    label = np.load(folder / "label.npy")
    if grow:
        # The truth lies within the map: what the map misses, and its buffer, did not change.
        label = label * ndimage.binary_erosion(codes > 0, iterations=1)
        label[codes < 2] = 0
    return parts, codes, stored / STEPS, label


def survey(parts, sizes, codes, guesses, label, pools, seed):
    random = np.random.default_rng(seed)
    strata = []
    for part, size in zip(parts, sizes, strict=True):
        chosen = random.choice(pools[part.code], size, replace=False)
        strata.append(
            Answered(
                part.area, part.pixels, np.full(size, part.mapped), label[chosen].astype(np.int64),
                None, guesses[chosen], part.mean_guess,
            )
        )  # fmt: skip
    return Survey(strata)


def values_of(one):
    return {
        "area": one.area(1), "overall": one.overall(), "user's": one.users(1),
        "producer's": one.producers(1), "assisted area": one.assisted_area(),
    }  # fmt: skip


def true_values(parts, codes, label):
    """What a survey of every pixel would say."""
    mapped, total = codes >= 2, sum(part.area for part in parts)
    both = (mapped & (label == 1)).sum()
    return {
        "area": label.mean() * total, "assisted area": label.mean() * total,
        "overall": (mapped == label).mean(), "user's": both / mapped.sum(),
        "producer's": both / label.sum(),
    }  # fmt: skip


def simulate(folder, points, surveys, grow):
    settings = SampleSettings(points=points)
    parts, codes, guesses, label = read_map(folder, settings, grow)
    sizes = share_points(parts, settings)
    truth = true_values(parts, codes, label)
    flat = codes.ravel()
    pools = {part.code: np.flatnonzero(flat == part.code) for part in parts}
    held, plain, widths, counts, empty = {}, {}, {}, {}, 0
    for seed in range(surveys):
        one = survey(parts, sizes, flat, guesses.ravel(), label.ravel(), pools, seed)
        empty += any(len({*stratum.true.tolist()}) == 1 for stratum in one.strata)
        for name, estimate in values_of(one).items():
            if estimate is None:
                continue
            counts[name] = counts.get(name, 0) + 1
            held[name] = held.get(name, 0) + (estimate.low <= truth[name] <= estimate.high)
            near = abs(estimate.value - truth[name]) <= estimate.margin
            plain[name] = plain.get(name, 0) + near
            widths.setdefault(name, []).append(2 * estimate.margin)
    return {
        "change": round(100 * float(label.mean()), 3),
        "sizes": dict(zip((part.name for part in parts), sizes, strict=True)),
        "a stratum without an error": round(100 * empty / surveys, 1),
        "held": {name: round(100 * held[name] / counts[name], 1) for name in held},
        "plain": {name: round(100 * plain[name] / counts[name], 1) for name in held},
        "assisted, shown": round(100 * counts.get("assisted area", 0) / surveys, 1),
        "assisted, width": round(
            float(np.mean(widths.get("assisted area", [np.nan])) / np.mean(widths["area"])), 3
        ),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--surveys", type=int, default=2000)
    parser.add_argument("--points", type=int, nargs="+", default=[300, 600])
    options = parser.parse_args()
    for name, (pairs, across) in choose(options.shared).items():
        folder = options.output / name.replace(" ", "-")
        if not (folder / "OUT/summary.json").is_file():
            make_map(folder, pairs, across)
        for points in options.points:
            for grow in (False, True):
                found = simulate(folder, points, options.surveys, grow)
                print(
                    json.dumps({"map": name, "points": points, "grown": grow, **found}), flush=True
                )


if __name__ == "__main__":
    main()
