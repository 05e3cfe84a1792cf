"""What a benchmark compares, and how: its matrix of networks and seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from ctma.data.layouts import Layout
from ctma.data.readers import find_locations
from ctma.errors import SettingError, UnknownNameError
from ctma.evaluation.scoring import Scoring
from ctma.files import write_json
from ctma.models.registry import list_models, model_arguments
from ctma.settings import check_count, settle
from ctma.training.recipes import load_recipe, make_recipe
from ctma.training.settings import Recipe

PLAN = "benchmark.json"
MOST_EVALUATIONS = 6
"""How often, at most, a training by a budget is validated."""

EQUAL = {
    "optimizer": {"name": "adam", "lr": 1e-3, "weight_decay": 0.0},
    "schedule": {"name": "one-cycle", "warmup": 0.1},
}
"""What every network gets under a budget; loss and arguments stay its own."""

OWN_PART = "svcd"
"""The data whose recipes tell a network's arguments and loss."""


class Budget(NamedTuple):
    """How much every network learns from.

    Attributes:
        steps: Of the optimizer.
        batch: Pairs a step.
        crop: Side of the crops in pixels.
    """

    steps: int
    batch: int
    crop: int

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Reads ``STEPSxBATCHxCROP``.

        Raises:
            SettingError: If it is something else.
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
        """How many are seen in a training."""
        return self.steps * self.batch * self.crop**2

    def __str__(self) -> str:
        """As it was given."""
        return "x".join(map(str, self))


class Cell(NamedTuple):
    """One training of a benchmark."""

    network: str
    seed: int

    def __str__(self) -> str:
        """As its files are called."""
        return f"{self.network}-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """Everything that a benchmark's results depend on.

    Attributes:
        data: The data folder.
        models: Names of networks.
        seeds: How many trainings of each.
        budget: ``STEPSxBATCHxCROP``, the same for all; of released recipes none.
        recipe: ``budget``, or ``released``: each network's own recipe for these data;
            ``released/DATA`` takes that for other data.
        settings: Changes to the recipes: ``key=value`` for all, ``NETWORK:key=value`` for one.
        pretrained: Whether networks that can begin with ImageNet weights do.
        protocol: How networks are run over the images of the test split.
        precision: Of training and scoring: ``32-true``, ``bf16-mixed`` or ``auto``.
        subset: For SVCD, which sub-set.

    Raises:
        SettingError: If a value cannot be meant.
        UnknownNameError: If there is no such protocol or precision.
    """

    data: str
    models: tuple[str, ...]
    seeds: int = 1
    budget: str | None = None
    recipe: str = "budget"
    settings: tuple[str, ...] = ()
    pretrained: bool = True
    protocol: str = "crops"
    precision: str = "32-true"
    subset: str = "real"

    def __post_init__(self) -> None:
        settle(self)
        check_count("seeds", self.seeds)
        if not self.models or len({*self.models}) < len(self.models):
            raise SettingError("`models`: names of networks, each once")
        kind = self.recipe.partition("/")[0]
        if kind not in ("budget", "released"):
            raise SettingError(f"`recipe` {self.recipe}: budget, released or released/DATA")
        if (kind == "budget") != (self.budget is not None):
            raise SettingError("`budget` goes with `recipe` budget, and with no other")
        if self.budget is not None:
            Budget.parse(self.budget)
        assert self.scoring

    @property
    def scoring(self) -> Scoring:
        """How the test split is scored; thresholds are at 0.5 for all."""
        return Scoring(self.protocol, 0.5, precision=self.precision)

    def cells(self) -> list[Cell]:
        """Every training, seed by seed, so that a table is there early."""
        return [Cell(name, seed) for seed in range(self.seeds) for name in self.models]

    def recipe_for(self, cell: Cell) -> Recipe:
        """The recipe of one training.

        Raises:
            UnknownNameError: If there is no such network, recipe or key.
            SettingError: If a value is of the wrong type or out of range.
        """
        settings = [*self._own_settings(cell.network), f"seed={cell.seed}"]
        if not self.pretrained and "pretrained" in model_arguments(cell.network):
            settings.append("model.pretrained=false")
        if self.budget is None:
            return load_recipe(f"{self._released_data()}/{cell.network}", settings)
        budget = Budget.parse(self.budget)
        own = load_recipe(f"{OWN_PART}/{cell.network}").model_dump(mode="json")
        content = own | EQUAL | {"name": f"budget/{cell.network}"}
        content["data"] = {
            "draws": budget.steps // budget.evaluations * budget.batch,
            "batch_size": budget.batch,
            "crop_size": budget.crop,
            "subset": self.subset,
        }
        content["trainer"] = {"epochs": budget.evaluations}
        return make_recipe(content, settings)

    def write(self, folder: Path) -> None:
        """Keeps the plan in the benchmark's folder."""
        write_json(folder / PLAN, asdict(self))

    def _own_settings(self, network: str) -> Iterator[str]:
        for setting in self.settings:
            name, colon, rest = setting.partition(":")
            if not colon or "=" in name:
                yield setting
            elif name == network:
                yield rest
            elif name not in list_models():
                raise UnknownNameError("network", name, list_models())

    def _released_data(self) -> str:
        """Which data the released recipes are for."""
        given = self.recipe.partition("/")[2]
        if given:
            return given
        location = find_locations(self.data, Layout(self.subset, None)).get("train")
        labels = None if location is None else location.change
        return "svcd" if labels is not None and labels.name == "OUT" else "levir-cd"


def read_plan(folder: Path) -> Plan | None:
    """The plan that a benchmark's folder keeps, ``None`` if it is none.

    Raises:
        SettingError: If it cannot be read.
    """
    path = folder / PLAN
    if not path.is_file():
        return None
    try:
        return Plan(**json.loads(path.read_bytes()))
    except (TypeError, ValueError) as error:
        raise SettingError(f"{path}: is no plan of a benchmark ({error})") from error
