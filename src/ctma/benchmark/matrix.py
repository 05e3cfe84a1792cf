"""Runs a benchmark: every network with every seed, each in a process of its own, resumable."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ctma.benchmark.cell import SIDE, SPLIT
from ctma.benchmark.health import check_crops, check_health
from ctma.benchmark.plan import PLAN, BenchmarkPlan, Cell, read_code, read_plan
from ctma.benchmark.record import (
    FAILURES,
    RECORDS,
    code_fingerprint,
    outside_code,
    read_kept,
    recorded_networks,
)
from ctma.data.pairs import Pair, read_pair
from ctma.errors import OutputError, SettingError
from ctma.files import check_writable, sole_run, write_json
from ctma.models.registry import ENTRIES, create_model
from ctma.settings import check_count
from ctma.training.loaders import find_training_pairs
from ctma.training.trainer import Hardware
from ctma.types import Progress, Say, ignore

COSTS, LOGS = "costs.json", "logs"
MAY_GROW = ("models", "seeds")

TRACEBACK = "Traceback (most recent call last):"
"""The end of a traceback's first line; a loader process's traceback is inside another one."""

RANK = re.compile(r"^\[rank\d+\]: ?")
"""The prefix of lines from processes that share a training."""

LOOK = 0.2
"""Seconds between two checks for finished trainings."""


@dataclass(frozen=True)
class BenchmarkResult:
    """The result of a benchmark.

    Attributes:
        done: Trainings with a record.
        failed: Failed trainings, each with the reason.
    """

    done: list[Cell]
    failed: dict[Cell, str]


@dataclass(frozen=True)
class BenchmarkEstimate:
    """The estimated time of a network's trainings.

    Attributes:
        network: The network's name.
        trainings: Number of trainings to do.
        steps: Optimizer steps of each training.
        seconds: Estimated seconds of each training, for its steps, validations and the test.
        costs: The measured costs, see ``cell.measure``.
        failure: The reason if the network could not be timed, else empty.
    """

    network: str
    trainings: int
    steps: int
    seconds: float
    costs: dict[str, Any]
    failure: str = ""


def estimate_benchmark(
    plan: BenchmarkPlan,
    output: Path | None = None,
    *,
    device: str = "auto",
    on_progress: Progress = ignore,
) -> list[BenchmarkEstimate]:
    """Times a step of every network, each alone, and estimates the time of its trainings.

    Writes no file and does not check the health of the data.

    Args:
        plan: The networks to compare, and how.
        output: The benchmark's folder; trainings with a record there are not estimated.
        device: The device.
        on_progress: Called with the number of timed networks and the total.

    Raises:
        CtmaError: As in ``run_benchmark``, if a recipe, the crops or the folder are wrong.
    """
    Hardware(device, plan.devices).check()
    recipes = plan.recipes()
    check_crops(plan)
    if output is not None:
        _check_former(plan, output, code_fingerprint(), resume=True)
    missing = [
        cell for cell in plan.cells() if output is None or not _record(output, cell).exists()
    ]
    test = _windows(plan.pairs(SPLIT))
    estimates = []
    for name in plan.models:
        recipe = recipes[name]
        pairs = find_training_pairs(Path(plan.data), recipe.data)
        drawn = recipe.data.draws or pairs.count * recipe.data.repeats
        steps = recipe.trainer.epochs * -(-drawn // (recipe.data.batch_size * plan.devices))
        costs, failure = _measure(plan, name, device)
        looks = recipe.trainer.epochs * _windows(pairs.validation) + test
        seconds = steps * costs.get("step_seconds", 0) + looks * costs.get("pair_seconds", 0)
        trainings = sum(cell.network == name for cell in missing)
        estimates.append(BenchmarkEstimate(name, trainings, steps, seconds, costs, failure))
        on_progress(len(estimates), len(plan.models))
    return estimates


def _windows(pairs: Sequence[Pair]) -> int:
    """The number of windows of the timed size in all pairs, if all have the size of the first."""
    height, width = read_pair(pairs[0])[0].shape[:2]
    return len(pairs) * -(-height // SIDE) * -(-width // SIDE)


def run_benchmark(
    plan: BenchmarkPlan,
    output: str | Path,
    *,
    resume: bool = False,
    allow_leak: str | None = None,
    device: str = "auto",
    jobs: int = 1,
    on_progress: Progress = ignore,
    on_note: Say = ignore,
) -> BenchmarkResult:
    """Trains and scores every network of a plan with every seed.

    A training that fails is recorded with its reason, and the others go on.

    Args:
        plan: The networks to compare, and how.
        output: The benchmark's folder, for records, runs and the costs of each network.
        resume: Continue a stopped benchmark and repeat failed trainings. The plan may add
            networks and seeds.
        allow_leak: The name of the data folder, if it may be used although another split
            shows scenes of its test split.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, or ``"cuda:1"``.
        jobs: Number of trainings that run in parallel, for a GPU that small networks leave idle.
        on_progress: Called with the number of trainings done and the total.
        on_note: Called with a line of text after each training.

    Returns:
        The trainings with a record, and the failed trainings.

    Raises:
        DataError: If the data are missing, damaged or changed, or if a split has no change or
            shows scenes of the test split.
        OutputError: If the folder holds a benchmark already, or cannot be written.
        SettingError: If a recipe is not valid, if crops are larger than images, if the benchmark
            began with another plan or other code, or if both ``jobs`` and the plan's ``devices``
            are more than 1.
    """
    output, code = Path(output), code_fingerprint()
    Hardware(device, plan.devices).check()
    check_count("jobs", jobs)
    if min(jobs, plan.devices) > 1:
        raise SettingError(f"`jobs` {jobs}: each would have the same {plan.devices} devices")
    if output.resolve() == Path(plan.data).resolve():
        raise OutputError(f"{output}: is the data folder; name another one")
    plan.recipes()
    check_crops(plan)
    cells = plan.cells()
    _check_former(plan, output, code, resume=resume)
    check_writable(output / PLAN)
    with sole_run(output):
        check_health(plan, output, allow_leak)
        plan.write(output, code)
        _take_costs(plan, output, device, on_note)
        failed: dict[Cell, str] = {}
        missing = [cell for cell in cells if not _record(output, cell).exists()]
        done = len(cells) - len(missing)
        on_progress(done, len(cells))
        for cell, failure in _run_all(output, missing, device, jobs):
            if failure:
                failed[cell] = failure
            on_note(f"{cell}: {failure or 'done'}")
            done += 1
            on_progress(done, len(cells))
    return BenchmarkResult([cell for cell in cells if cell not in failed], failed)


def _check_former(plan: BenchmarkPlan, output: Path, code: str, *, resume: bool) -> None:
    """Refuses a folder whose benchmark has another plan or code, or is not to be resumed."""
    old_plan = read_plan(output)
    if old_plan is None:
        if recorded_networks(output):
            raise OutputError(f"{output}: holds records, but their plan ({PLAN}) is gone")
        return
    if not resume:
        raise OutputError(f"{output}: holds a benchmark already; go on with it by `resume`")
    for name in BenchmarkPlan.model_fields:
        before, now = getattr(old_plan, name), getattr(plan, name)
        if before != now and name not in MAY_GROW:
            raise SettingError(f"`{name}` {now}: {output} was begun with {before}")
    if (begun := read_code(output)) != code:
        raise SettingError(
            f"{output}: was begun by other code ({begun}) than this ({code}), and does not compare "
            "with what would follow; name a new folder"
        )
    _check_own_code(plan, output)


def _check_own_code(plan: BenchmarkPlan, output: Path) -> None:
    """Refuses networks from outside the package whose code changed since their training."""
    for name, paths in recorded_networks(output).items():
        if name in ENTRIES or name not in plan.models:
            continue
        recipe = plan.replace(pretrained=False).recipe_for(Cell(name, 0))
        code = outside_code(type(create_model(recipe.network, **recipe.arguments)))
        for path in paths:
            if read_kept(path).get("network_code") != code:
                raise SettingError(
                    f"{name}: its code changed since {path} was made; name a new folder"
                )


def _take_costs(plan: BenchmarkPlan, output: Path, device: str, on_note: Say) -> None:
    """Measures the costs of all networks in one go."""
    path = output / COSTS
    names = [*dict.fromkeys([*plan.models, *sorted(recorded_networks(output))])]
    old_costs = read_kept(path)
    if all(old_costs.get(name) for name in names):
        return
    costs = {}
    for name in names:
        costs[name], failure = _measure(plan, name, device)
        if failure:
            on_note(f"{name}: its cost is not known ({failure})")
    write_json(path, costs)


def _measure(plan: BenchmarkPlan, network: str, device: str) -> tuple[dict[str, Any], str]:
    """The costs of a network, and the reason if they could not be measured."""
    with TemporaryDirectory() as folder:
        costs, log = Path(folder, "costs.json"), Path(folder, "log.txt")
        options = ["--plan", plan.model_dump_json(), "--costs", str(costs), "--device", device]
        child = _begin(["measure", "--network", network, *options], log)
        try:
            code = child.wait()
        finally:
            _end(child)
        return ({}, _reason(code, log)) if code else (json.loads(costs.read_bytes()), "")


def _run_all(
    output: Path, cells: Sequence[Cell], device: str, jobs: int
) -> Iterator[tuple[Cell, str]]:
    """Trains and scores in ``jobs`` processes at a time; yields each cell and its failure."""
    waiting = deque(cells)
    running: dict[Cell, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.popleft()
                arguments = ["train", "--network", cell.network, "--seed", str(cell.seed)]
                arguments += ["--folder", str(output), "--device", device]
                running[cell] = _begin(arguments, _log(output, cell))
            time.sleep(LOOK)
            for cell, child in [*running.items()]:
                if child.poll() is not None:
                    del running[cell]
                    yield cell, _settle(output, cell, _end(child))
    finally:
        for child in running.values():
            _end(child)


def _settle(output: Path, cell: Cell, code: int) -> str:
    """The reason why a training failed, else empty; saved for the report."""
    failure = output / FAILURES / f"{cell}.json"
    if not code and _record(output, cell).exists():
        failure.unlink(missing_ok=True)
        return ""
    reason = _reason(code, _log(output, cell))
    write_json(failure, {"network": cell.network, "seed": cell.seed, "reason": reason})
    return reason


def _begin(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Starts a cell; the end of this process closes the cell's standard input and ends the cell."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ctma.benchmark.cell", *arguments]
    with log.open("w") as file:
        return subprocess.Popen(  # noqa: S603 - ourselves, and no shell
            command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT
        )


def _end(child: subprocess.Popen[bytes]) -> int:
    """Ends a cell that is still running; returns the cell's exit code."""
    with child:
        assert child.stdin is not None
        child.stdin.close()
        return child.wait()


def _reason(code: int, log: Path) -> str:
    """The reason why a process failed: a signal, the raised error, or the log's last line."""
    if code < 0:
        return f"ended by signal {-code}, after writing {log}"
    ended = f"exit code {code}"
    lines = [RANK.sub("", line) for line in log.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line.strip()]
    if not lines:
        return ended
    begun = [number for number, line in enumerate(lines) if line.endswith(TRACEBACK)]
    raised = []
    if begun and code == 1:
        # The first of several lines names the error.
        raised = [line for line in lines[begun[-1] + 1 :] if not line.startswith(" ")]
    return f"{(raised or lines[-1:])[0].strip()[:300]} ({ended})"


def _record(output: Path, cell: Cell) -> Path:
    return output / RECORDS / f"{cell}.json"


def _log(output: Path, cell: Cell) -> Path:
    return output / LOGS / f"{cell}.txt"
