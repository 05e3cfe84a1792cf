"""Exported models: the same probability in other programs, with and without torch."""

import json
import shutil
from copy import deepcopy

import numpy as np
import pytest
import torch

from ctma import create_model, export, load, predict, save_model
from ctma.errors import CheckpointError, SettingError
from support.commands import refused
from support.images import random_image, read, write_pair
from support.network_tester import live_in
from support.running import run_as
from support.without_torch import run_without_torch

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

SIZES = ((96, 128), (75, 101), (64, 200))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = live_in(create_model("ctma-lite", video_len=0))
    network.usage = network.usage.__class__(
        threshold=0.4, temperature=1.5, offset=-0.25, ground_sample_distance=0.5
    )
    return network


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    """A model of each kind, with a STAC item."""
    folder = tmp_path_factory.mktemp("exported")
    for suffix in ("onnx", "xml", "pt2"):
        (folder / suffix).mkdir()
        export(network, folder / suffix / f"model.{suffix}", stac=True)
    return folder


def images(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(2)]


def as_inputs(pair):
    return [np.float32(image.transpose(2, 0, 1)[None] / np.float32(255)) for image in pair]


@pytest.mark.parametrize("suffix", ["onnx", "xml"])
@pytest.mark.parametrize("size", SIZES)
def test_an_exported_model_is_a_checkpoint_at_any_size(network, exported, suffix, size):
    path = exported / suffix / f"model.{suffix}"
    model = load(path)
    assert model.usage.threshold == 0.4
    assert model.usage.ground_sample_distance == 0.5
    pair = images(*size)
    expected = predict(*pair, run_as(network, "eager"))
    found = predict(*pair, model)
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-5)
    flipped = predict(*pair, load(path, tta=True)).probability
    expected = predict(*pair, run_as(network, "eager", tta=True)).probability
    np.testing.assert_allclose(flipped, expected, atol=1e-5)


def test_other_programs_find_names_free_sizes_and_what_the_checkpoint_knows(network, exported):
    session = onnxruntime.InferenceSession(str(exported / "onnx/model.onnx"))
    assert [port.name for port in session.get_inputs()] == ["before", "after"]
    assert [port.name for port in session.get_outputs()] == ["probability"]
    before, after = (np.concatenate([x, x[..., ::-1]]) for x in as_inputs(images(70, 90)))
    (found,) = session.run(None, {"before": before, "after": after})
    with torch.no_grad():
        logits = network(*map(torch.from_numpy, (before, after))).fine
    np.testing.assert_allclose(found, network.probability(logits).numpy(), atol=1e-5)
    told = json.loads(session.get_modelmeta().custom_metadata_map["ctma"])
    assert (told["network"], told["threshold"], told["temperature"]) == ("ctma-lite", 0.4, 1.5)
    assert (told["offset"], told["scaling"], told["bands"]) == (
        -0.25,
        255,
        ["red", "green", "blue"],
    )


def test_a_torch_program_takes_multiples_of_the_stride(network, exported):
    extra = {"ctma.json": ""}
    program = torch.export.load(exported / "pt2/model.pt2", extra_files=extra).module()
    assert json.loads(extra["ctma.json"])["threshold"] == 0.4
    for batch, height, width in ((1, 64, 96), (3, 112, 80)):
        before, after = torch.rand(2, batch, 3, height, width)
        with torch.no_grad():
            expected = network.probability(network(before, after).fine)
            torch.testing.assert_close(program(before, after), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["onnx", "xml"])
def test_images_are_predicted_where_torch_is_not_installed(network, exported, tmp_path, suffix):
    write_pair(tmp_path, "one", random_image(1, 90), random_image(2, 90))
    pair = [tmp_path / kind / "one.png" for kind in "AB"]
    model = exported / suffix / f"model.{suffix}"
    run_without_torch("predict", *pair, "-c", model, "-o", tmp_path / "out")
    expected = predict(*map(str, pair), run_as(network, "eager"))
    np.testing.assert_array_equal(read(tmp_path / "out/mask/one.png"), 255 * expected.mask)


@pytest.mark.slow
def test_without_torch_a_checkpoint_is_refused_in_one_line(pair, tiny_model, tmp_path):
    command = ("predict", *pair, "-c", tiny_model, "-o", tmp_path / "out")
    error = run_without_torch(*command, code=2).stderr
    assert error.startswith("ctma: error: torch is not installed: only an exported .onnx")
    error = run_without_torch("eval", tiny_model, "--data", tmp_path, code=2).stderr
    assert error.startswith("ctma: error: torch is not installed; without it")


