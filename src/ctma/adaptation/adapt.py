"""Adapts a checkpoint to a place: learns from labelled tiles, and says what it cost elsewhere."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ctma.adaptation.learning import find_learnable, learn
from ctma.adaptation.place import Place, Sight, open_place
from ctma.adaptation.scores import Seen, Setting, choose_setting, standard_error
from ctma.adaptation.settings import AdaptationSettings
from ctma.checkpoints.header import (
    RELEASED_SUFFIXES,
    RUN_BEST,
    find_adapted,
    find_checkpoint,
    is_adapter,
    read_header,
    refuse_exported,
)
from ctma.checkpoints.store import save_adapter
from ctma.errors import DataError, OutputError, SettingError
from ctma.files import check_folder, check_writable, file_fingerprint, refuse_existing, write_json
from ctma.models.base import ChangeNetwork
from ctma.types import Progress, Say, ignore

RECORD = "adaptation.json"
"""The record of an adaptation, beside its checkpoint."""

SHARES = (1.0, 0.7, 0.5, 0.35, 0.25)
"""Shares of what was learned: the largest one is kept that costs no more than allowed."""

CAUTIOUS_SHARE = 0.5
"""The share that is kept where a loss elsewhere cannot be measured, unless all is clearly better.

Half of what is learned without rehearsal brought as much as all of it in Europe, and cost a tenth.
"""

LEAST_BETTER = 1.0
"""F1 by which a result must beat calling every pixel change, in percent."""

TRAINING_SHARE = 0.6
"""Share of the time for steps; the rest is for scores."""


class Gain(NamedTuple):
    """How a score changed.

    Attributes:
        before: F1 of the old weights, in percent.
        after: F1 of the new weights, in percent.
        error: The standard error of the difference, in percent, over tiles or pairs; ``None`` for
            a single one.
        pairs: Number of tiles or pairs.
    """

    before: float
    after: float
    error: float | None
    pairs: int

    @property
    def difference(self) -> float:
        """The difference, in percent."""
        return self.after - self.before

    def __str__(self) -> str:
        """The difference with its standard error."""
        spread = "of one tile" if self.error is None else f"± {self.error:.1f}"
        return f"{self.difference:+.1f} {spread}"


@dataclass(frozen=True)
class Adaptation:
    """The result of an adaptation.

    Attributes:
        checkpoint: The adapted checkpoint.
        here: F1 on the held-out tiles of the place.
        elsewhere: F1 on former data; ``None`` where none are at hand.
        setting: Temperature, offset and threshold.
        steps: Number of steps; 0 where only the setting was adapted.
        share: Share of what was learned that is kept.
        bytes: Size of the checkpoint.
    """

    checkpoint: Path
    here: Gain
    elsewhere: Gain | None
    setting: Setting
    steps: int
    share: float
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return {
            "checkpoint": str(self.checkpoint),
            **_describe(self),
            **self.setting._asdict(),
            "bytes": self.bytes,
        }


def adapt(
    checkpoint: str | Path,
    data: str | Path,
    output: str | Path,
    settings: AdaptationSettings | None = None,
    *,
    rehearse: str | Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    on_note: Say = ignore,
    on_progress: Progress = ignore,
) -> Adaptation:
    """Adapts a checkpoint to a place.

    The last layers learn from the tiles of the split ``train``, beside former data. The split
    ``val`` is held out, and says what was gained. The output holds the differences to the old
    weights alone, at most 2 MB; the old checkpoint stays as it is, and must stay where it is.

    Args:
        checkpoint: A checkpoint by name or path.
        data: A data folder with the splits ``train`` and ``val``, as from ``prepare_labels``.
        output: A folder for the adapted checkpoint and ``adaptation.json``.
        settings: How to adapt; the defaults if not given.
        rehearse: Data like those that the checkpoint was trained on, with the splits ``train`` and
            ``val``: what was learned there is rehearsed, and what was lost is measured.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        overwrite: Replace an earlier adaptation in the folder.
        on_note: Called with lines of text about the data.
        on_progress: Called after every step with the number of finished steps and of all.

    Raises:
        CheckpointError: If the checkpoint cannot be read.
        DataError: If the data lack a split, change, or held-out change; or if the new weights are
            worse here than the old ones, or cost more elsewhere than ``most_loss``.
        SettingError: If the checkpoint has no header.
        OutputError: If the folder cannot be written, or holds an adaptation.
    """
    settings = settings or AdaptationSettings()
    path = _find_original(checkpoint)
    target = Path(output) / RUN_BEST
    check_folder(Path(output), [data])
    _refuse_original(path, target)
    refuse_existing(target, overwrite)
    place, network = open_place(data, rehearse, path, device, settings.ground_sample_distance)
    on_note(place.note)
    if not settings.calibrate_only:
        place.check_changes()
    check_writable(target)
    attempt = _Attempt(place, network, settings)
    found = attempt.calibrate() if settings.calibrate_only else attempt.learn(on_progress)
    _check_worth(found, path, settings)
    return _save(found, path, place, target)


@dataclass(frozen=True)
class _Found:
    """A candidate: a network, its setting, what both gain, and F1 of calling all change."""

    network: ChangeNetwork
    setting: Setting
    here: Gain
    elsewhere: Gain | None
    trivial: float
    steps: int = 0
    share: float = 0.0

    def loses(self) -> float:
        """F1 that is lost elsewhere, in percent; 0 where none was measured."""
        return 0.0 if self.elsewhere is None else -self.elsewhere.difference


class _Attempt:
    """Finds a candidate for a place.

    Args:
        place: The place.
        network: The old network.
        settings: How to adapt.
    """

    def __init__(self, place: Place, network: ChangeNetwork, settings: AdaptationSettings):
        self.place, self.network, self.settings = place, network, settings
        self.former = Setting.of(network.usage)
        self.before = place.look(network)

    def calibrate(self) -> _Found:
        """Adapts the setting alone, on all tiles that the network has not learned from."""
        known = self.place.is_known_to(self.network)
        tiles = self.before.here if known else self.place.look_everywhere(self.network)
        setting, expected = choose_setting(tiles, self.former)
        here = _gain(tiles, tiles, self.former, setting)._replace(after=expected)
        elsewhere = self._gain_elsewhere(self.before, setting)
        return _Found(self.network, setting, here, elsewhere, tiles.f1_of_all())

    def learn(self, on_progress: Progress) -> _Found:
        """Teaches the last layers; keeps as much of it as costs no more than allowed."""
        network = copy.deepcopy(self.network)
        steps = learn(
            network,
            *self.place.sources(network),
            self.settings.learning,
            seconds=60 * self.settings.minutes * TRAINING_SHARE,
            on_progress=on_progress,
        )
        learned = _differences(network, self.network)
        if self.before.elsewhere is None:
            return replace(self._choose_cautiously(network, learned), steps=steps)
        for share in SHARES:
            found = self._judge(network, learned, share)
            if found.loses() <= self.settings.most_loss:
                break
        return replace(found, steps=steps)

    def _choose_cautiously(
        self, network: ChangeNetwork, learned: dict[str, torch.Tensor]
    ) -> _Found:
        """All of what was learned, if it is better here than a half by its standard error."""
        whole, half = (self._judge(network, learned, share) for share in (1.0, CAUTIOUS_SHARE))
        if whole.here.after - half.here.after <= (whole.here.error or 0.0):
            return half
        _mix(network, self.network, learned, whole.share)
        return whole

    def _judge(
        self, network: ChangeNetwork, learned: dict[str, torch.Tensor], share: float
    ) -> _Found:
        """Scores a share of what was learned, with the former setting.

        Learning fits the outputs to the former threshold. A threshold chosen on few held-out tiles
        lost up to 19 points on other scenes (docs/reports/adaptation.md).

        Args:
            network: Gets the old weights and the share.
            learned: What was learned.
            share: The share.
        """
        _mix(network, self.network, learned, share)
        now = self.place.look(network)
        here = _gain(self.before.here, now.here, self.former, self.former)
        elsewhere = self._gain_elsewhere(now, self.former)
        trivial = self.before.here.f1_of_all()
        return _Found(network, self.former, here, elsewhere, trivial, share=share)

    def _gain_elsewhere(self, now: Sight, setting: Setting) -> Gain | None:
        if self.before.elsewhere is None or now.elsewhere is None:
            return None
        return _gain(self.before.elsewhere, now.elsewhere, self.former, setting)


def _find_original(checkpoint: str | Path) -> Path:
    path = find_checkpoint(checkpoint)
    refuse_exported(path)
    if path.suffix in RELEASED_SUFFIXES:
        raise SettingError(f"{path}: has no header to adapt; ctma convert gives it one")
    return path


def _refuse_original(path: Path, target: Path) -> None:
    """Refuses to replace the checkpoint that is adapted, or the one that it adds to."""
    originals = [path]
    if path.is_file() and is_adapter(path):
        originals.append(find_adapted(read_header(path), path))
    if target.resolve() in {original.resolve() for original in originals}:
        raise OutputError(f"{target}: is the old checkpoint, and would be replaced; name a folder")


def _check_worth(found: _Found, path: Path, settings: AdaptationSettings) -> None:
    """Refuses what is worse here, or costs too much elsewhere."""
    calibrated = settings.calibrate_only
    what = "another threshold" if calibrated else "learning"
    stays = f"{path.name} stays as it is"
    if found.here.before == found.here.after == 0:
        raise DataError(
            f"neither the old nor the new weights find a held-out change, so {stays}; hold out "
            "more tiles with change (ctma prepare labels --holdout)"
        )
    if found.here.difference <= 0:
        raise DataError(f"{what} gains {found.here} of F1 on held-out tiles, so {stays}")
    if found.here.after <= found.trivial + LEAST_BETTER:
        raise DataError(
            f"{what} gives F1 {found.here.after:.1f} on held-out tiles, no better than calling "
            f"every pixel change ({found.trivial:.1f}), so {stays}"
        )
    if found.loses() > settings.most_loss:
        raise DataError(
            f"{what} gains {found.here} of F1 here and loses {found.loses():.1f} elsewhere, more "
            f"than `most_loss` {settings.most_loss:g}, so {stays}"
        )


def _save(found: _Found, path: Path, place: Place, target: Path) -> Adaptation:
    """Writes the differences to the old weights, and the record."""
    usage = found.network.usage
    # What was fitted on objects of the former probabilities does not hold for others.
    same = found.setting == Setting.of(usage)
    objects = {} if same else {"object_temperature": 1.0, "object_offset": 0.0}
    found.network.usage = usage.replace(**found.setting._asdict(), **objects)
    header = read_header(path)
    original = find_adapted(header, path) if header.adapts else path
    learned = found.steps or header.adapts
    save_adapter(
        target,
        found.network,
        original,
        find_learnable(found.network) if learned else [],
        initial_weights={"name": path.name, "fingerprint": file_fingerprint(path)},
        training_data=place.describe(),
        calibration={},
        agreement=place.measure_agreement(found.network),
        promise={},
        scores=[],
        epoch=None,
        adaptation=_describe(found),
    )
    size = target.stat().st_size
    result = Adaptation(
        target, found.here, found.elsewhere, found.setting, found.steps, found.share, size
    )
    write_json(target.with_name(RECORD), result.as_dict() | {"from": path.name})
    return result


def _describe(result: Adaptation | _Found) -> dict[str, Any]:
    """What was gained and lost, and how, as plain values by name."""
    return {
        "here": _as_dict(result.here),
        "elsewhere": None if result.elsewhere is None else _as_dict(result.elsewhere),
        "steps": result.steps,
        "share": result.share,
    }


def _differences(network: ChangeNetwork, old: ChangeNetwork) -> dict[str, torch.Tensor]:
    state, former = network.state_dict(), old.state_dict()
    return {name: state[name] - former[name] for name in find_learnable(network)}


def _mix(
    network: ChangeNetwork, old: ChangeNetwork, learned: dict[str, torch.Tensor], share: float
) -> None:
    """Gives a network the old weights and a share of what it learned, as a file holds it."""
    state = dict(old.state_dict())
    for name, difference in learned.items():
        state[name] = state[name] + (share * difference).half().float()
    network.load_state_dict(state)


def _gain(before: Seen, after: Seen, former: Setting, setting: Setting) -> Gain:
    counts = before.counts(former), after.counts(setting)
    return Gain(before.f1(former), after.f1(setting), standard_error(*counts), len(counts[0]))


def _as_dict(gain: Gain) -> dict[str, float | None]:
    return {**gain._asdict(), "difference": gain.difference}
