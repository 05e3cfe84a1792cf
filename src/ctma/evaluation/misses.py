"""A threshold with a promise: at most so much of the change is missed, on scenes like those seen.

Without a confidence, the promise holds in expectation: conformal risk control (A. Angelopoulos et
al., "Conformal Risk Control", 2022). With a confidence, it holds for the scenes to come except with
a small chance: risk-controlling prediction sets (S. Bates et al., "Distribution-Free,
Risk-Controlling Prediction Sets", 2021, with the bound of Hoeffding and Bentkus).

The units are scenes. Pixels and crops of one scene are alike, so they carry no promise.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import pydantic
from numpy.typing import NDArray
from scipy import ndimage, stats

from ctma.checkpoints.store import save_model
from ctma.data.pairs import Pair
from ctma.errors import DataError, SettingError, UnknownNameError
from ctma.evaluation.choosing import name_data, open_choice
from ctma.evaluation.metrics import ratio
from ctma.evaluation.scoring import Judged, Scoring, score_pairs, tell_how
from ctma.inference.predictor import Model
from ctma.inference.protocols import find_protocol
from ctma.settings import Settings
from ctma.types import Progress, ignore

STEPS = 1000
"""Thresholds are multiples of 1 / STEPS."""

UNITS = ("area", "objects")

Losses = NDArray[np.float64]
"""(scenes, STEPS) share of a scene's change that is missed at each threshold."""


@dataclass(frozen=True)
class MissLimit:
    """A threshold with its promise.

    Attributes:
        threshold: The largest threshold that keeps the promise.
        miss: Promised largest share of the change that is missed, in (0, 1).
        sure: Confidence of the promise, in (0, 1); ``None`` for a promise in expectation.
        of: ``"area"``, or ``"objects"``.
        scenes: Number of scenes with change that carry the promise.
        pairs: Number of pairs of these scenes.
        missed: Mean share that is missed on these scenes at the threshold.
        precision: Share of the mask that is change, over all pixels, at the threshold.
        former_threshold: The threshold before.
        former_missed: Mean share that was missed there.
        former_precision: Precision there.
    """

    threshold: float
    miss: float
    sure: float | None
    of: str
    scenes: int
    pairs: int
    missed: float
    precision: float
    former_threshold: float
    former_missed: float
    former_precision: float


class MissSettings(Settings):
    """What a threshold promises.

    Attributes:
        miss: Largest share of the change to miss, in (0, 1).
        sure: Confidence of the promise, in (0, 1). By default the promise holds in expectation.
        of: ``"area"``: the share of the changed area; or ``"objects"``: the share of the changed
            objects, of which less than a half is found.
        scenes: A regular expression that finds the scene in the name of a pair. By default the
            scene is the name without the numbers at its end.
        protocol: How the network runs over the images, see ``Scoring``.

    Raises:
        SettingError: If a share is out of range, or ``scenes`` is no regular expression.
        UnknownNameError: If there is no such unit or protocol.
    """

    miss: float
    sure: float | None = None
    of: str = "area"
    scenes: str | None = None
    protocol: str = "crops"

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        for name, share in (("miss", self.miss), ("sure", self.sure)):
            if share is not None and not 0 < share < 1:
                raise SettingError(f"`{name}` {share}: a share between 0 and 1")
        if self.of not in UNITS:
            raise UnknownNameError("of", self.of, UNITS)
        try:
            re.compile(self.scenes or "")
        except re.error as error:
            raise SettingError(f"`scenes` {self.scenes}: no regular expression") from error
        find_protocol(self.protocol)
        return self


