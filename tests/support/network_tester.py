"""One tester for all networks: a network's own test class names it and little more."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from ctma import ChangeLogits, create_model, export, load, load_model, load_recipe, save_model
from ctma.errors import SettingError
from ctma.evaluation.metrics import ConfusionMatrix
from ctma.models.layers import take_training_forms
from ctma.models.widening import widen
from ctma.scene.strips import STEPS
from ctma.training.losses import change_loss
from ctma.types import IGNORED
from support.golden import with_golden_weights
from support.running import run_as
from support.scenes import predict_scene, read, smooth, write_raster


def live_in(network):
    """Gives batch norms values unlike those of a new network, some of which are 0."""
    with torch.no_grad():
        for name, weight in network.state_dict().items():
            if weight.ndim == 1:
                weight.copy_(torch.rand_like(weight) + ("bias" not in name) * 0.5)
    return network.eval()


def _disturb(logits, ignored, noise):
    """Logits with other values in pixels and coarser cells that lie wholly in an ignored area."""

    def disturb(part):
        there = torch.nn.functional.adaptive_avg_pool2d(ignored.float(), part.shape[-2:]) == 1
        return torch.where(there, part + noise, part)

    return ChangeLogits(disturb(logits.fine), tuple(map(disturb, logits.auxiliary)))


def check_trained(network, before, after):
    """Loss and gradients of layers' forms for training are those of the network as written."""
    network = live_in(network).double().train()
    found = []
    for take in (False, True):
        one = deepcopy(network)
        take_training_forms(one, take=take)
        torch.manual_seed(0)
        logits = one(before.double(), after.double())
        loss = logits.fine.square().mean() + sum(x.square().mean() for x in logits.auxiliary)
        loss.backward()
        found.append([loss, *(weight.grad for weight in one.parameters())])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, atol=1e-9, rtol=1e-6)


