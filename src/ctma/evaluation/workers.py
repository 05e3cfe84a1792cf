"""A model on one engine in a process of its own, which runs, times and answers on request."""

from __future__ import annotations

import math
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from ctma.data.dataset import to_tensor, to_unit_range
from ctma.engines.prepared import Prepared
from ctma.errors import CtmaError, SettingError
from ctma.inference.predictor import load
from ctma.models.base import ChangeNetwork
from ctma.types import Pixels

_MIB = 1024 if sys.platform == "linux" else 1024**2
"""The system's units of peak memory per MiB."""


class Way(NamedTuple):
    """The model, engine and precision to time.

    Attributes:
        model: A checkpoint.
        engine: One of ``ENGINES``; for an exported model, the engine that runs it.
        precision: One of the engine's precisions.
    """

    model: str
    engine: str
    precision: str


Planes = list[NDArray[np.float32]]


class Answer(NamedTuple):
    """The results that a worker process sends.

    Attributes:
        logits: The logits of each pair.
        masks: The mask of each pair.
        memory_mib: Peak memory of the process, MiB.
        gmac: Multiplications, in 1e9; ``None`` if they cannot be counted.
    """

    logits: Planes
    masks: list[Pixels]
    memory_mib: float
    gmac: float | None


@contextmanager
def open_workers(
    ways: Sequence[Way], pairs: list[tuple[Pixels, Pixels]], threads: int, cache: bool
) -> Iterator[list[Connection]]:
    """Starts a process for each way, and ends all of them at the end of the block.

    Args:
        ways: The models with their engines and precisions.
        pairs: Images (H, W, bands) before and after.
        threads: Threads of each process.
        cache: Whether the files that an engine prepares are kept on disk.

    Yields:
        The connections to the processes, to use with `ask`.

    Raises:
        CtmaError: If an engine cannot run a model.
    """
    # Spawned processes: forked ones would inherit the memory that torch used in this process.
    context = multiprocessing.get_context("spawn")
    started: list[tuple[Any, Connection]] = []
    try:
        for way in ways:
            here, there = context.Pipe()
            arguments = (there, way, pairs, threads, cache)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            there.close()  # else a process that ended would be waited for
            started.append((process, here))
            ask(here, "prepare")  # one worker after the other
        yield [here for _, here in started]
    finally:
        for process, _ in started:
            process.kill()
            process.join()


def ask(worker: Connection, what: str) -> Any:
    """Asks a process to ``"prepare"``, ``"run"`` (seconds) or ``"tell"`` (an `Answer`)."""
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
    """Runs one way in its own process: prepares, runs and answers, each on request."""
    torch.set_num_threads(threads)
    connection.recv()
    try:
        network, inputs = _prepare(way, pairs, cache)
        with torch.inference_mode():
            logits = [network(*pair).fine.float() for pair in inputs]
            network(*inputs[0])
    except (CtmaError, ValueError) as error:
        connection.send(error if isinstance(error, CtmaError) else SettingError(str(error)))
        return
    memory = _peak_mib()
    limit = network.usage.threshold
    masks = [(network.probability(one) > limit).numpy() for one in logits]
    connection.send(None)
    while (request := connection.recv()) == "run":
        with torch.inference_mode():
            network(*inputs[0])  # not timed: other workers have used the caches
            start = time.perf_counter()
            network(*inputs[0])
            connection.send(time.perf_counter() - start)
    assert request == "tell"
    computed = network.engine.computed()
    gmac = None if computed is None else count_gmac(computed, *inputs[0])
    connection.send(Answer([one.numpy() for one in logits], masks, memory, gmac))


def _peak_mib() -> float:
    """Peak memory in MiB; on Linux of this process alone, which getrusage cannot tell."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MIB


def _prepare(
    way: Way, pairs: list[tuple[Pixels, Pixels]], cache: bool
) -> tuple[Prepared, list[tuple[torch.Tensor, torch.Tensor]]]:
    predictor = load(
        way.model, engine=way.engine, precision=way.precision, device="cpu", cache=cache
    )
    scaling = predictor.usage.scaling
    inputs = []
    for pair in pairs:
        before, after = (to_unit_range(to_tensor(date)[None], scaling) for date in pair)
        inputs.append((before, after))
    return predictor.prepared.eval(), inputs


def count_gmac(network: ChangeNetwork, before: torch.Tensor, after: torch.Tensor) -> float:
    """Counts a network's multiplications for images (B, bands, H, W), in 1e9."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(before, after)
    return counter.get_total_flops() / 2e9
