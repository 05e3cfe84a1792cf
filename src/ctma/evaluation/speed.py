"""Times the engines on this machine, and measures their agreement with eager float32."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from ctma.data.pairs import read_pair
from ctma.data.readers import find_pairs
from ctma.data.synthetic import synthetic_pair
from ctma.engines.listing import engine_names, find_engine
from ctma.errors import DataError, SettingError
from ctma.evaluation.workers import Answer, Planes, Way, ask, open_workers
from ctma.exports.exported import is_exported
from ctma.inference.predictor import Predictor, load
from ctma.settings import check_count
from ctma.types import MINIMUM_SIZE, Pixels, Progress, ignore

ROUNDS = 9
"""Timed runs of each engine at each size."""

MOST_PAIRS = 8
"""Largest number of pairs of a data set on which agreement is measured."""

PAUSE = 0.1
"""Seconds between two engines' turns, so that the threads of the first engine go to sleep."""

Model = Predictor | str | Path
"""A model to time, by its file, its name, or a predictor that was loaded from a file."""


@dataclass(frozen=True)
class Timing:
    """The speed, agreement and memory of a way (model, engine, precision) at one image size.

    Attributes:
        model: A checkpoint.
        engine: The engine that ran the model.
        precision: The precision of the run.
        size: Height and width, pixels.
        milliseconds: Median time for one pair.
        ratio: Speed relative to the same model in eager float32; ``None`` if eager float32 was
            not timed.
        ratio_to_first: Speed relative to the first way.
        logit_difference: Largest difference from the logits in eager float32; ``None`` if eager
            float32 was not timed.
        agreement: The share of pixels with the same mask as in eager float32. If eager float32
            was not timed, the comparison is with the first way.
        memory_mib: Peak memory of the process, MiB.
        gmac: Executed multiplications, in 1e9; ``None`` if they cannot be counted.
    """

    model: str
    engine: str
    precision: str
    size: int
    milliseconds: float
    ratio: float | None
    ratio_to_first: float
    logit_difference: float | None
    agreement: float
    memory_mib: float
    gmac: float | None


def bench(
    models: Model | Sequence[Model],
    sizes: Sequence[int] = (256, 1024),
    engines: Sequence[str] = (),
    *,
    data: str | Path | None = None,
    rounds: int = ROUNDS,
    threads: int | None = None,
    cache: bool = True,
    on_progress: Progress = ignore,
) -> list[Timing]:
    """Times engines on this machine, each in its own process, and measures their agreement.

    Args:
        models: A checkpoint or several; an exported model runs on its own engine. A predictor
            stands for the file that it was loaded from.
        sizes: Heights and widths, pixels.
        engines: Names of engines. The default is all installed engines except ``compile``, which
            takes minutes.
        data: A data folder; its validation pairs are used to measure agreement. The default is a
            synthetic pair.
        rounds: Timed runs of each engine.
        threads: Number of threads; by default as many as torch uses.
        cache: Whether the files that an engine prepares are kept on disk.
        on_progress: Called after every run with the number of runs done and the total.

    Returns:
        A timing for each size, model, engine and precision.

    Raises:
        UnknownNameError: If there is no such engine.
        MissingExtraError: If a named engine is not installed.
        SettingError: If ``rounds`` is below 1, a size is too small for the networks, or a
            predictor has no file.
        DataError: If the pairs are smaller than a size.
        CtmaError: If an engine cannot run a model.
    """
    several = [models] if isinstance(models, Predictor | str | Path) else models
    ways = _find_ways([_find_file(model) for model in several], engines)
    check_count("rounds", rounds)
    for size in sizes:
        if size < MINIMUM_SIZE:
            raise SettingError(f"`size` {size}: networks take {MINIMUM_SIZE} pixels and more")
    timings: list[Timing] = []
    total, done = len(sizes) * rounds * len(ways), 0

    def on_turn() -> None:
        nonlocal done
        done += 1
        on_progress(done, total)

    for size in sizes:
        pairs = _find_images(None if data is None else Path(data), size)
        with open_workers(ways, pairs, threads or torch.get_num_threads(), cache) as workers:
            seconds = _take_turns(workers, rounds, on_turn)
            answers = [ask(worker, "tell") for worker in workers]
        timings += _compare(ways, size, [statistics.median(spent) for spent in seconds], answers)
    return timings


