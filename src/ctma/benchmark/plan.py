"""The plan of a benchmark: its matrix of networks and seeds, and its settings."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import pydantic
import torch

from ctma.benchmark.published import find_published
from ctma.data.pairs import Pair
from ctma.data.readers import find_pairs
from ctma.devices import find_precision
from ctma.errors import SettingError, UnknownNameError
from ctma.evaluation.scoring import Scoring
from ctma.files import write_json
from ctma.inference.running import Running
from ctma.models.registry import list_models, model_arguments
from ctma.settings import Settings, check_count, check_precision
from ctma.training.recipes import load_recipe, make_recipe
from ctma.training.settings import Recipe

PLAN, CODE = "benchmark.json", "code"
MOST_EVALUATIONS = 6
"""Largest number of validations of a training with a budget."""

EQUAL = {
    "optimizer": {"name": "adam", "lr": 1e-3, "weight_decay": 0.0},
    "schedule": {"name": "one-cycle", "warmup": 0.1},
}
"""Settings of every network under a budget; each network keeps its own loss and arguments."""

PLAIN = "levir-cd"
"""The data set whose recipes are used if the data belong to no published set."""

KEPT = ("model.name", "seed", "data.folders", "data.training_split",
        "data.validation_split", "data.sources")  # fmt: skip
"""Keys that no setting may change, because they define the comparison."""

EVEN = ("data.draws", "data.repeats", "data.batch_size", "data.crop_size", "trainer.epochs",
        "trainer.accumulate", "trainer.patience")  # fmt: skip
"""Keys that a budget sets."""

NO_MATTER = "data.workers"
"""The key of data that may differ between networks under a budget."""


class Budget(NamedTuple):
    """The amount of training that every network gets.

    Attributes:
        steps: Optimizer steps.
        batch: Pairs per step.
        crop: Side of the crops in pixels.
    """

    steps: int
    batch: int
    crop: int

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Reads ``STEPSxBATCHxCROP``.

        Raises:
            SettingError: If the text has another form.
        """
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){2}", text):
            raise SettingError(f"`budget` {text}: expected STEPSxBATCHxCROP, such as 600x16x128")
        return cls(*map(int, text.split("x")))

    @property
    def evaluations(self) -> int:
        """Validations of a training: the largest number up to six that divides the steps."""
        return max(n for n in range(1, MOST_EVALUATIONS + 1) if self.steps % n == 0)

    @property
    def pixels(self) -> int:
        """Number of pixels that a training sees."""
        return self.steps * self.batch * self.crop**2

    def __str__(self) -> str:
        """The budget as ``STEPSxBATCHxCROP``."""
        return "x".join(map(str, self))


class Cell(NamedTuple):
    """One training of a benchmark."""

    network: str
    seed: int

    def __str__(self) -> str:
        """The name of the cell's files."""
        return f"{self.network}-{self.seed}"


