"""Scores a checkpoint on a split, and says how the score was taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from ctma.data.dataset import Batch, PairDataset, collate_by_size, find_label_scale
from ctma.data.readers import Pair
from ctma.devices import autocast
from ctma.errors import SettingError
from ctma.evaluation.metrics import ConfusionMatrix, Scores
from ctma.evaluation.protocols import protocol
from ctma.models import ChangeNetwork

IMAGE_BANDS = 3
"""Bands of the images that the readers give."""


@dataclass(frozen=True)
class Judged:
    """One pair with what the network says of it.

    Attributes:
        pair: The pair on disk.
        before: (H, W, 3) uint8.
        after: (H, W, 3) uint8.
        change: (H, W) uint8, 0 or 1.
        probability: (H, W) float32.
        mask: (H, W) uint8, 0 or 1.
    """

    pair: Pair
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    change: NDArray[np.uint8]
    probability: NDArray[np.float32]
    mask: NDArray[np.uint8]


def evaluate(
    network: ChangeNetwork,
    pairs: Sequence[Pair],
    *,
    protocol_name: str = "crops",
    threshold: float = 0.5,
    batch_size: int = 1,
    workers: int = 0,
    precision: str = "32-true",
    on_pair: Callable[[Judged], None] = lambda judged: None,
) -> Scores:
    """Scores over all pixels of some labelled pairs.

    Args:
        network: In evaluation mode, on the device that does the work.
        pairs: Labelled pairs.
        protocol_name: ``"crops"``, ``"whole"`` or ``"sliding"``.
        threshold: Change is where the probability exceeds it, in [0, 1].
        batch_size: Pairs at a time.
        workers: Loader processes.
        precision: ``"32-true"`` or ``"bf16-mixed"``.
        on_pair: Called with every pair once it is judged.

    Raises:
        UnknownNameError: If there is no such protocol.
        SettingError: If the threshold is out of range, or the network takes other bands.
        ImageError: If an image is unreadable or sizes differ.
    """
    if not 0 <= threshold <= 1:
        raise SettingError(f"threshold {threshold} is not between 0 and 1")
    if network.bands != IMAGE_BANDS:
        raise SettingError(f"this network takes {network.bands} bands, images have {IMAGE_BANDS}")
    run = protocol(protocol_name)
    device = next(network.parameters()).device
    dataset = PairDataset(pairs, find_label_scale(pairs))
    loader = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=collate_by_size)
    confusion = ConfusionMatrix(threshold).to(device)
    for batch in (batch for batches in loader for batch in batches):
        with autocast(device, precision):
            probability = run(network, batch.before.to(device), batch.after.to(device))
        confusion.update(probability, batch.change.to(device))
        for row, place in enumerate(batch.place.tolist()):
            on_pair(_judged(pairs[place], batch, probability, row, threshold))
    return confusion.scores()


def _judged(pair: Pair, batch: Batch, probabilities: Tensor, row: int, threshold: float) -> Judged:
    probability = probabilities[row, 0].cpu().numpy()
    return Judged(
        pair,
        before=batch.before[row].permute(1, 2, 0).numpy(),
        after=batch.after[row].permute(1, 2, 0).numpy(),
        change=batch.change[row, 0].numpy(),
        probability=probability,
        mask=(probability > threshold).astype(np.uint8),
    )
