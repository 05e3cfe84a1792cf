"""Runs one training of a benchmark in its own process: ``python -m ctma.benchmark.cell``.

A training that crashes does not stop the benchmark, and no other work disturbs the timing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from ctma.benchmark.plan import BenchmarkPlan, Cell, read_code, read_plan
from ctma.benchmark.record import RECORDS, code_fingerprint, describe_machine, outside_code
from ctma.checkpoints.header import read_header
from ctma.checkpoints.store import load_model
from ctma.data.images import save_image
from ctma.data.pairs import Pair, find_coding, read_change
from ctma.devices import autocast, find_device
from ctma.errors import CtmaError, SettingError, one_line
from ctma.evaluation.records import ScoreRecord
from ctma.evaluation.scoring import Judged, score_pairs, tell_how
from ctma.evaluation.tally import Tally
from ctma.evaluation.workers import count_gmac
from ctma.files import write_json
from ctma.inference.predictor import Predictor
from ctma.memory import keep_memory
from ctma.models.base import check_logits, evaluating
from ctma.models.layers import take_training_forms
from ctma.models.registry import create_model
from ctma.training.losses import change_loss
from ctma.training.run import train
from ctma.training.settings import Recipe

RUNS, MASKS, SECONDS = "runs", "masks", "seconds.json"
SPLIT = "test"
SHOWN = 4
"""Number of pairs whose pictures are shown: the pairs with the most change."""

SIDE, ROUNDS = 256, 7


class Clock(Callback):
    """Sums the seconds of a training, over all its interruptions.

    Args:
        path: The file of the sum.
    """

    def __init__(self, path: Path):
        self.path = path
        self.last = time.monotonic()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Adds the seconds of this epoch."""
        now = time.monotonic()
        if trainer.is_global_zero:
            write_json(self.path, round(self.read() + now - self.last, 1))
        self.last = now

    def read(self) -> float:
        """The sum of seconds so far."""
        return float(json.loads(self.path.read_bytes())) if self.path.is_file() else 0.0


def run_cell(folder: Path, cell: Cell, device: str) -> None:
    """Trains, chooses the checkpoint on validation, and scores the test split once."""
    plan, code = read_plan(folder), read_code(folder)
    assert plan is not None
    if code_fingerprint() != code:
        raise SettingError(f"{folder}: was begun by other code than this; name a new folder")
    recipe = plan.recipe_for(cell)
    output = folder / RUNS / str(cell)
    clock = Clock(output / SECONDS)
    result = train(
        recipe,
        plan.data,
        output,
        device=device,
        devices=plan.devices,
        precision=plan.precision,
        resume=True,
        callbacks=[clock],
    )
    if int(os.environ.get("LOCAL_RANK", 0)):
        return
    header = read_header(result.best)
    details = {
        "seed": cell.seed,
        "budget": plan.budget,
        "recipe": recipe.model_dump(mode="json"),
        "training_data": header.training_data,
        "validation_data": header.scores[0]["data"],
        "picked_on": header.scores[0]["split"],
        "validation_f1": result.scores.f1,
        "epoch": result.epoch,
        "code": code,
        "seconds": clock.read(),
    }
    masks = None if cell.seed else folder / MASKS / cell.network
    record = judge(plan, result.best, device, masks)
    write_json(folder / RECORDS / f"{cell}.json", record | details)


def judge(plan: BenchmarkPlan, checkpoint: Path, device: str, masks: Path | None) -> dict[str, Any]:
    """Scores a checkpoint on the test split.

    Args:
        plan: The plan, which determines how to score.
        checkpoint: The checkpoint.
        device: The device.
        masks: A folder for the masks of the shown pairs, if any.
    """
    pairs = plan.pairs(SPLIT)
    network = load_model(checkpoint).to(find_device(device))
    tally = Tally()
    shown = set() if masks is None else {pair.name for pair in most_changed(pairs)}

    def on_pair(judged: Judged) -> None:
        tally(judged)
        if masks is not None and judged.pair.name in shown:
            save_image(masks / f"{judged.pair.name}.png", judged.mask * np.uint8(255))

    predictor = Predictor(network, plan.running_on(network.device), source=checkpoint)
    scoring = plan.scoring()
    scores = score_pairs(predictor, pairs, scoring, on_pair=on_pair)
    name = Path(plan.data).resolve().name
    how = tell_how(predictor, pairs, scoring, split=SPLIT, data_name=name)
    # All checkpoints have the same file name, so the name of the folder is recorded.
    how = how.model_copy(update={"checkpoint_name": checkpoint.parent.name})
    made = {
        "machine": describe_machine(network.device),
        "network_code": outside_code(type(network)),
    }
    return ScoreRecord(how, scores).as_dict() | tally.as_dict() | made


def measure(plan: BenchmarkPlan, network: str, device: str) -> dict[str, Any]:
    """Measures a network's costs: parameters, GMAC, seconds per training step and per pair.

    Args:
        plan: The plan, which determines the size of a step.
        network: The network's name.
        device: The device.
    """
    recipe = plan.replace(pretrained=False).recipe_for(Cell(network, 0))
    model = create_model(recipe.network, **recipe.arguments).to(find_device(device))
    with evaluating(model), torch.no_grad():
        images = torch.rand(2, 1, model.bands, SIDE, SIDE, device=model.device)
        gmac = count_gmac(model, *images)
        with autocast(model.device, plan.precision):
            pair = _seconds(lambda: model(*images), model.device, rounds=ROUNDS)
    take_training_forms(model)
    if model.device.type == "cpu":
        keep_memory()
    step = _seconds(lambda: _learn(model, recipe, plan.precision), model.device, rounds=2)
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "gmac": gmac,
        "step_seconds": step,
        "pair_seconds": pair,
        "machine": describe_machine(model.device),
    }


def most_changed(pairs: list[Pair]) -> list[Pair]:
    """The pairs with the most change, the most changed pair first."""
    coding = find_coding(pairs)

    def changed(pair: Pair) -> int:
        assert pair.change is not None
        return int((read_change(pair.change, coding) == 1).sum())

    return sorted(pairs, key=changed, reverse=True)[:SHOWN]


def _learn(model: Any, recipe: Recipe, precision: str) -> None:
    size = recipe.data.batch_size, model.bands, recipe.data.crop_size, recipe.data.crop_size
    before, after = torch.rand(2, *size, device=model.device)
    change = (before[:, :1] > 0.9).to(before.dtype)
    with autocast(model.device, precision):
        logits = model.train()(before, after)
        check_logits(model, logits, before)
        loss = change_loss(logits, change, recipe.loss)
    loss.backward()
    model.zero_grad()


def _seconds(act: Any, device: torch.device, rounds: int) -> float:
    """The median seconds of ``rounds`` runs, after an untimed first run."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        act()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return median(times[1:])


def _end_with_parent() -> None:
    """Ends this process when its parent process has ended, for any reason."""
    while os.read(0, 1):
        pass
    os._exit(1)


def main() -> None:
    """Runs the command line; prints an error as one last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("train", "measure"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--plan", help="As JSON.")
    parser.add_argument("--costs", type=Path, help="Where what was measured goes.")
    parser.add_argument("--network", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        if options.task == "measure":
            costs = measure(
                BenchmarkPlan(**json.loads(options.plan)), options.network, options.device
            )
            write_json(options.costs, costs)
        else:
            cell = Cell(options.network, options.seed)
            run_cell(options.folder, cell, options.device)
    except CtmaError as error:
        print(one_line(error), file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
