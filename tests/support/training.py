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
    """Values of a metric by (epoch, step)."""
    rows = csv.DictReader((run / "logs/metrics.csv").open())
    return {(int(row["epoch"]), int(row["step"])): row[name] for row in rows if row.get(name)}