class NetworkTester:
    """Subclass it and set ``name``, and ``arguments`` that keep the network small."""

    name: str
    arguments: dict = {}  # noqa: RUF012
    sizes = ((64, 64), (65, 91), (130, 71))
    engine_sizes = (*sizes, (128, 96))
    """Sizes at which engines are checked; fewer where a network is large."""
    graphs = ("onnx", "openvino")
    """Runtimes that take it as a graph of any size."""
    idle: frozenset = frozenset()
    """Weights that by the network's design have no part in its outputs."""

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        torch.manual_seed(0)
        return create_model(cls.name, **cls.arguments).eval()

    @staticmethod
    def pair(batch=1, height=64, width=64, bands=3):
        rng = torch.Generator().manual_seed(1)
        return [torch.rand(batch, bands, height, width, generator=rng) for _ in range(2)]

    @pytest.mark.parametrize("size", sizes)
    def test_any_size_gives_logits_of_that_size(self, network, size):
        with torch.no_grad():
            logits = network(*self.pair(2, *size))
        assert isinstance(logits, ChangeLogits)
        assert logits.fine.shape == (2, 1, *size)
        assert torch.isfinite(logits.fine).all()

    def test_a_pair_is_judged_alike_in_any_batch(self, network):
        before, after = self.pair(3)
        with torch.no_grad():
            together = network(before, after).fine
            alone = torch.cat([network(before[i : i + 1], after[i : i + 1]).fine for i in range(3)])
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)

    def test_too_small_unequal_or_foreign_inputs_are_refused(self, network):
        good = self.pair()[0]
        for before, after in (
            (good[..., :63], good[..., :63]),
            (good, good[..., :-1]),
            (good[:, :2], good[:, :2]),
        ):
            with pytest.raises(ValueError, match=r"64|expected|before"):
                network(before, after)

    def test_bf16_autocast_agrees_roughly(self):
        # New weights give next to the same everywhere; these do not.
        network = with_golden_weights(create_model(self.name, **self.arguments)).eval()
        inputs = self.pair()
        with torch.no_grad():
            exact = network(*inputs).fine
            with torch.autocast("cpu", torch.bfloat16):
                rough = network(*inputs).fine.float()
        assert exact.std() > 1e-3
        assert (exact.sigmoid() - rough.sigmoid()).abs().mean() < 0.01

    def test_the_rewritten_network_agrees_and_leaves_the_original_alone(self):
        self.check_engine("exact")

    @pytest.mark.slow
    @pytest.mark.parametrize("engine", ["openvino", "onnx"])
    @pytest.mark.long
    def test_graphs_agree_at_sizes_that_they_were_not_made_at(self, engine):
        if engine in self.graphs:
            self.check_engine(engine)
            return
        predictor = run_as(live_in(create_model(self.name, **self.arguments)), engine, "float32")
        with pytest.raises(SettingError, match=f"engine {engine}: .*take exact"):
            predictor.describe()

    @pytest.mark.slow
    @pytest.mark.parametrize(("engine", "suffix"), [("openvino", "xml"), ("onnx", "onnx")])
    def test_exported_it_gives_the_same_probability(self, engine, suffix, tmp_path):
        network = live_in(create_model(self.name, **self.arguments))
        path = tmp_path / f"it.{suffix}"
        if engine not in self.graphs:
            with pytest.raises(SettingError, match=f": cannot be written .* and {engine} runs"):
                export(network, path)
            assert not path.exists()
            return
        export(network, path)
        exported, inputs = load(path).prepared, self.pair(2, 130, 71)
        with torch.no_grad():
            expected, found = (one.probability(one(*inputs).fine) for one in (network, exported))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)

    @pytest.mark.slow
    def test_a_scene_is_what_the_network_sees_of_it(self, network, tmp_path):
        for number, name in enumerate(("before", "after")):
            write_raster(tmp_path / f"{name}.tif", smooth(number, 96, 128))
        found = predict_scene(
            tmp_path / "before.tif", tmp_path / "after.tif", network, tmp_path / "out",
            scale=(0, 255), engine="eager", precision="float32",
        )  # fmt: skip
        inputs = [torch.from_numpy(smooth(n, 96, 128))[None] / 255 for n in (0, 1)]
        with torch.no_grad():
            expected = network.probability(network(*inputs).fine)[0, 0].numpy()
        np.testing.assert_allclose(read(found.probability), expected * STEPS, atol=1)

    def test_pixels_without_a_label_change_neither_loss_nor_gradients_nor_scores(self):
        before, after = self.pair(2)
        ignored = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
        ignored[0, :, :32], ignored[1, :, 16:48, 16:] = True, True
        change = (before[:, :1] > 0.5).to(torch.uint8).masked_fill(ignored, IGNORED)
        network = live_in(create_model(self.name, **self.arguments)).train()
        loss = load_recipe(f"levir-cd/{self.name}").loss
        found = []
        for noise in (0, 1):
            torch.manual_seed(0)
            network.zero_grad()
            logits = _disturb(network(before, after), ignored, noise)
            value = change_loss(logits, change, loss)
            value.backward()
            confusion = ConfusionMatrix(0.5)
            confusion.update(logits.fine.detach().sigmoid(), change)
            gradients = [w.grad.clone() for w in network.parameters() if w.grad is not None]
            found.append((value.item(), confusion.scores(), gradients))
        assert found[0][:2] == found[1][:2]
        assert found[0][1].pixels == int((~ignored).sum())
        assert any(gradient.any() for gradient in found[0][2])
        for one, other in zip(found[0][2], found[1][2], strict=True):
            assert torch.equal(one, other)

    def test_with_more_bands_it_starts_as_the_network_of_the_old_bands(self, network):
        small = live_in(deepcopy(network))
        torch.manual_seed(3)
        large = create_model(self.name, **self.arguments, bands=5).eval()
        widen(small, large, [3, 0, 2])
        more = self.pair(2, bands=5)
        fewer = [images[:, [3, 0, 2]] for images in more]
        with torch.no_grad():
            expected, found = small(*fewer), large(*more)
        torch.testing.assert_close(found.fine, expected.fine, atol=1e-4, rtol=0)
        large(*more).fine.square().mean().backward()
        gradients = [weight.grad for weight in large.parameters() if weight.grad is not None]
        kernels = [grad for grad in gradients if grad.ndim > 3 and grad.shape[1] % 5 == 0]
        assert any(grad[:, 1].any() for grad in kernels)

    def check_engine(self, engine):
        network = live_in(create_model(self.name, **self.arguments))
        prepared = run_as(network, engine, "float32").prepared
        for size in self.engine_sizes:
            inputs = self.pair(2, *size)
            with torch.no_grad():
                expected = network(*inputs).fine
                found = prepared(*inputs).fine
                limit = 1e-4 * max(1, expected.abs().max())
                torch.testing.assert_close(found, expected, atol=limit, rtol=0)
                torch.testing.assert_close(network(*inputs).fine, expected)

    @pytest.mark.slow
    def test_compiled_network_agrees(self, network):
        inputs = self.pair()
        with torch.no_grad():
            expected = network(*inputs).fine
            found = torch.compile(network, backend="aot_eager", fullgraph=True)(*inputs).fine
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    def test_every_weight_learns(self):
        torch.manual_seed(0)
        network = live_in(create_model(self.name, **self.arguments)).train()
        logits = network(*self.pair(2, 96, 96))
        (
            logits.fine.square().mean() + sum(part.square().mean() for part in logits.auxiliary)
        ).backward()
        idle = {
            name
            for name, weight in network.named_parameters()
            if weight.grad is None or not weight.grad.any()
        }
        assert idle == self.idle

    def test_what_trains_has_the_gradients_of_the_network(self):
        torch.manual_seed(0)
        check_trained(create_model(self.name, **self.arguments), *self.pair(2, 96, 64))

    def test_other_bands_work(self):
        network = create_model(self.name, **self.arguments, bands=4).eval()
        with torch.no_grad():
            assert network(*self.pair(bands=4)).fine.shape == (1, 1, 64, 64)

    def test_saved_and_loaded_it_is_the_same(self, network, tmp_path):
        path = tmp_path / "network.safetensors"
        save_model(path, network)
        inputs = self.pair()
        loaded = load_model(path)
        with torch.no_grad():
            torch.testing.assert_close(
                loaded(*inputs).fine, network(*inputs).fine, atol=1e-4, rtol=1e-4
            )
        for name, weight in network.state_dict().items():
            np.testing.assert_array_equal(loaded.state_dict()[name], weight)
