"""Small trainings, and what they log."""

import csv
import shutil

from PIL import Image

from ctma import load_recipe

SMALL = [
    "model.video_len=2",
    "data.repeats=1",
    "data.crop_size=64",
    "data.batch_size=4",
    "data.workers=0",
    "trainer.epochs=2",
]


def small_recipe(*settings):
    return load_recipe("levir-cd/ctma-s", [*SMALL, *settings])


def without_change(data, target):
    """A copy of a data set whose labels hold no change: F1 stays at 0."""
    data = shutil.copytree(data, target)
    for label in data.glob("*/label/*.png"):
        Image.new("L", (64, 64)).save(label)
    return data


def logged(run, name):
    """Values of a metric by (epoch, step), over all versions of a run's logs."""
    values = {}
    for path in sorted(run.glob("logs/version_*/metrics.csv")):
        for row in csv.DictReader(path.open()):
            if row.get(name):
                values[int(row["epoch"]), int(row["step"])] = row[name]
    return values