def limit_misses(
    model: Model,
    data: str | Path | Sequence[str | Path],
    output: str | Path,
    settings: MissSettings,
    *,
    split: str = "val",
    folders: str | None = None,
    overwrite: bool = False,
    on_progress: Progress = ignore,
) -> MissLimit:
    """Saves a checkpoint whose threshold limits how much of the change is missed.

    The promise holds for scenes that are drawn like those of the split. It says nothing of scenes
    of another kind.

    Args:
        model: A predictor, a network in memory, or a checkpoint by name or path. The network does
            not change.
        data: One or more data folders.
        output: Where the checkpoint goes, a ``.safetensors``.
        settings: What the threshold promises.
        split: ``"val"`` or ``"train"``; never ``"test"``.
        folders: The folder names of another layout, see ``evaluate``.
        overwrite: Replace the output if it exists.
        on_progress: Called after every pair with the number of pairs done and the total.

    Raises:
        SettingError: If the split is not allowed, or ``scenes`` finds nothing in a name.
        DataError: If there are too few scenes for the promise, or no threshold keeps the promise.
        CtmaError: If the checkpoint or the data cannot be read, or the output cannot be written.
    """
    scoring = Scoring(protocol=settings.protocol)
    predictor, roots, folders_of_pairs = open_choice(
        model, data, output, split=split, folders=folders, overwrite=overwrite
    )
    scenes = {
        (root, pair.name): (root, scene)
        for root, pairs in zip(roots, folders_of_pairs, strict=True)
        for pair, scene in name_scenes(pairs, settings.scenes).items()
    }
    counts, done = SceneChanges(settings.of), 0

    def judged(root: Path, one: Judged) -> None:
        nonlocal done
        counts.add(scenes[root, one.pair.name], one)
        done += 1
        on_progress(done, len(scenes))

    for root, pairs in zip(roots, folders_of_pairs, strict=True):
        score_pairs(predictor, pairs, scoring, on_pair=partial(judged, root))
    index = find_threshold(counts.losses(), settings.miss, settings.sure)
    limit = _describe(counts, index, predictor.usage.threshold, settings)
    how = tell_how(
        predictor, [*chain(*folders_of_pairs)], scoring, split=split,
        data_name=name_data(roots),
    )  # fmt: skip
    network = predictor.network
    with network.used_as(network.usage.replace(threshold=limit.threshold)):
        save_model(output, network, promise=asdict(limit) | {"record": how.as_dict()})
    return limit


def name_scenes(pairs: Sequence[Pair], pattern: str | None) -> dict[Pair, str]:
    """The scene of each pair.

    Args:
        pairs: The pairs of a split.
        pattern: A regular expression that finds the scene in the name; by default the scene is the
            name without the numbers at its end.

    Raises:
        SettingError: If the expression finds nothing in a name.
    """
    matches = {pair: re.search(pattern or r"^.*?(?=(_\d+)*$)", pair.name) for pair in pairs}
    if pattern is not None and not all(matches.values()):
        (missing, *_) = (pair.name for pair, match in matches.items() if match is None)
        raise SettingError(f"`scenes` {pattern}: finds nothing in {missing}")
    return {pair: match[0] if match else pair.name for pair, match in matches.items()}


class SceneChanges:
    """Change of each scene by its probability.

    Args:
        of: ``"area"`` or ``"objects"``.
    """

    def __init__(self, of: str):
        self.read: Callable[[Judged], NDArray[np.float64]] = (
            _changed_pixels if of == "area" else _changed_objects
        )
        self.change: dict[Any, NDArray[np.int64]] = defaultdict(lambda: np.zeros(STEPS, np.int64))
        self.pairs: dict[Any, int] = defaultdict(int)
        self.pixels = np.zeros((2, STEPS), np.int64)

    def add(self, scene: Any, one: Judged) -> None:
        """Counts a pair of a scene."""
        for kind in (0, 1):
            self.pixels[kind] += _bin(one.probability[one.change == kind])
        found = _bin(self.read(one))
        if found.any():
            self.change[scene] += found
            self.pairs[scene] += 1

    def losses(self) -> Losses:
        """For each scene with change, the share that is missed at each threshold.

        Raises:
            DataError: If no scene shows change.
        """
        if not self.change:
            raise DataError("no pair shows change, so no promise on misses is possible")
        counts = np.stack([*self.change.values()])
        # At the threshold k / STEPS, what lies in the bins up to k is missed.
        return np.asarray(np.cumsum(counts, axis=1) / counts.sum(axis=1, keepdims=True))

    def precision(self, index: int) -> float:
        """Precision over all pixels at a threshold."""
        still, changed = (int(self.pixels[kind, index + 1 :].sum()) for kind in (0, 1))
        return ratio(changed, changed + still)


