"""Where not to believe a map: ``doubt.tif``."""

import warnings

import numpy as np
import pytest
import rasterio

import ctma
from ctma import Usage
from ctma.inference.doubt import PATCH, describe_patches, learn_seen
from support.commands import refused
from support.scenes import Neighbourhood, predict_scene, read, smooth, write_raster

SIDE = 8 * PATCH


@pytest.fixture(scope="module")
def seen():
    """What patches of smooth scenes look like."""
    groups = []
    for seed in range(100, 112):
        image = smooth(seed, SIDE, SIDE).transpose(1, 2, 0) / 255
        parts = image.reshape(8, PATCH, 8, PATCH, 3).swapaxes(1, 2).reshape(-1, PATCH, PATCH, 3)
        groups.append(describe_patches(parts))
    return learn_seen(groups).write()


@pytest.fixture(scope="module")
def network(seen):
    network = Neighbourhood().eval()
    network.usage = network.usage.replace(seen=seen)
    return network


@pytest.fixture
def pair(tmp_path):
    return [write_raster(tmp_path / f"{n}.tif", smooth(n, 2 * SIDE, 2 * SIDE)) for n in (1, 2)]


def test_doubt_is_high_where_the_ground_is_unlike_or_the_probability_undecided(network, tmp_path):
    after = smooth(2, 2 * SIDE, 2 * SIDE)
    rng = np.random.default_rng(0)
    after[:, :, SIDE:] = rng.integers(0, 256, (3, 2 * SIDE, SIDE))
    paths = [
        write_raster(tmp_path / "1.tif", smooth(1, 2 * SIDE, 2 * SIDE)),
        write_raster(tmp_path / "2.tif", after),
    ]
    result = predict_scene(*paths, network, tmp_path / "OUT", doubt=True)
    doubt, probability = read(result.doubt), read(result.probability) / 250
    assert doubt.max() <= 250
    assert 0.3 < result.summary["unlike_share"] < 0.7
    near = np.minimum(probability, 1 - probability) * 2
    # Away from the border between both halves.
    seen, unseen = (slice(None), slice(0, SIDE - 256)), (slice(None), slice(SIDE + 256, None))
    assert doubt[seen] / 250 == pytest.approx(near[seen], abs=0.31)
    assert np.median(doubt[seen] / 250 - near[seen]) < 0.05
    assert doubt[unseen].min() >= 0.2 * 250
    with rasterio.open(result.doubt) as raster:
        assert (raster.scales[0], raster.nodata) == (1 / 250, 255)
        assert raster.profile["tiled"]


def test_the_other_files_stay_the_same_to_the_byte(network, pair, tmp_path):
    plain = predict_scene(*pair, network, tmp_path / "plain")
    doubted = predict_scene(*pair, network, tmp_path / "doubted", doubt=True)
    for name in ("mask.tif", "probability.tif", "changes.gpkg"):
        assert (tmp_path / "plain" / name).read_bytes() == (
            tmp_path / "doubted" / name
        ).read_bytes()
    assert plain.doubt is None
    assert "unlike_share" not in plain.summary
    again = predict_scene(*pair, network, tmp_path / "plain", doubt=True, resume=True)
    assert again.doubt.read_bytes() == doubted.doubt.read_bytes()
    predict_scene(*pair, network, tmp_path / "doubted", overwrite=True)
    assert not doubted.doubt.exists()


def test_holes_have_no_doubt_and_small_scenes_work(network, tmp_path):
    before = smooth(1, 150, 40)
    before[:, :60] = 0
    paths = [
        write_raster(tmp_path / "1.tif", before, nodata=0),
        write_raster(tmp_path / "2.tif", smooth(2, 150, 40)),
    ]
    doubt = read(predict_scene(*paths, network, tmp_path / "OUT", doubt=True).doubt)
    assert (doubt[:60] == 255).all()
    assert (doubt[70:] <= 250).all()


def test_a_scene_that_is_mostly_unlike_is_warned_of_before_the_first_window(
    network, pair, tmp_path
):
    noise = np.random.default_rng(0).integers(0, 256, (3, 2 * SIDE, 2 * SIDE), dtype=np.uint8)
    foreign = write_raster(tmp_path / "noise.tif", noise)
    windows = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", ctma.CtmaWarning)
        said = "the scene is unlike what the network was trained on"
        with pytest.raises(ctma.CtmaWarning, match=said):
            ctma.predict_scene(
                pair[0], foreign, network, tmp_path / "OUT",
                on_progress=lambda *done: windows.append(done),
            )  # fmt: skip
    assert windows == []
    quiet = []
    predict_scene(*pair, network, tmp_path / "like", on_warning=quiet.append)
    assert not [line for line in quiet if "unlike" in line]


def test_ground_is_compared_at_the_distance_that_the_network_sees(seen, tmp_path):
    """Twice as many pixels of half the size: the network sees them reduced, as before."""
    network = Neighbourhood().eval()
    network.usage = Usage(seen=seen, ground_sample_distance=0.5)
    shares = []
    for factor in (1, 2):
        place = rasterio.transform.from_origin(5e5, 5e6, 0.5 / factor, 0.5 / factor)
        paths = [
            write_raster(
                tmp_path / f"{factor}-{n}.tif",
                smooth(n, SIDE, SIDE).repeat(factor, 1).repeat(factor, 2),
                transform=place,
            )
            for n in (1, 2)
        ]
        result = predict_scene(*paths, network, tmp_path / f"{factor}", doubt=True)
        shares.append(result.summary["unlike_share"])
    assert max(shares) < 0.5


def test_a_checkpoint_that_remembers_nothing_is_refused(ctma, pair, tiny_model, tmp_path):
    refused(ctma, "ctma calibrate --seen adds that", "predict", *pair, "-c", tiny_model,
            "-o", tmp_path / "OUT", "--doubt")  # fmt: skip
    assert not (tmp_path / "OUT/mask.tif").exists()
