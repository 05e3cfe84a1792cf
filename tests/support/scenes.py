"""Rasters, and a network that scenes can be worked out by hand for."""

import warnings

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT

import ctma
from ctma import ChangeLogits, ChangeNetwork, CtmaWarning, Predictor, Running, SceneSettings


def predict_scene(before, after, model, output, *, on_warning=None, **options):
    """As ``ctma.predict_scene``, settings and what runs by name; without the picture, which takes
    longer than a small scene.
    """
    running = {name: options.pop(name) for name in Running.model_fields if name in options}
    settings = {name: options.pop(name) for name in SceneSettings.model_fields if name in options}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CtmaWarning)
        result = ctma.predict_scene(
            before, after, Predictor(model, Running(**running)) if running else model, output,
            SceneSettings(**{"picture": False, **settings}), **options,
        )  # fmt: skip
    for warning in caught:
        if on_warning is not None and issubclass(warning.category, CtmaWarning):
            on_warning(str(warning.message))
    return result


UTM = CRS.from_epsg(32643)


class Neighbourhood(ChangeNetwork):
    """A network that looks 8 pixels far: a blurred difference."""

    bands = 3

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 1, 17, padding=8)

    def forward(self, before, after):
        return ChangeLogits(4 * self.conv(after - before))


def trained_at(ground_sample_distance):
    network = Neighbourhood().eval()
    network.usage = network.usage.replace(ground_sample_distance=ground_sample_distance)
    return network


def smooth(seed, height, width, bands=3):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(1, 256, (bands, height // 8 + 1, width // 8 + 1), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]


def write_raster(path, pixels, transform=None, crs=UTM, **profile):
    bands, height, width = pixels.shape
    transform = transform or from_origin(500_000, 4_000_000, 0.5, 0.5)
    profile = {"driver": "GTiff", "crs": crs, "transform": transform} | profile
    shape = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype}
    with rasterio.open(path, "w", **shape, **profile) as raster:
        raster.write(pixels)
    return path


def write_mosaic(path, source):
    """A VRT over one raster, as gdalbuildvrt writes it."""
    with rasterio.open(source) as raster, WarpedVRT(raster) as view:
        rasterio.shutil.copy(view, path, driver="VRT")
    return path


def write_links(path, source, size, bands=(1, 2, 3), *, relative=False):
    """A VRT whose bands are bands of one raster, which need not be there yet.

    The VRT lies where ``write_raster`` puts rasters; ``size`` is its (height, width).
    """
    height, width = size
    links = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number}"><SimpleSource><SourceFilename '
        f'relativeToVRT="{relative:d}">{source}</SourceFilename><SourceBand>{band}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for number, band in enumerate(bands, start=1)
    )
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>EPSG:32643</SRS>'
        f"<GeoTransform>500000, 0.5, 0, 4000000, 0, -0.5</GeoTransform>{links}</VRTDataset>"
    )
    return path


def as_array(pixels):
    """Pixels as a georeferenced DataArray."""
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("rioxarray")
    array = xarray.DataArray(pixels, dims=("band", "y", "x")).rio.write_crs(UTM)
    return array.rio.write_transform(from_origin(500_000, 4_000_000, 0.5, 0.5))


def read(path):
    with rasterio.open(path) as raster:
        return raster.read(1)
