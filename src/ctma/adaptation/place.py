"""The data of a place, and what a network sees there and elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from scipy import ndimage

from ctma.adaptation.learning import Source
from ctma.adaptation.scores import Seen, look
from ctma.checkpoints.store import load_model
from ctma.data.footprints import Footprint, read_footprints
from ctma.data.pairs import Pair, find_coding, read_change
from ctma.data.rasters import settle_usage
from ctma.data.readers import data_fingerprint, find_data_name, find_pairs
from ctma.devices import find_device, find_precision
from ctma.errors import DataError
from ctma.evaluation.calibration import measure_agreement
from ctma.evaluation.scoring import Scoring
from ctma.inference.predictor import Predictor
from ctma.inference.resolution import check_given_distance, find_enlargement, is_too_coarse
from ctma.inference.running import Running
from ctma.models.base import ChangeNetwork
from ctma.scene.grid import Grid, measure_distance
from ctma.types import counted

LEAST_CHANGES = 3
"""Smallest number of changes to learn from."""

MOST_SCORED = 400
"""Largest number of pairs of former data that are scored."""


class Sight(NamedTuple):
    """What a network sees on held-out tiles of a place, and on former data.

    Attributes:
        here: The held-out tiles.
        elsewhere: Validation pairs of former data; ``None`` where none are at hand.
    """

    here: Seen
    elsewhere: Seen | None


@dataclass(frozen=True)
class Place:
    """The tiles of a place, and data like those that a checkpoint was trained on.

    Attributes:
        name: The name of the data folder.
        train: Tiles to learn from.
        val: Held-out tiles.
        former: Pairs to rehearse.
        former_val: Pairs on which a loss is measured.
        distance: Metres per pixel of the tiles; ``None`` if unknown, or of no use to the network.
    """

    name: str
    train: list[Pair]
    val: list[Pair]
    former: list[Pair]
    former_val: list[Pair]
    distance: float | None

    @property
    def note(self) -> str:
        """A line about the data."""
        distance = "" if self.distance is None else f", {self.distance:.2g} m a pixel"
        former = counted(len(self.former), "pair") if self.former else "nothing"
        tiles = counted(len(self.train), "tile")
        return f"{tiles} to learn from, {len(self.val)} held out{distance}; {former} to rehearse"

    def check_changes(self) -> None:
        """Refuses tiles from which nothing can be learned.

        Raises:
            DataError: If there are too few changes, labels of one kind, or no held-out change.
        """
        changes, changed, labelled = _count_changes(self.train)
        if changed == labelled or changes < LEAST_CHANGES:
            found = "labels of change alone" if changed == labelled else counted(changes, "change")
            raise DataError(
                f"{self.name}: {found} in the tiles to learn from; label {LEAST_CHANGES} changes "
                "or more, and ground without change"
            )
        if not _count_changes(self.val)[0]:
            raise DataError(
                f"{self.name}: no held-out tile shows change, so no gain can be measured; hold out "
                "more by ctma prepare labels --holdout"
            )

    def look(self, network: ChangeNetwork) -> Sight:
        """Runs a network on held-out tiles and on former data."""
        fast = _run(network, find_precision("auto", network.device))
        elsewhere = look(fast, self.former_val, None) if self.former_val else None
        return Sight(look(_run(network), self.val, self.distance), elsewhere)

    def is_known_to(self, network: ChangeNetwork) -> bool:
        """Whether a network has learned from these very tiles."""
        known = network.provenance.get("training_data", {}).get("fingerprint")
        return bool(known == data_fingerprint(self.train))

    def look_everywhere(self, network: ChangeNetwork) -> Seen:
        """Runs a network on all tiles of the place."""
        return look(_run(network), [*self.train, *self.val], self.distance)

    def measure_agreement(self, network: ChangeNetwork) -> dict[str, float]:
        """How far faster engines agree with float32 on held-out tiles."""
        scoring = Scoring(protocol="whole", ground_sample_distance=self.distance)
        return measure_agreement(_run(network), self.val, scoring)

    def sources(self, network: ChangeNetwork) -> tuple[Source, Source | None]:
        """What a network learns from here, and what it rehearses."""
        here = Source(self.train, network.usage, find_enlargement(network.usage, self.distance))
        if not self.former:
            return here, None
        return here, Source(self.former, settle_usage(network.usage, self.former), focus=0.0)

    def describe(self) -> dict[str, object]:
        """The training data, for a header."""
        fingerprint = data_fingerprint(self.train)
        return {"name": self.name, "pairs": len(self.train), "fingerprint": fingerprint}


def open_place(
    data: str | Path,
    rehearse: str | Path | None,
    path: Path,
    device: str,
    ground_sample_distance: float | None,
) -> tuple[Place, ChangeNetwork]:
    """Finds the data of a place, and loads a checkpoint as it takes these data.

    Args:
        data: A data folder with the splits ``train`` and ``val``.
        rehearse: A data folder with former data, with the same splits.
        path: The checkpoint.
        device: The name of a device.
        ground_sample_distance: Metres per pixel; by default the distance of georeferenced tiles.

    Raises:
        SettingError: If a distance is given, and the checkpoint has none.
        DataError: If a split is missing.
        CheckpointError: If the checkpoint cannot be read.
    """
    train, val = find_pairs(data, "train"), find_pairs(data, "val")
    former = [] if rehearse is None else find_pairs(rehearse, "train")
    former_val = [] if rehearse is None else find_pairs(rehearse, "val")
    network = load_model(path).to(find_device(device))
    check_given_distance(network.usage, ground_sample_distance)
    network.usage = settle_usage(network.usage, train)
    step = max(1, -(-len(former_val) // MOST_SCORED))
    distance = ground_sample_distance or _find_distance(train, network)
    if distance is not None and is_too_coarse(network.usage, distance):
        network.usage = network.usage.replace(ground_sample_distance=distance)
    return Place(find_data_name(data), train, val, former, former_val[::step], distance), network


def _run(network: ChangeNetwork, precision: str = "float32") -> Predictor:
    return Predictor(network, Running(engine="exact", precision=precision))


def _find_distance(pairs: Sequence[Pair], network: ChangeNetwork) -> float | None:
    if network.usage.ground_sample_distance is None:
        return None
    footprints = read_footprints(pairs[:1])
    return _measure(footprints[0]) if footprints else None


def _measure(footprint: Footprint) -> float | None:
    grid = Grid(footprint.crs, footprint.transform, footprint.width, footprint.height)
    return measure_distance(grid)


def _count_changes(pairs: Sequence[Pair]) -> tuple[int, int, int]:
    """Number of changes, of changed pixels, and of pixels with a label."""
    coding = find_coding(pairs)
    labels = (read_change(pair.change, coding) for pair in pairs if pair.change is not None)
    counts = [
        (int(ndimage.label(label == 1)[1]), int((label == 1).sum()), int((label <= 1).sum()))
        for label in labels
    ]
    changes, changed, labelled = (sum(column) for column in zip(*counts, strict=True))
    return changes, changed, labelled
