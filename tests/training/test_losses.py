"""Losses and schedules, against values worked out by hand."""

import pytest
import torch

from ctma import ChangeLogits, load_recipe
from ctma.training.losses import change_loss
from ctma.training.module import learning_rates
from ctma.training.settings import LOSSES, BCESettings, NLLSettings, ScheduleSettings


def test_loss_is_fused_plus_a_share_of_coarse():
    # Zero logits cost ln 2 everywhere: ln 2 + 0.4 ln 2.
    logits = ChangeLogits(torch.zeros(1, 1, 64, 64), (torch.zeros(1, 1, 8, 8),))
    change = torch.ones(1, 1, 64, 64, dtype=torch.uint8)
    assert change_loss(logits, change, BCESettings()).item() == pytest.approx(1.4 * 0.6931472)


def test_coarse_logits_are_nearest_resized():
    # One coarse cell of four says change with logit 2, and so does the label: each pixel
    # costs ln(1 + e^-2) = 0.1269280 there; elsewhere logits of -2 cost the same.
    coarse = torch.full((1, 1, 2, 2), -2.0)
    coarse[0, 0, 0, 1] = 2.0
    change = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    change[0, 0, :2, 2:] = 1
    fine = torch.where(change == 1, 2.0, -2.0)
    loss = change_loss(ChangeLogits(fine, (coarse,)), change, BCESettings())
    assert loss.item() == pytest.approx(1.4 * 0.1269280, rel=1e-5)


def test_change_counts_by_the_ratio_of_class_weights():
    # Half the pixels are change; with weights 0.25/0.75 each of them counts 3 times:
    # ln 2 (3 + 1) / 2.
    logits = ChangeLogits(torch.zeros(1, 1, 2, 2))
    change = torch.tensor([[[[1, 1], [0, 0]]]], dtype=torch.uint8)
    loss = change_loss(logits, change, BCESettings(class_weights=(0.25, 0.75)))
    assert loss.item() == pytest.approx(2 * 0.6931472)


@pytest.mark.parametrize("part", ["dice", "coarse_dice"])
def test_dice_is_taken_over_the_batch_where_asked_for(part):
    # Probability 0.5 on all n pixels, all of them change: 1 - (2 n / 2 + 1) / (n / 2 + n + 1).
    logits = ChangeLogits(torch.zeros(2, 1, 64, 64), (torch.zeros(2, 1, 8, 8),))
    change = torch.ones(2, 1, 64, 64, dtype=torch.uint8)
    loss = change_loss(logits, change, BCESettings(coarse=0, **{part: 0.3}))
    assert loss.item() == pytest.approx(0.6931472 + 0.3 * (1 - 8193 / 12289))


def rates(settings, epochs, start=0):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    schedule = learning_rates(optimizer, settings, total_steps=epochs, epoch=start)
    found = []
    for _ in range(start, epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_one_cycle_rises_and_falls_however_short_it_is():
    settings = ScheduleSettings(name="one-cycle", warmup=0.1)
    for steps in (1, 2, 10, 11, 40):  # of 10, the rise would be one
        found = rates(settings, steps)
        assert max(found) <= 2e-3 * (1 + 1e-9)
        assert found[-1] < 1e-3 or steps == 1
    assert found[0] < found[3] > found[-1]


def test_step_schedule_falls_as_published():
    found = rates(ScheduleSettings(step_size=30, gamma=0.2), 40)
    assert found[:30] == pytest.approx([2e-3] * 30)
    assert found[30:] == pytest.approx([4e-4] * 10)


@pytest.mark.parametrize("start", [1, 2, 3, 4, 7])
def test_step_schedule_continues_where_it_stopped(start):
    settings = ScheduleSettings(step_size=3, gamma=0.1)
    assert rates(settings, 9, start) == pytest.approx(rates(settings, 9)[start:])


def test_log_likelihood_is_that_of_two_classes_divided_by_the_weights():
    # Torch's own, of two logits whose difference is ours.
    rng = torch.Generator().manual_seed(0)
    both = torch.randn(2, 2, 8, 8, generator=rng)
    change = (torch.rand(2, 1, 8, 8, generator=rng) > 0.6).to(torch.uint8)
    expected = torch.nn.functional.cross_entropy(
        both, change[:, 0].long(), weight=torch.tensor([0.2, 0.8])
    )
    logits = ChangeLogits(both[:, 1:] - both[:, :1])
    found = change_loss(logits, change, NLLSettings(class_weights=(0.2, 0.8)))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", LOSSES)
class TestEveryFamily:
    """What holds for each family of losses, whatever it minimizes."""

    @staticmethod
    def settings(name):
        return load_recipe("levir-cd/ctma-s", [f"loss.name={name}"]).loss

    @pytest.mark.parametrize("changed", [0.0, 0.2, 1.0])
    @pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
    def test_it_is_a_finite_float32_scalar_with_gradients(self, name, changed, kind):
        rng = torch.Generator().manual_seed(0)
        change = (torch.rand(2, 1, 32, 40, generator=rng) < changed).to(torch.uint8)
        fine = torch.randn(2, 1, 32, 40, generator=rng).to(kind).requires_grad_()
        loss = change_loss(ChangeLogits(fine), change, self.settings(name))
        loss.backward()
        assert (loss.shape, loss.dtype) == ((), torch.float32)
        assert torch.isfinite(loss)
        assert torch.isfinite(fine.grad).all()
        assert fine.grad.any()

    def test_it_falls_as_the_logits_become_right(self, name):
        change = (torch.rand(1, 1, 32, 32, generator=torch.Generator()) < 0.3).to(torch.uint8)
        sides = change.float() * 2 - 1
        losses = [
            change_loss(ChangeLogits(size * sides), change, self.settings(name)).item()
            for size in (-3, 0, 1, 3, 9)
        ]
        assert losses == sorted(losses, reverse=True)
        # The Dice of `deep`, as released, has no factor 2: half of it is left.
        assert losses[-1] == pytest.approx({"deep": 0.5}.get(name, 0.0), abs=2e-3)