def _bin(probability: NDArray[Any]) -> NDArray[np.int64]:
    """Numbers of values by the smallest threshold that misses them."""
    bins = np.ceil(np.asarray(probability, np.float64) * STEPS).astype(int)
    return np.bincount(np.clip(bins, 0, STEPS - 1), minlength=STEPS)


def _changed_pixels(one: Judged) -> NDArray[np.float64]:
    return np.asarray(one.probability[one.change == 1], np.float64)


def _changed_objects(one: Judged) -> NDArray[np.float64]:
    """Of each object, the probability that half of its pixels exceed."""
    labels, count = ndimage.label(one.change == 1)
    if not count:
        return np.zeros(0)
    return np.atleast_1d(ndimage.median(one.probability, labels, np.arange(1, count + 1)))


def find_threshold(losses: Losses, miss: float, sure: float | None) -> int:
    """The index of the largest threshold that keeps a promise.

    Args:
        losses: The losses of all scenes, rising with the threshold.
        miss: Largest share to miss.
        sure: Confidence, or ``None`` for a promise in expectation.

    Raises:
        DataError: If there are too few scenes, or no threshold keeps the promise.
    """
    scenes, means = len(losses), losses.mean(axis=0)
    least = count_scenes(miss, sure)
    if scenes < least:
        raise DataError(
            f"{scenes} scenes with change are too few: at most {miss:g} missed"
            f"{'' if sure is None else f' with confidence {sure:g}'} needs {least} or more; where "
            "the names of pairs tell scenes otherwise, name `scenes`"
        )
    if sure is None:
        kept = (scenes * means + 1) / (scenes + 1) <= miss
    else:
        chances = np.array([_chance(float(mean), scenes, miss) for mean in means])
        kept = chances <= 1 - sure
    # Only as far as no smaller threshold fails.
    index = STEPS - 1 if kept.all() else int(np.argmin(kept)) - 1
    if index < 0:
        raise DataError(
            f"no threshold misses at most {miss:g} of the change on these {scenes} scenes; allow "
            "more misses"
        )
    return index


def count_scenes(miss: float, sure: float | None) -> int:
    """The smallest number of scenes that can carry a promise, if they miss nothing."""
    if sure is None:
        return math.ceil(1 / miss - 1)
    return math.ceil(math.log(1 - sure) / math.log(1 - miss))


def _chance(mean: float, scenes: int, miss: float) -> float:
    """Largest chance of such a mean loss if the true one were ``miss`` (Hoeffding, Bentkus)."""
    if mean >= miss:
        return 1.0
    rest = 0.0 if mean == 0 else mean * math.log(mean / miss)
    divergence = rest + (1 - mean) * math.log((1 - mean) / (1 - miss))
    hoeffding = math.exp(-scenes * divergence)
    bentkus = math.e * float(stats.binom.cdf(math.ceil(scenes * mean), scenes, miss))
    return min(hoeffding, bentkus)


def _describe(counts: SceneChanges, index: int, former: float, settings: MissSettings) -> MissLimit:
    losses = counts.losses()
    before = min(STEPS - 1, round(former * STEPS))
    return MissLimit(
        threshold=index / STEPS,
        miss=settings.miss,
        sure=settings.sure,
        of=settings.of,
        scenes=len(losses),
        pairs=sum(counts.pairs.values()),
        missed=float(losses[:, index].mean()),
        precision=counts.precision(index),
        former_threshold=former,
        former_missed=float(losses[:, before].mean()),
        former_precision=counts.precision(before),
    )