class BenchmarkPlan(Settings):
    """Everything that a benchmark's results depend on.

    Attributes:
        data: The data folder.
        models: Names of networks.
        seeds: Number of trainings of each network.
        budget: ``STEPSxBATCHxCROP``, the same for all networks; ``None`` with released recipes.
        recipe: ``budget``, or ``released`` for each network's own recipe for these data. SVCD's
            folder of labels or the data folder's name determines the data set. ``budget/DATA``
            and ``released/DATA`` name the data set.
        settings: Changes to the recipes: ``key=value`` for all, ``NETWORK:key=value`` for one.
        pretrained: Whether networks start with ImageNet weights, if they can.
        protocol: How networks are run over the images of the test split.
        precision: Precision of training and scoring: ``float32``, ``bf16`` or ``auto``. ``auto``
            is bf16 where the hardware can multiply bf16.
        folders: The folder names of another layout, as ``before=X,after=Y,change=Z``.
        devices: Number of processes of a training, one per device. All processes share the batch
            of a budget; with released recipes, each process has a full batch.

    Raises:
        SettingError: If a value is not valid.
        UnknownNameError: If there is no such network, protocol or precision.
    """

    data: str
    models: tuple[str, ...]
    seeds: int = 1
    budget: str | None = None
    recipe: str = "budget"
    settings: tuple[str, ...] = ()
    pretrained: bool = True
    protocol: str = "crops"
    precision: str = "float32"
    folders: str | None = None
    devices: int = 1

    @pydantic.field_validator("data")
    @classmethod
    def _absolute(cls, data: str) -> str:
        return os.path.abspath(data)

    @pydantic.model_validator(mode="after")
    def _check_values(self) -> Self:
        for name in ("seeds", "devices"):
            check_count(name, getattr(self, name))
        if not self.models or len({*self.models}) < len(self.models):
            raise SettingError("`models`: names of networks, each once")
        for name in self.models:
            if name not in list_models():
                raise UnknownNameError("network", name, list_models())
        kind = self.recipe.partition("/")[0]
        if kind not in ("budget", "released"):
            raise SettingError(f"`recipe` {self.recipe}: budget, released or released/DATA")
        if kind == "budget" and self.budget is None:
            raise SettingError("`budget` is missing, such as 600x16x128")
        if kind != "budget" and self.budget is not None:
            raise SettingError(f"`budget` {self.budget}: `recipe` {self.recipe} has its own")
        if self.budget is not None and Budget.parse(self.budget).batch % self.devices:
            raise SettingError(f"`devices` {self.devices}: do not share the batch of {self.budget}")
        check_precision(self.precision)
        self.scoring()
        return self

    def scoring(self) -> Scoring:
        """How the test split is scored: at a threshold of 0.5."""
        return Scoring(protocol=self.protocol, threshold=0.5)

    def running_on(self, device: torch.device) -> Running:
        """How networks run on a device: with the eager engine."""
        return Running(engine="eager", precision=find_precision(self.precision, device))

    def cells(self) -> list[Cell]:
        """Every training, seed by seed, so that a first table is available early."""
        return [Cell(name, seed) for seed in range(self.seeds) for name in self.models]

    def recipe_for(self, cell: Cell) -> Recipe:
        """The recipe of one training.

        Raises:
            UnknownNameError: If there is no such network, recipe or key.
            SettingError: If a value is of the wrong type or out of range.
        """
        settings = [*self._own_settings(cell.network), f"seed={cell.seed}"]
        settings.append(f"data.folders={self.folders or 'null'}")
        if not self.pretrained and "pretrained" in model_arguments(cell.network):
            settings.append("model.pretrained=false")
        own_recipe = f"{self._published_data()}/{cell.network}"
        if self.budget is None:
            return load_recipe(own_recipe, settings)
        budget = Budget.parse(self.budget)
        released = load_recipe(own_recipe).model_dump(mode="json")
        content = released | EQUAL | {"name": f"budget/{cell.network}"}
        content["data"] = {
            "draws": budget.steps // budget.evaluations * budget.batch,
            "batch_size": budget.batch // self.devices,
            "crop_size": budget.crop,
        }
        content["trainer"] = {"epochs": budget.evaluations}
        return make_recipe(content, settings)

    def recipes(self) -> dict[str, Recipe]:
        """The recipe of every network, also of networks that only settings name.

        The benchmark may have begun with such networks. Errors as in ``recipe_for``.
        """
        named = {setting.partition(":")[0] for setting in self.settings} & {*list_models()}
        return {name: self.recipe_for(Cell(name, 0)) for name in sorted({*self.models, *named})}

    def pairs(self, split: str) -> list[Pair]:
        """The pairs of one split of the data; errors as in ``find_pairs``."""
        return find_pairs(self.data, split, folders=self.folders)

    def write(self, folder: Path, code: str) -> None:
        """Saves the plan in the benchmark's folder, with the fingerprint of the code."""
        write_json(folder / PLAN, self.model_dump(mode="json") | {CODE: code})

    def _own_settings(self, network: str) -> Iterator[str]:
        for setting in self.settings:
            name, colon, rest = setting.partition(":")
            if not colon or "=" in name:
                self._check(setting, setting, single=False)
                yield setting
            elif name not in list_models():
                raise UnknownNameError("network", name, list_models())
            elif name == network:
                self._check(setting, rest, single=True)
                yield rest

    def _check(self, setting: str, change: str, *, single: bool) -> None:
        """Refuses settings that would make the comparison invalid."""
        key = change.partition("=")[0]
        if key in KEPT:
            raise SettingError(f"`settings` {setting}: {key} is the benchmark's own")
        if self.budget is not None and key in EVEN:
            raise SettingError(f"`settings` {setting}: {key} follows from the budget")
        uneven = key.startswith(("data.", "trainer.")) and key != NO_MATTER
        if self.budget is not None and single and uneven:
            raise SettingError(f"`settings` {setting}: under a budget {key} is the same for all")

    def _published_data(self) -> str:
        """The data set whose recipes are used: as named, else by label or data folder."""
        if given := self.recipe.partition("/")[2]:
            return given
        first = self.pairs("train")[0]
        depth = len(Path(first.name).parts)
        if first.change is not None and first.change.parts[-depth - 1] == "OUT":
            return "svcd"
        return find_published(Path(self.data).resolve().name) or PLAIN


def read_code(folder: Path) -> str:
    """The fingerprint of the code that runs a benchmark; errors as in ``read_plan``."""
    return str(_read(folder / PLAN).get(CODE))


def read_plan(folder: Path) -> BenchmarkPlan | None:
    """Reads the plan of a benchmark's folder; ``None`` if the folder has no plan.

    Raises:
        SettingError: If the plan cannot be read.
    """
    path = folder / PLAN
    if not path.is_file():
        return None
    content = _read(path)
    content.pop(CODE, None)
    try:
        return BenchmarkPlan(**content)
    except SettingError as error:
        raise SettingError(f"{path}: is no plan of a benchmark ({error})") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise SettingError(f"{path}: is no plan of a benchmark ({error})") from error
    if not isinstance(content, dict):
        raise SettingError(f"{path}: is no plan of a benchmark")
    return content
