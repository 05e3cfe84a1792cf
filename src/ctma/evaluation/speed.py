"""How fast engines run a network here, and how far they agree with it as it is written."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from ctma.checkpoints.store import load_model
from ctma.data.dataset import to_tensor
from ctma.data.pairs import read_pair
from ctma.data.readers import find_pairs
from ctma.data.synthetic import synthetic_pair
from ctma.errors import CtmaError, DataError, SettingError, UnknownNameError
from ctma.inference.engines.choice import ENGINES, check_installed, is_installed, prepare
from ctma.inference.engines.engine import Engine
from ctma.inference.exported import is_exported
from ctma.inference.protocols import to_unit_range
from ctma.models.base import ChangeNetwork
from ctma.settings import check_count
from ctma.types import MINIMUM_SIZE, Pixels, Progress, ignore

ROUNDS = 9
"""Runs that count, of each engine at each size."""

MOST_PAIRS = 8
"""Of a data set, on which agreement is measured."""

PAUSE = 0.1
"""Seconds between two engines' turns, in which the threads of the former go to sleep."""

_MIB = 1024 if sys.platform == "linux" else 1024**2
"""What the system counts peak memory in, of a MiB."""


class Way(NamedTuple):
    """What is timed.

    Attributes:
        model: A checkpoint.
        engine: One of ``ENGINES``; of an exported model what runs it.
        precision: One of the engine's.
    """

    model: str
    engine: str
    precision: str