def port(name, channels=3):
    """An input or output of a graph."""
    shape = [None, channels, None, None]
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def test_a_model_of_another_signature_is_refused(ctma, ctma_alone, exported, pair, tmp_path):
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"])], "g", [port("a"), port("b")], [port("c")]
    )
    path = tmp_path / "foreign.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    command = ("predict", *pair, "-o", tmp_path / "out", "-c")
    refused(ctma, "takes a of 3 bands, b of 3 bands and gives c; expected before", *command, path)
    path.write_bytes(path.read_bytes()[:50])
    refused(ctma, "foreign.onnx: cannot be read", *command, path)
    refused(ctma, "none.xml: no such file", *command, tmp_path / "none.xml")
    path = tmp_path / "note.xml"
    path.write_text("<note><to>you</to></note>")
    refused(ctma_alone, "begins with no <net>", *command, path)
    path.write_text("no XML")
    refused(ctma_alone, "note.xml with note.bin: cannot be read", *command, path)
    assert len(ctma_alone(*command, path, code=2).stderr.splitlines()) == 1
    alone = shutil.copy(exported / "xml/model.xml", tmp_path)
    refused(ctma, "model.xml with model.bin: cannot be read (Empty weights", *command, alone)
    assert not (tmp_path / "out").exists()


def foreign(path, inputs, output=1):
    """A model of another program: half of the later date's first channel."""
    helper = onnx.helper
    kernel = np.zeros((output, 3, 1, 1), np.float32)
    kernel[:, 0] = 0.5
    weights = onnx.numpy_helper.from_array(kernel, "kernel")
    zero = onnx.numpy_helper.from_array(np.zeros((1, 3, 1, 1), np.float32), "zero")
    nodes = [
        helper.make_node("Mul", ["before", "zero"], ["nothing"]),
        helper.make_node("Add", ["after", "nothing"], ["sum"]),
        helper.make_node("Conv", ["sum", "kernel"], ["probability"]),
    ]
    outputs = [port("probability", None)]
    graph = helper.make_graph(nodes, "g", [*map(port, inputs)], outputs, [weights, zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("inputs", [("before", "after"), ("after", "before")])
def test_dates_are_given_by_name(tmp_path, inputs):
    before, after = images(64, 96)
    found = predict(before, after, load(foreign(tmp_path / "m.onnx", inputs))).probability
    np.testing.assert_allclose(found, after[..., 0] / 255 / 2, atol=1e-5)


def test_a_model_that_gives_no_probability_of_each_pixel_is_refused(ctma, pair, tmp_path):
    path = foreign(tmp_path / "m.onnx", ("before", "after"), output=2)
    refused(ctma, "m.onnx: gives (1, 2, ", "predict", *pair, "-o", tmp_path / "out", "-c", path)


def test_deepness_finds_what_it_reads(ctma, network, tmp_path):
    path = tmp_path / "q.onnx"
    export(network, path, purpose="qgis-deepness", stac=True)
    model = onnx.load(path)
    assert model.ir_version == 8
    assert [one.version for one in model.opset_import if not one.domain] == [17]
    told = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    assert told["model_type"] == "Segmentor"
    assert told["class_names"] == {"0": "unchanged", "1": "changed"}
    assert (told["resolution"], told["seg_thresh"], told["seg_small_segment"]) == (50, 0.4, 0)
    assert told["tile_size"] == told["tiles_size"] == 512
    assert told["standardization_mean"] == [0] * 6
    assert told["standardization_std"] == [1] * 6
    session = onnxruntime.InferenceSession(str(path))
    (port,), (output,) = session.get_inputs(), session.get_outputs()
    assert port.shape == [1, 6, 512, 512]
    assert output.shape == [1, 1, 512, 512]
    item = json.loads((tmp_path / "q.onnx.stac.json").read_text())["properties"]
    (taken,), (given,) = item["mlm:input"], item["mlm:output"]
    assert (taken["name"], taken["input"]["shape"]) == (port.name, port.shape)
    assert (given["name"], given["result"]["shape"]) == (output.name, output.shape)
    # It is described, though it is no checkpoint.
    assert json.loads(ctma("info", path, "--json").stdout)["network"] == "ctma-lite"
    refused(ctma, "takes input of 6 bands", "eval", path, "--data", tmp_path)
    before, after = as_inputs(images(512, 512))
    (found,) = session.run(None, {port.name: np.concatenate([before, after], axis=1)})
    assert found.shape == (1, 1, 512, 512)
    with torch.no_grad():
        expected = network.probability(network(*map(torch.from_numpy, (before, after))).fine)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_networks_of_other_values_than_8_bits_say_their_ranges(network, tmp_path):
    other = create_model("ctma-lite", video_len=0)
    before, after = ((0.0, 3000.0),) * 3, ((10.0, 4000.0),) * 3
    other.usage = network.usage.replace(
        ranges=(before, after), object_temperature=2.0, object_offset=-1.0
    )
    with pytest.raises(SettingError, match="Deepness gives values of 8 bits"):
        export(other, tmp_path / "q.onnx", purpose="qgis-deepness")
    assert not (tmp_path / "q.onnx").exists()
    model, _ = export(other, tmp_path / "m.onnx", stac=True)
    assert other.training
    (item,) = json.loads((tmp_path / "m.onnx.stac.json").read_text())["properties"]["mlm:input"]
    told = [(one["minimum"], one["maximum"]) for one in item["value_scaling"]]
    assert told == [*before, *after]
    usage = load(model).usage
    assert (usage.object_temperature, usage.object_offset) == (2.0, -1.0)
    assert (usage.temperature, usage.ranges) == (1.0, (before, after))


@pytest.mark.parametrize("suffix", ["onnx", "xml", "pt2"])
def test_the_stac_item_is_valid(exported, suffix):
    schema = pytest.importorskip("stac_model.schema")
    content = json.loads((exported / suffix / f"model.{suffix}.stac.json").read_text())
    found = schema.MLModelProperties.model_validate(content["properties"])
    assert [*found.tasks] == ["semantic-segmentation"]
    assert [band["name"] for band in content["properties"]["mlm:input"][0]["bands"]] == [
        f"{date} {band}" for date in ("before", "after") for band in ("red", "green", "blue")
    ]
    assert content["properties"]["mlm:hyperparameters"]["threshold"] == 0.4
    model = exported / suffix / f"model.{suffix}"
    assert content["assets"]["model"]["file:size"] == model.stat().st_size


def test_an_exported_model_is_no_checkpoint_for_those_who_look_inside(ctma, exported, tmp_path):
    for suffix in ("onnx", "xml"):
        path = exported / suffix / f"model.{suffix}"
        refused(ctma, "is exported, for predict, eval", "compare", path, path)
    program = exported / "pt2/model.pt2"
    refused(ctma, "is a program for torch.export.load", "info", program)


@pytest.mark.parametrize(
    ("name", "purpose"), [("m.pt2", None), ("m.onnx", None), ("q.onnx", "qgis-deepness")]
)
def test_weights_that_are_no_numbers_are_not_exported(network, tmp_path, name, purpose):
    damaged = deepcopy(network)
    torch.nn.init.constant_(next(damaged.parameters()), torch.nan)
    with pytest.raises(CheckpointError, match="values that are no numbers"):
        export(damaged, tmp_path / name, purpose=purpose)
    assert not list(tmp_path.iterdir())


def test_a_description_that_cannot_be_names_its_field(ctma, network, exported, tmp_path):
    model = onnx.load(exported / "onnx/model.onnx")
    onnx.helper.set_model_props(model, {"ctma": json.dumps({"threshold": 2})})
    onnx.save(model, tmp_path / "m.onnx")
    refused(ctma, "damaged description (--threshold 2.0: ", "info", tmp_path / "m.onnx")


def test_what_cannot_be_exported_is_one_line(ctma, network, exported, tmp_path):
    out = tmp_path / "m.onnx"
    with pytest.raises(SettingError, match=r"says what it becomes: \.onnx, \.xml, \.pt2"):
        export(network, tmp_path / "m.tflite")
    with pytest.raises(SettingError, match=r"becomes: \.onnx$"):
        export(network, tmp_path / "m.xml", purpose="qgis-deepness")
    with pytest.raises(SettingError, match="does not say the ground sample distance"):
        export(create_model("ctma-lite"), out, purpose="qgis-deepness")
    with pytest.raises(SettingError, match="give the network itself"):
        export(run_as(network, "exact").prepared, out)
    with pytest.raises(CheckpointError, match=r"is exported, .* take the checkpoint"):
        export(exported / "onnx/model.onnx", out)
    out.touch()
    save_model(tmp_path / "m.safetensors", network)
    refused(ctma, "is there already", "export", tmp_path / "m.safetensors", "-o", out)
    ctma("export", tmp_path / "m.safetensors", "-o", out, "--overwrite")
    assert json.loads(ctma("info", out, "--json").stdout)["threshold"] == 0.4


def test_scenes_run_on_exported_models(network, exported, tmp_path):
    pytest.importorskip("rasterio")
    from ctma import Tiling
    from support.scenes import predict_scene, read, smooth, write_raster

    pair = [write_raster(tmp_path / f"{n}.tif", smooth(n, 200, 260)) for n in (1, 2)]
    tiling = Tiling(size=96, margin=8, ramp=16)
    usual = predict_scene(*pair, network, tmp_path / "usual", tiling=tiling)
    model = load(exported / "onnx/model.onnx")
    found = predict_scene(*pair, model, tmp_path / "found", tiling=tiling)
    assert found.summary["engine"] == "onnx"
    apart = read(found.probability).astype(int) - read(usual.probability)
    assert np.abs(apart).max() <= 1
