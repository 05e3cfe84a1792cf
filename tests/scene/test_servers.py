"""Rasters on a server that fails: the whole map, or one line; never an empty map."""

import zipfile

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio")

from ctma.errors import SceneError  # noqa: E402
from support.scenes import Neighbourhood, predict_scene, read, smooth, write_links, write_raster  # noqa: E402
from support.servers import serve  # noqa: E402

SIZE = (200, 300)
KINDS = {
    "tiled": {"tiled": True, "blockxsize": 128, "blockysize": 128},
    "striped": {},
    "deflate": {"tiled": True, "compress": "deflate"},
    "cog": {"driver": "COG"},
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Pauses that suit a server on this machine."""
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    monkeypatch.setattr("ctma.scene.servers.PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr("ctma.scene.servers.WAIT", 1.0)


def busy(seed):
    """Pixels that no compression makes small enough to come with the header."""
    rng = np.random.default_rng(seed)
    return smooth(seed, *SIZE) // 2 + rng.integers(1, 100, (3, *SIZE), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    for kind, profile in KINDS.items():
        write_raster(folder / f"{kind}.tif", busy(2), **profile)
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        archive.write(folder / "striped.tif", "striped.tif")
    write_links(folder / "mosaic.vrt", "tiled.tif", SIZE, relative=True)
    write_raster(folder / "before.tif", busy(1))
    return folder


def predict(folder, address, output, **options):
    network = Neighbourhood().eval()
    return read(predict_scene(folder / "before.tif", address, network, output, **options).mask)


@pytest.fixture(scope="module")
def expected(folder, tmp_path_factory):
    return predict(folder, folder / "tiled.tif", tmp_path_factory.mktemp("right"))


def address_of(server, name, tmp_path):
    if name == "packed":
        return f"/vsizip//vsicurl/{server.url}/packed.zip/striped.tif"
    if name == "mosaic here":
        return write_links(tmp_path / "m.vrt", f"/vsicurl/{server.url}/tiled.tif", SIZE)
    return f"{server.url}/{name}.vrt" if name == "mosaic" else f"{server.url}/{name}.tif"


NAMES = [*KINDS, "packed", "mosaic", "mosaic here"]


SAID = {"500": "HTTP 500", "403": "HTTP 403", "whole": "HTTP 200", "half": "cannot be"}


@pytest.mark.parametrize(
    ("name", "failure", "said"),
    [
        *(
            (name, failure, SAID[failure])
            for name in NAMES
            for failure in ("500", "half")
            if (name, failure) != ("packed", "500")
        ),
        *(
            (name, failure, SAID[failure])
            for name in ("tiled", "cog")
            for failure in ("403", "whole")
        ),
        ("cog", "stall", "does not answer"),
    ],
)
def test_what_a_server_does_not_send_is_never_ground(folder, tmp_path, name, failure, said):
    with serve(folder, failure, after=1) as server:
        address = address_of(server, name, tmp_path)
        with pytest.raises(SceneError, match=said) as raised:
            predict(folder, address, tmp_path / "out")
        assert server.url in str(raised.value) or str(address) in str(raised.value)
    assert not (tmp_path / "out/mask.tif").exists()


@pytest.mark.parametrize(
    ("name", "failure"),
    [("tiled", "half"), ("striped", "503"), ("cog", "half"), ("packed", "503"), ("mosaic", "503"),
     ("mosaic here", "half")],
)  # fmt: skip
def test_what_a_server_sends_at_the_second_try_is_the_whole_map(
    folder, expected, tmp_path, name, failure
):
    with serve(folder, failure, after=1, times=2) as server:
        found = predict(folder, address_of(server, name, tmp_path), tmp_path / "out")
    assert (found == expected).all()


def test_the_same_process_makes_the_map_when_the_server_is_back(folder, expected, tmp_path):
    with serve(folder, "500", after=1) as server, pytest.raises(SceneError, match="HTTP 500"):
        predict(folder, f"{server.url}/tiled.tif", tmp_path / "out")
    with serve(folder, port=server.server_port) as server:
        found = predict(folder, f"{server.url}/tiled.tif", tmp_path / "out", resume=True)
    assert (found == expected).all()


def test_a_name_in_capitals_is_an_address_too(folder, ctma, tiny_model, tmp_path):
    with serve(folder) as server:
        address = server.url.replace("http", "HTTP") + "/cog.tif"
        ctma("predict", folder / "before.tif", address, "-c", tiny_model, "-o", tmp_path / "out")
    assert (tmp_path / "out/mask.tif").is_file()