@dataclass(frozen=True)
class Timing:
    """What a way takes for a pair of one size.

    Attributes:
        model: A checkpoint.
        engine: What ran it.
        precision: In which.
        size: Height and width, pixels.
        milliseconds: Median for one pair.
        ratio: How many times as fast as the same model eager in float32, ``None`` without it.
        ratio_to_first: How many times as fast as the first way.
        logit_difference: The largest, from the same model eager in float32; ``None`` without it.
        agreement: The share of pixels with the same mask as that, or as the first way.
        memory_mib: Peak of its process.
        gmac: Multiplications that it executes, in 1e9; ``None`` where they cannot be counted.
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


def find_ways(models: Sequence[str], engines: Sequence[str]) -> list[Way]:
    """Every installed engine in each of its precisions, of each model.

    Args:
        models: Checkpoints; exported ones are run by what runs them.
        engines: Names; all that are installed where none is given, but ``compile``, which takes
            minutes.

    Raises:
        UnknownNameError: If there is no such engine.
        MissingExtraError: If one that was asked for is not installed.
    """
    for name in engines:
        if name not in ENGINES:
            raise UnknownNameError("engine", name, ENGINES)
        check_installed(name)
    wanted = engines or [name for name in ENGINES if is_installed(name) and name != "compile"]
    ways = []
    for model in dict.fromkeys(models):
        if is_exported(model):
            known = prepare(load_model(model))
            ways.append(Way(model, known.engine, known.precision))
            continue
        ways.append(Way(model, "eager", "float32"))
        ways += [
            Way(model, name, precision)
            for name in wanted
            for precision in ENGINES[name].precisions
            if (name, precision) != ("eager", "float32")
        ]
    return ways


def measure_speed(
    ways: Sequence[Way],
    sizes: Sequence[int],
    *,
    data: Path | None = None,
    rounds: int = ROUNDS,
    threads: int | None = None,
    cache: bool = True,
    on_progress: Progress = ignore,
) -> list[Timing]:
    """Times each way in a process of its own, in turns, one at a time.

    Args:
        ways: As from :func:`find_ways`; the first is what ratios are of.
        sizes: Heights and widths, pixels.
        data: A data folder, on whose validation pairs agreement is measured; drawn pairs
            by default.
        rounds: Turns of each.
        threads: How many compute; as many as torch takes by default.
        cache: Whether prepared graphs are kept for the next start.
        on_progress: Called after every turn with how many are done, and of how many.

    Raises:
        SettingError: If `rounds` is below 1, or a size below what the network takes.
        DataError: If the pairs are smaller than a size.
        CtmaError: If an engine cannot run a model.
    """
    check_count("rounds", rounds)
    for size in sizes:
        if size < MINIMUM_SIZE:
            raise SettingError(f"`size` {size}: networks take {MINIMUM_SIZE} pixels and more")
    timings: list[Timing] = []
    total, done = len(sizes) * rounds * len(ways), 0
    for size in sizes:
        pairs = _find_images(data, size)
        with _workers(ways, pairs, threads or torch.get_num_threads(), cache) as workers:
            seconds: list[list[float]] = [[] for _ in ways]
            for _ in range(rounds):
                for spent, worker in zip(seconds, workers, strict=True):
                    time.sleep(PAUSE)
                    spent.append(_ask(worker, "run"))
                    done += 1
                    on_progress(done, total)
            found = [_ask(worker, "tell") for worker in workers]
        medians = [statistics.median(spent) for spent in seconds]
        eager = {way.model: i for i, way in enumerate(ways) if way[1:] == ("eager", "float32")}
        for way, median, told in zip(ways, medians, found, strict=True):
            exact = eager.get(way.model)
            masks = found[exact or 0]["masks"]
            timings.append(
                Timing(
                    *way,
                    size=size,
                    milliseconds=1000 * median,
                    ratio=None if exact is None else medians[exact] / median,
                    ratio_to_first=medians[0] / median,
                    logit_difference=(
                        None if exact is None else _apart(told["logits"], found[exact]["logits"])
                    ),
                    agreement=_share(told["masks"], masks),
                    memory_mib=told["memory"],
                    gmac=told["gmac"],
                )
            )
    return timings


Planes = list[NDArray[np.float32]]


def _apart(logits: Planes, exact: Planes) -> float:
    return max(float(np.abs(one - other).max()) for one, other in zip(logits, exact, strict=True))


def _share(masks: Sequence[Pixels], others: Sequence[Pixels]) -> float:
    return statistics.mean(
        float((one == other).mean()) for one, other in zip(masks, others, strict=True)
    )


def _find_images(data: Path | None, size: int) -> list[tuple[Pixels, Pixels]]:
    """Pairs of a size, cut from the middle of those of a data set, or drawn."""
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


@contextmanager
def _workers(
    ways: Sequence[Way], pairs: list[tuple[Pixels, Pixels]], threads: int, cache: bool
) -> Iterator[list[Connection]]:
    # New processes: what torch did in this one would be in their memory.
    context = multiprocessing.get_context("spawn")
    started: list[tuple[Any, Connection]] = []
    try:
        for way in ways:
            here, there = context.Pipe()
            arguments = (there, way, pairs, threads, cache)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            started.append((process, here))
            _ask(here, "prepare")  # one after the other
        yield [here for _, here in started]
    finally:
        for process, _ in started:
            process.kill()
            process.join()


def _ask(worker: Connection, what: str) -> Any:
    worker.send(what)
    try:
        answer = worker.recv()
    except EOFError as error:
        raise SettingError("an engine's process ended; had it enough memory?") from error
    if isinstance(answer, CtmaError):
        raise answer
    return answer


def _work(
    connection: Connection,
    way: Way,
    pairs: list[tuple[Pixels, Pixels]],
    threads: int,
    cache: bool,
) -> None:
    """One way in a process of its own: prepares, runs, tells, each when it is asked."""
    torch.set_num_threads(threads)
    connection.recv()
    try:
        engine, inputs = _prepare(way, pairs, cache)
        with torch.inference_mode():
            found = [engine(*pair).fine.float() for pair in inputs]
            engine(*inputs[0])
    except (CtmaError, ValueError) as error:
        connection.send(error if isinstance(error, CtmaError) else SettingError(str(error)))
        return
    memory = _peak_mib()
    limit = engine.usage.threshold
    masks = [(engine.probability(logits) > limit).numpy() for logits in found]
    connection.send(None)
    while (asked := connection.recv()) == "run":
        with torch.inference_mode():
            engine(*inputs[0])  # what the others left in the caches is not what is timed
            start = time.perf_counter()
            engine(*inputs[0])
            connection.send(time.perf_counter() - start)
    assert asked == "tell"
    computed = engine.as_computed()
    gmac = None if computed is None else count_gmac(computed, *inputs[0])
    connection.send(
        {
            "logits": [logits.numpy() for logits in found],
            "masks": masks,
            "memory": memory,
            "gmac": gmac,
        }
    )


def _peak_mib() -> float:
    """Peak memory of this process; on Linux of it alone, which getrusage does not tell."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MIB


def _prepare(
    way: Way, pairs: list[tuple[Pixels, Pixels]], cache: bool
) -> tuple[Engine, list[tuple[torch.Tensor, torch.Tensor]]]:
    network = load_model(way.model)
    engine = prepare(network, way.engine, way.precision, keep=cache)
    scaling = network.usage.scaling
    inputs = []
    for pair in pairs:
        before, after = (to_unit_range(to_tensor(date)[None], scaling) for date in pair)
        inputs.append((before, after))
    return engine, inputs


def count_gmac(network: ChangeNetwork, before: torch.Tensor, after: torch.Tensor) -> float:
    """Multiplications that a network does for images (B, bands, H, W), in 1e9."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(before, after)
    return counter.get_total_flops() / 2e9
