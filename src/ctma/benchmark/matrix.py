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
from ctma.benchmark.plan import PLAN, Cell, Plan, read_code, read_plan
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
"""How a traceback's first line ends; that of a loader's process stands within another."""

RANK = re.compile(r"^\[rank\d+\]: ?")
"""What stands before lines of processes that share a training."""

LOOK = 0.2
"""Seconds between two looks at which trainings have ended."""


@dataclass(frozen=True)
class Outcome:
    """What a benchmark has come to.

    Attributes:
        done: Trainings with a record.
        failed: Those that failed, with the reason.
    """

    done: list[Cell]
    failed: dict[Cell, str]


@dataclass(frozen=True)
class Estimate:
    """What a training will take.

    Attributes:
        network: Its name.
        trainings: How many are to be done.
        steps: Of the optimizer, each.
        seconds: Each takes, for steps, validations and the test, from those that were timed.
        costs: What was measured, see ``cell.measure``.
        failure: Why it could not be timed, if so.
    """

    network: str
    trainings: int
    steps: int
    seconds: float
    costs: dict[str, Any]
    failure: str = ""


def estimate(
    plan: Plan, output: Path | None = None, *, device: str = "auto", on_progress: Progress = ignore
) -> list[Estimate]:
    """Times a step of every network, each alone, and says what a training of it will take.

    Nothing is written, and the health of the data is not looked at.

    Args:
        plan: What is compared, and how.
        output: The benchmark's folder, whose records are not made again.
        device: Where.
        on_progress: Told how many networks were timed, and of how many.

    Raises:
        CtmaError: As of :func:`run_benchmark` where a recipe, the crops or the folder are wrong.
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
    found = []
    for name in plan.models:
        recipe = recipes[name]
        pairs = find_training_pairs(Path(plan.data), recipe.data)
        drawn = recipe.data.draws or pairs.count * recipe.data.repeats
        steps = recipe.trainer.epochs * -(-drawn // (recipe.data.batch_size * plan.devices))
        costs, failure = _measure(plan, name, device)
        looks = recipe.trainer.epochs * _windows(pairs.validation) + test
        seconds = steps * costs.get("step_seconds", 0) + looks * costs.get("pair_seconds", 0)
        trainings = sum(cell.network == name for cell in missing)
        found.append(Estimate(name, trainings, steps, seconds, costs, failure))
        on_progress(len(found), len(plan.models))
    return found


def _windows(pairs: Sequence[Pair]) -> int:
    """How many windows of the size that is timed pairs have, each taken to be like the first."""
    height, width = read_pair(pairs[0])[0].shape[:2]
    return len(pairs) * -(-height // SIDE) * -(-width // SIDE)


def run_benchmark(
    plan: Plan,
    output: str | Path,
    *,
    resume: bool = False,
    allow_leak: str | None = None,
    device: str = "auto",
    jobs: int = 1,
    on_progress: Progress = ignore,
    on_note: Say = ignore,
) -> Outcome:
    """Trains and scores every network of a plan with every seed.

    A training that fails is recorded with its reason, and the others go on.

    Args:
        plan: What is compared, and how.
        output: The benchmark's folder: records, runs, and what each network costs.
        resume: Go on where it stopped; what failed is tried again. Networks and seeds may be
            added.
        allow_leak: The name of the data folder, if it may be used although another split
            shows scenes of its test split.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, or ``"cuda:1"``.
        jobs: How many trainings run side by side, as on a GPU that small networks leave idle.
        on_progress: Told how many trainings are done, and of how many.
        on_note: Told a line after each.

    Raises:
        DataError: If the data is not there, is damaged, changed, holds a split without any change,
            or shows scenes of the test split in another.
        OutputError: If the folder holds a benchmark already, or cannot be written.
        SettingError: If a recipe cannot be meant, crops are larger than images, it is to be resumed
            by another plan or by other code, or trainings that are spread over devices are to run
            side by side.
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
    return Outcome([cell for cell in cells if cell not in failed], failed)