def _find_file(model: Model) -> str:
    """The name of a model that another process can load."""
    if not isinstance(model, Predictor):
        return str(model)
    if model.source is None:
        raise SettingError("`models`: a network in memory has no file that others can load")
    return str(model.source)


def _find_ways(models: Sequence[str], engines: Sequence[str]) -> list[Way]:
    """Every engine in each of its precisions, of each model."""
    for name in engines:
        find_engine(name).check_installed()
    kinds = [find_engine(name) for name in engines or engine_names()]
    choice = [kind for kind in kinds if engines or (not kind.missing() and kind.name != "compile")]
    ways = []
    for model in dict.fromkeys(models):
        if is_exported(model):
            exported = load(model)
            ways.append(Way(model, exported.engine, exported.precision))
            continue
        ways.append(Way(model, "eager", "float32"))
        ways += [
            Way(model, kind.name, precision)
            for kind in choice
            for precision in kind.precisions
            if (kind.name, precision) != ("eager", "float32")
        ]
    return ways


def _take_turns(
    workers: Sequence[Connection], rounds: int, on_turn: Callable[[], None]
) -> list[list[float]]:
    """Seconds of each round of each worker."""
    seconds: list[list[float]] = [[] for _ in workers]
    for _ in range(rounds):
        for spent, worker in zip(seconds, workers, strict=True):
            time.sleep(PAUSE)
            spent.append(ask(worker, "run"))
            on_turn()
    return seconds


def _compare(
    ways: Sequence[Way], size: int, medians: Sequence[float], answers: Sequence[Answer]
) -> list[Timing]:
    eager = {way.model: i for i, way in enumerate(ways) if way[1:] == ("eager", "float32")}
    timings = []
    for way, median, answer in zip(ways, medians, answers, strict=True):
        exact = eager.get(way.model)
        timings.append(
            Timing(
                *way,
                size=size,
                milliseconds=1000 * median,
                ratio=None if exact is None else medians[exact] / median,
                ratio_to_first=medians[0] / median,
                logit_difference=(
                    None if exact is None else _apart(answer.logits, answers[exact].logits)
                ),
                agreement=_share(answer.masks, answers[exact or 0].masks),
                memory_mib=answer.memory_mib,
                gmac=answer.gmac,
            )
        )
    return timings


def _apart(logits: Planes, exact: Planes) -> float:
    return max(float(np.abs(one - other).max()) for one, other in zip(logits, exact, strict=True))


def _share(masks: Sequence[Pixels], others: Sequence[Pixels]) -> float:
    return statistics.mean(
        float((one == other).mean()) for one, other in zip(masks, others, strict=True)
    )


def _find_images(data: Path | None, size: int) -> list[tuple[Pixels, Pixels]]:
    """Pairs of one size: cut from the middle of a data set's pairs, or a synthetic pair."""
    if data is None:
        before, after, _ = synthetic_pair(size, seed=0)
        return [(before, after)]
    pairs = find_pairs(data, "val")
    chosen = pairs[:: max(1, len(pairs) // MOST_PAIRS)][:MOST_PAIRS]
    images = [read_pair(pair) for pair in chosen]
    if any(min(before.shape[:2]) < size for before, _ in images):
        raise DataError(f"{data}: has pairs smaller than {size} pixels; take another `size`")
    return [(_middle(before, size), _middle(after, size)) for before, after in images]


def _middle(image: Pixels, size: int) -> Pixels:
    top, left = ((length - size) // 2 for length in image.shape[:2])
    return image[top : top + size, left : left + size]
