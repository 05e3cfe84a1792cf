"""Writes into a checkpoint what its training images look like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from ctma.checkpoints.store import save_model
from ctma.data.dataset import PairDataset
from ctma.data.pairs import Pair, find_coding
from ctma.data.rasters import settle_usage
from ctma.data.readers import find_pairs
from ctma.errors import DataError, SettingError
from ctma.evaluation.choosing import check_output, name_roots
from ctma.files import check_writable
from ctma.inference.doubt import Descriptions, Seen, cut_patches, describe_patches, learn_seen
from ctma.inference.predictor import Model, as_predictor
from ctma.models.usage import Usage
from ctma.types import Progress, ignore

MOST_PAIRS = 600
"""Largest number of pairs of a data folder that are looked at."""

MOST_PATCHES = 6
"""Largest number of patches of an image."""


def remember_seen(
    model: Model,
    data: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    names: str | None = None,
    split: str = "train",
    folders: str | None = None,
    overwrite: bool = False,
    on_progress: Progress = ignore,
) -> Seen:
    """Saves a checkpoint that knows what its training images look like.

    Scenes then tell where they are unlike these images, see ``SceneSettings.doubt``.

    Args:
        model: A predictor, a network in memory, or a checkpoint by name or path. The network does
            not change.
        data: The data folders of the training.
        output: Where the checkpoint goes, a ``.safetensors``.
        names: A regular expression: only pairs are looked at whose name it finds. Leave out views
            with added colour, which no scene has.
        split: ``"train"`` or ``"val"``.
        folders: The folder names of another layout, see ``evaluate``.
        overwrite: Replace the output if it exists.
        on_progress: Called after every pair with the number of pairs done and the total.

    Raises:
        SettingError: If ``names`` is no regular expression.
        DataError: If there are too few images.
        CtmaError: If the checkpoint or the data cannot be read, or the output cannot be written.
    """
    check_output(model, Path(output), overwrite)
    network = as_predictor(model).network
    chosen = [_choose(find_pairs(root, split, folders=folders), names) for root in name_roots(data)]
    check_writable(output)
    seen = _learn(network.usage, chosen, on_progress)
    with network.used_as(network.usage.replace(seen=seen.write())):
        save_model(output, network)
    return seen


def see(usage: Usage, folders: Sequence[Sequence[Pair]]) -> Usage:
    """A usage that knows what training images look like; unchanged where they are too few.

    Args:
        usage: How the network takes images.
        folders: The training pairs of each data folder.
    """
    try:
        seen = _learn(usage, [_thin(pairs) for pairs in folders], ignore)
    except DataError:
        return usage
    return usage.replace(seen=seen.write())


def _learn(usage: Usage, folders: Sequence[Sequence[Pair]], on_progress: Progress) -> Seen:
    groups: list[Descriptions] = []
    for described in chain(*(_describe(pairs, usage) for pairs in folders)):
        groups.append(described)
        on_progress(len(groups), sum(map(len, folders)))
    return learn_seen(groups)


def _choose(pairs: Sequence[Pair], names: str | None) -> list[Pair]:
    try:
        found = [pair for pair in pairs if re.search(names or "", pair.name)]
    except re.error as error:
        raise SettingError(f"`names` {names}: no regular expression ({error})") from error
    if not found:
        raise DataError(f"`names` {names}: finds no pair")
    return _thin(found)


def _thin(pairs: Sequence[Pair]) -> list[Pair]:
    return [*pairs[:: -(-len(pairs) // MOST_PAIRS)]]


def _describe(pairs: Sequence[Pair], usage: Usage) -> Iterator[Descriptions]:
    """Descriptions of the patches of each pair."""
    coding, usage = find_coding(pairs), settle_usage(usage, pairs)
    dataset = PairDataset(pairs, coding, usage=usage)
    for index in range(len(pairs)):
        patches = [
            cut_patches(image / np.float32(usage.scaling), MOST_PATCHES)
            for image in dataset.read(index)[:2]
        ]
        yield describe_patches(np.concatenate(patches))
