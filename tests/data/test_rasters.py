"""Labels with ignored pixels, and images of any bands and type, from GeoTIFFs."""

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

import ctma
from ctma import ChangeLogits, ChangeNetwork, create_model, evaluate, load_recipe, save_model, train
from ctma.data.augmentation import AUGMENTATIONS, augmentation, put_together
from ctma.data.dataset import PairDataset
from ctma.data.doctor import check as examine
from ctma.data.pairs import Coding, find_coding
from ctma.data.rasters import read_date, settle_usage
from ctma.data.readers import find_pairs
from ctma.errors import CtmaError, ImageError
from ctma.models.usage import Usage
from ctma.types import IGNORED
from support.commands import run_here
from support.images import LABEL, random_image, write_split
from support.scenes import predict_scene, write_raster

BANDS = ("blue", "green", "red", "nir")


def write_label(path, label, nodata=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_raster(path, label[None], nodata=nodata)


def half_ignored(folder, seed=0):
    """A split whose label is 0/1, with 255 as the nodata value in its lower half."""
    write_split(folder, ["a"], seed=seed)
    (folder / "label/a.png").unlink()
    label = LABEL // 255
    label[32:] = 255
    write_label(folder / "label/a.tif", label)
    return label


def write_bands(folder, name, seed, bands=BANDS, kind=np.uint16, top=3000, names=True):
    """A pair of GeoTIFFs; the change of ``LABEL`` brightens all bands."""
    for number, date in enumerate(("A", "B")):
        image = random_image(seed, 64, len(bands)).transpose(2, 0, 1).astype(float) * (top / 255)
        image[:, LABEL > 0] = (0.2, 0.9)[number] * top
        path = folder / date / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_raster(path, image.astype(kind), photometric="MINISBLACK")
        if names:
            with rasterio.open(path, "r+") as raster:
                raster.descriptions = bands
    write_label(folder / "label" / f"{name}.tif", LABEL // 255)


def write_data(folder, **options):
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            write_bands(folder / split, f"{split}{number}", 10 * number + count, **options)
    return folder


class Infrared(ChangeNetwork):
    """Change is what became brighter in the last of four bands."""

    bands = 4

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(40.0))
        self.usage = Usage(bands=("red", "green", "blue", "nir"))

    def forward(self, before, after):
        return ChangeLogits(self.slope * ((after - before)[:, 3:] - 0.2))


def test_the_nodata_value_of_a_label_is_no_label(tmp_path):
    label = half_ignored(tmp_path)
    pairs = find_pairs(tmp_path, "all")
    assert find_coding(pairs) == Coding(1)
    change = PairDataset(pairs, Coding(1))[0].change[0].numpy()
    np.testing.assert_array_equal(change, label)
    assert {*np.unique(change)} == {0, 1, IGNORED}


@pytest.mark.parametrize("inside", [True, False])
def test_a_label_with_a_mask_is_refused(tmp_path, inside):
    write_split(tmp_path / "val", ["a"])
    path = tmp_path / "val/label/a.tif"
    path.with_suffix(".png").unlink()
    write_label(path, LABEL // 255, nodata=None)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as raster:
        raster.write_mask(LABEL > 0)
    pairs = find_pairs(tmp_path, "val")
    with pytest.raises(ImageError, match="label with a mask"):
        PairDataset(pairs, Coding(1))[0]


def test_change_that_is_all_nodata_is_warned_of(tmp_path):
    write_split(tmp_path / "val", ["a", "b"], scale=np.uint8(255))
    (tmp_path / "val/label/a.png").unlink()
    write_label(tmp_path / "val/label/a.tif", LABEL, nodata=255)
    (warning,) = (one for one in examine(tmp_path).findings if one.kind == "label values")
    assert "every marked pixel has the nodata value 255" in warning.what


@pytest.mark.parametrize("nodata", [0, 1])
def test_a_nodata_value_of_no_change_or_of_change_is_a_label(tmp_path, nodata):
    half_ignored(tmp_path)
    write_label(tmp_path / "label/a.tif", LABEL // 255, nodata=nodata)
    change = PairDataset(find_pairs(tmp_path, "all"), Coding(1))[0].change[0].numpy()
    np.testing.assert_array_equal(change, LABEL // 255)


def test_the_doctor_counts_pixels_without_a_label(tmp_path):
    half_ignored(tmp_path / "val")
    diagnosis = examine(tmp_path)
    assert diagnosis.ignored_share["val"] == 0.5
    assert diagnosis.changed_share["val"] == pytest.approx(16 * 32 / (32 * 64))
    assert "50.00 % without a label" in run_here("check", tmp_path, code=1).stdout


def test_scores_leave_out_what_has_no_label(tmp_path):
    half_ignored(tmp_path / "val")
    network = create_model("ctma-lite", video_len=0).eval()
    scores = evaluate(network, tmp_path, "val", output=tmp_path / "s.json").record.scores
    assert scores.pixels == 32 * 64
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(masks / "a.png")
    claimed = ctma.evaluate_masks(masks, tmp_path, "val", output=tmp_path / "m.json").record.scores
    assert (claimed.true_positive, claimed.false_positive) == (16 * 32, 32 * 64 - 16 * 32)


def test_two_single_dates_have_no_label_where_one_of_them_has_none():
    image = np.zeros((1, 4, 3), np.uint8)
    first = image, image, np.array([[0, 1, IGNORED, 1]], np.uint8)
    second = image, image, np.array([[1, 1, 1, IGNORED]], np.uint8)
    np.testing.assert_array_equal(put_together(first, second)[2], [[1, 0, IGNORED, IGNORED]])


def test_pixels_without_a_label_get_none_by_augmentation():
    image = np.zeros((8, 8, 3), np.uint8)
    label = np.full((8, 8), IGNORED, np.uint8)
    still = AUGMENTATIONS["mild"]["still"]
    for seed in range(60):
        found = still((image, image, label), np.random.default_rng(seed))[2]
        assert (found == IGNORED).all()


def test_holes_of_8_bit_colours_are_0(tmp_path):
    pixels = np.full((3, 64, 64), 90, np.uint8)
    pixels[:, :10] = 255
    path = write_raster(tmp_path / "a.tif", pixels, nodata=255, photometric="RGB")
    image = read_date(path, Usage(), 0)
    assert (image[:10] == 0).all()
    assert (image[10:] == 90).all()
    grey = read_date(write_raster(tmp_path / "g.tif", pixels[:1], nodata=255), Usage(), 0)
    np.testing.assert_array_equal(grey, image)


def test_ranges_are_for_other_types_than_8_bits(tmp_path):
    pairs = find_pairs(write_data(tmp_path, kind=np.uint8, top=255), "val")
    network = Infrared().eval()
    ranges = ((0.0, 3000.0),) * 4
    network.usage = network.usage.replace(ranges=(ranges, ranges))
    plan = predict_scene(pairs[0].before, pairs[0].after, network, tmp_path / "out").plan
    assert plan.before.scaling.high == (255.0,) * 4
    change = PairDataset(pairs, Coding(1), usage=network.usage)[0]
    with rasterio.open(pairs[0].before) as raster:
        np.testing.assert_array_equal(change.before.numpy(), raster.read([3, 2, 1, 4]))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_take_any_number_of_bands(name):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, 64, 6), np.uint8) for _ in range(2)]
    for seed in range(12):
        before, after, change = augmentation(name)(
            (*images, LABEL // 255), np.random.default_rng(seed)
        )
        assert before.shape == after.shape == (64, 64, 6)
        assert {*np.unique(change)} <= {0, 1}


def test_bands_are_found_by_name_and_scaled_by_the_data_set(tmp_path):
    pairs = find_pairs(write_data(tmp_path), "train")
    usage = settle_usage(Usage(bands=("nir", "red")), pairs)
    assert usage.ranges is not None
    sample = PairDataset(pairs, Coding(1), usage=usage)[0]
    with rasterio.open(pairs[0].before) as raster:
        stored = raster.read([4, 3]).astype(float)
    for band, (low, high) in enumerate(usage.ranges[0]):
        expected = np.clip((stored[band] - low) / (high - low), 0, 1)
        np.testing.assert_allclose(sample.before[band].numpy() / 255, expected, atol=0.003)


def test_missing_bands_and_unequal_bands_are_told(tmp_path):
    pairs = find_pairs(write_data(tmp_path), "train")
    with pytest.raises(ImageError, match=r"has the bands blue, green, red, nir, .* takes swir"):
        PairDataset(pairs, Coding(1), usage=Usage(bands=("swir",)))[0]
    write_bands(tmp_path / "val", "val0", 3, bands=("a", "b"))
    with rasterio.open(tmp_path / "train/B/train1.tif", "r+") as raster:
        raster.descriptions = ("x", "green", "red", "nir")
    found = {(one.kind, one.where) for one in examine(tmp_path).findings}
    assert found >= {("unequal bands", "val/val0"), ("unequal bands", "train/train1")}


@pytest.mark.parametrize(("kind", "top"), [(np.uint8, 255), (np.uint16, 3000), (np.float32, 0.4)])
def test_pairs_of_any_bands_and_type_are_scored_and_predicted(tmp_path, kind, top):
    write_data(tmp_path, kind=kind, top=top)
    network = Infrared().eval()
    scores = evaluate(network, tmp_path, "val", output=tmp_path / "s.json").record.scores
    assert scores.f1 > 0.99
    pairs = find_pairs(tmp_path, "val")
    network.usage = settle_usage(network.usage, pairs)
    found = predict_scene(pairs[0].before, pairs[0].after, network, tmp_path / "out")
    assert found.plan.before.bands == (3, 2, 1, 4)
    with rasterio.open(found.mask) as raster:
        np.testing.assert_array_equal(raster.read(1), LABEL // 255)


def test_a_scene_is_scaled_as_the_checkpoint_says(tmp_path):
    pairs = find_pairs(write_data(tmp_path), "val")
    network = Infrared().eval()
    ranges = tuple((0.0, 3000.0 + number) for number in range(4))
    network.usage = network.usage.replace(ranges=(ranges, ranges))
    plan = predict_scene(pairs[0].before, pairs[0].after, network, tmp_path / "out").plan
    assert plan.before.scaling.ranges == plan.after.scaling.ranges == ranges


@pytest.mark.slow
def test_a_resumed_training_keeps_the_ranges_of_the_weights_it_began_with(tmp_path):
    data = write_data(tmp_path / "data")
    settings = [
        'data.bands=["red","green","blue","nir"]', "model.pretrained=false", "model.video_len=0",
        "data.crop_size=64", "data.workers=0", "schedule.name=constant",
    ]  # fmt: skip
    network = create_model("ctma-lite", bands=4, video_len=0)
    ranges = (((0.0, 12_345.0),) * 4,) * 2
    network.usage = network.usage.replace(bands=("red", "green", "blue", "nir"), ranges=ranges)
    begun = tmp_path / "begun.safetensors"
    save_model(begun, network, scores=[])
    for epochs in (1, 2):
        recipe = load_recipe("levir-cd/ctma-lite", [*settings, f"trainer.epochs={epochs}"])
        result = train(recipe, data, tmp_path / "run", init=begun, resume=epochs == 2)
        assert ctma.load_model(result.best).usage.ranges == ranges
    latest = ctma.load_model(tmp_path / "run" / "latest.safetensors")
    assert latest.usage.ranges == ranges


def test_weights_of_the_same_bands_in_another_order_are_refused(tmp_path):
    data = write_data(tmp_path / "data")
    network = create_model("ctma-lite", bands=4, video_len=0)
    network.usage = network.usage.replace(bands=("nir", "red", "green", "blue"))
    save_model(tmp_path / "begun.safetensors", network, scores=[])
    settings = [
        'data.bands=["red","green","blue","nir"]', "model.pretrained=false", "model.video_len=0",
        "data.crop_size=64", "data.workers=0", "trainer.epochs=1",
    ]  # fmt: skip
    recipe = load_recipe("levir-cd/ctma-lite", settings)
    with pytest.raises(CtmaError, match=r"nir, red, green, blue in this order"):
        train(recipe, data, tmp_path / "run", init=tmp_path / "begun.safetensors")


@pytest.mark.slow
def test_a_network_of_other_bands_is_trained_and_keeps_names_and_ranges(tmp_path):
    data = write_data(tmp_path / "data")
    recipe = load_recipe(
        "levir-cd/ctma-lite",
        [
            'data.bands=["red","green","blue","nir"]', "model.pretrained=false",
            "model.video_len=0", "data.crop_size=64", "data.workers=0", "trainer.epochs=1",
        ],
    )  # fmt: skip
    result = train(recipe, data, tmp_path / "run")
    usage = ctma.load_model(result.best).usage
    assert usage.bands == ("red", "green", "blue", "nir")
    assert usage.ranges == settle_usage(Usage(bands=usage.bands), find_pairs(data, "train")).ranges
    exported = tmp_path / "m.onnx"
    ctma.export(result.best, exported)
    assert ctma.load(exported).usage.ranges == usage.ranges
    pair = find_pairs(data, "val")[0]
    maps = [
        predict_scene(pair.before, pair.after, model, tmp_path / str(number)).probability
        for number, model in enumerate((result.best, exported))
    ]
    one, other = (rasterio.open(path).read(1).astype(int) for path in maps)
    assert np.abs(one - other).max() <= 1


@pytest.mark.slow
def test_a_checkpoint_of_three_bands_starts_a_network_of_four(tmp_path):
    data = write_data(tmp_path / "data")
    settings = [
        "model.video_len=0", "model.pretrained=false", "data.crop_size=64", "data.workers=0",
        "trainer.epochs=1", "optimizer.lr=1e-12", "data.augmentation=none",
    ]  # fmt: skip
    network = create_model("ctma-lite", video_len=0)
    save_model(tmp_path / "three.safetensors", network)
    names = 'data.bands=["nir","red","green","blue"]'
    notes = []
    train(
        load_recipe("levir-cd/ctma-lite", [names, *settings]), data, tmp_path / "run",
        init=tmp_path / "three.safetensors", on_note=notes.append,
    )  # fmt: skip
    assert any("does not see nir" in note for note in notes)
    with pytest.raises(CtmaError, match=r"sees red, green, blue, .* nir, red lacks green"):
        train(
            load_recipe("levir-cd/ctma-lite", ['data.bands=["nir","red"]', *settings]), data,
            tmp_path / "other", init=tmp_path / "three.safetensors",
        )  # fmt: skip


def test_ranges_are_checked():
    for ranges in (((0.0, 1.0),), ((0.0, 1.0), (3.0, 3.0), (0.0, 1.0))):
        with pytest.raises(CtmaError, match="ranges"):
            Usage(ranges=(ranges, ranges))