def _check_former(plan: Plan, output: Path, code: str, *, resume: bool) -> None:
    """Refuses a folder whose benchmark is of another plan or code, or is not to be gone on with."""
    former = read_plan(output)
    if former is None:
        if recorded_networks(output):
            raise OutputError(f"{output}: holds records, but their plan ({PLAN}) is gone")
        return
    if not resume:
        raise OutputError(f"{output}: holds a benchmark already; go on with it by `resume`")
    for name in Plan.model_fields:
        before, now = getattr(former, name), getattr(plan, name)
        if before != now and name not in MAY_GROW:
            raise SettingError(f"`{name}` {now}: {output} was begun with {before}")
    if (begun := read_code(output)) != code:
        raise SettingError(
            f"{output}: was begun by other code ({begun}) than this ({code}), and does not compare "
            "with what would follow; name a new folder"
        )
    _check_own_code(plan, output)


def _check_own_code(plan: Plan, output: Path) -> None:
    """Refuses networks from outside the package that changed since they were trained here."""
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


def _take_costs(plan: Plan, output: Path, device: str, on_note: Say) -> None:
    """Measures what the networks cost, all of them in one go."""
    path = output / COSTS
    names = [*dict.fromkeys([*plan.models, *sorted(recorded_networks(output))])]
    known = read_kept(path)
    if all(known.get(name) for name in names):
        return
    costs = {}
    for name in names:
        costs[name], failure = _measure(plan, name, device)
        if failure:
            on_note(f"{name}: its cost is not known ({failure})")
    write_json(path, costs)


def _measure(plan: Plan, network: str, device: str) -> tuple[dict[str, Any], str]:
    """What a network costs, and why that is not known, if so."""
    with TemporaryDirectory() as folder:
        costs, log = Path(folder, "costs.json"), Path(folder, "log.txt")
        asked = ["--plan", plan.model_dump_json(), "--costs", str(costs), "--device", device]
        child = _begin(["measure", "--network", network, *asked], log)
        try:
            code = child.wait()
        finally:
            _end(child)
        return ({}, _reason(code, log)) if code else (json.loads(costs.read_bytes()), "")


def _run_all(
    output: Path, cells: Sequence[Cell], device: str, jobs: int
) -> Iterator[tuple[Cell, str]]:
    """Trains and scores in other processes, so many at once; gives each with why it failed."""
    waiting = deque(cells)
    running: dict[Cell, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.popleft()
                asked = ["train", "--network", cell.network, "--seed", str(cell.seed)]
                asked += ["--folder", str(output), "--device", device]
                running[cell] = _begin(asked, _log(output, cell))
            time.sleep(LOOK)
            for cell, child in [*running.items()]:
                if child.poll() is not None:
                    del running[cell]
                    yield cell, _settle(output, cell, _end(child))
    finally:
        for child in running.values():
            _end(child)


def _settle(output: Path, cell: Cell, code: int) -> str:
    """Why a training failed, empty where it did not; kept for the report."""
    failure = output / FAILURES / f"{cell}.json"
    if not code and _record(output, cell).exists():
        failure.unlink(missing_ok=True)
        return ""
    reason = _reason(code, _log(output, cell))
    write_json(failure, {"network": cell.network, "seed": cell.seed, "reason": reason})
    return reason


def _begin(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Begins a cell; its standard input ends when this process does, and then so does it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ctma.benchmark.cell", *arguments]
    with log.open("w") as file:
        return subprocess.Popen(  # noqa: S603 - ourselves, and no shell
            command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT
        )


def _end(child: subprocess.Popen[bytes]) -> int:
    """Ends a cell that has not ended by itself; gives its exit code."""
    with child:
        assert child.stdin is not None
        child.stdin.close()
        return child.wait()


def _reason(code: int, log: Path) -> str:
    """Why a process failed: what was raised, else its last line."""
    ended = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    lines = [RANK.sub("", line) for line in log.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line.strip()]
    if not lines:
        return ended
    begun = [number for number, line in enumerate(lines) if line.endswith(TRACEBACK)]
    raised = []
    if begun and code == 1:
        # Of several lines the first says what it is.
        raised = [line for line in lines[begun[-1] + 1 :] if not line.startswith(" ")]
    return f"{(raised or lines[-1:])[0].strip()[:300]} ({ended})"


def _record(output: Path, cell: Cell) -> Path:
    return output / RECORDS / f"{cell}.json"


def _log(output: Path, cell: Cell) -> Path:
    return output / LOGS / f"{cell}.txt"
