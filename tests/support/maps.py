"""Maps whose changes are known: painted squares, and a network that sees brightness."""

import json

import numpy as np
import torch

from ctma import ChangeLogits, ChangeNetwork
from support.scenes import predict_scene, write_raster


class Brighter(ChangeNetwork):
    """Change is what became brighter: by a quarter, the probability is a half."""

    bands = 3

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(40.0))

    def forward(self, before, after):
        return ChangeLogits(self.slope * ((after - before).mean(1, keepdim=True) - 0.25))


def paint(size, squares):
    """Both dates; squares are (column, row, side, brightness), and grey 60 before."""
    before = np.full((3, *size), 60, np.uint8)
    before[:, ::7] = 70
    after = before.copy()
    for column, row, side, brightness in squares:
        after[:, row : row + side, column : column + side] = brightness
    return before, after


def paint_many(columns, rows, step=20, side=8):
    """The size, and squares side by side, of all brightnesses."""
    return (rows * step, columns * step), [
        (column * step + 5, row * step + 6, side, 140 + (column + 7 * row) % 100)
        for row in range(rows)
        for column in range(columns)
    ]


def make_map(folder, size, squares, names=("before.tif", "after.tif"), out="OUT", **options):
    """A map in ``folder / out`` of two painted rasters."""
    folder.mkdir(exist_ok=True)
    paths = [folder / name for name in names]
    profile = {name: options.pop(name) for name in ("crs", "transform") if name in options}
    for path, pixels in zip(paths, paint(size, squares), strict=True):
        write_raster(path, pixels, **profile)
    predict_scene(*paths, Brighter().eval(), folder / out, **options)
    return folder / out


def data_of(page):
    """What a page knows."""
    return json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
