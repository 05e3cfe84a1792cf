"""``ctma benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ctma.cli.commands.options import (
    Device,
    Folders,
    Json,
    Protocol,
    TrainingPrecision,
)
from ctma.cli.output import print_json, progress, say, show
from ctma.errors import SettingError
from ctma.types import counted, ignore

if TYPE_CHECKING:
    from ctma.benchmark.plan import BenchmarkPlan

app = typer.Typer(
    help="Train and score networks under one protocol, and put them in a table.",
    invoke_without_command=True,
)


DataFolder = Annotated[Path | None, typer.Option("--data", help="A data folder.", metavar="DIR")]
Models = Annotated[
    str, typer.Option(help="Names of networks, separated by commas.", metavar="NAME,NAME,…")
]
Seeds = Annotated[
    int, typer.Option(min=1, help="Number of trainings of each network, each with another seed.")
]
BudgetText = Annotated[
    str | None,
    typer.Option(help="What each training sees: STEPSxBATCHxCROP.", metavar="STEPSxBATCHxCROP"),
]
RecipeKind = Annotated[
    str, typer.Option(help="budget or released, with /DATA for the recipes of other data.")
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="The folder for the trainings, records and tables.", metavar="OUT"
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change the recipes: optimizer.lr=1e-3, or bit:optimizer.lr=1e-4 for one network.",
        metavar="[NETWORK:]KEY=VALUE",
    ),
]
FromScratch = Annotated[
    bool, typer.Option("--from-scratch", help="No ImageNet weights for any network.")
]
Devices = Annotated[
    int, typer.Option(min=1, help="Processes that share a training, one for each device.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Trainings side by side, as on a large GPU.")]
AllowLeak = Annotated[
    str | None,
    typer.Option(
        help="A data folder to accept although train or val shows scenes of test.",
        metavar="NAME",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the benchmark in OUT.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and its duration, and train nothing.")
]


@app.callback()
def benchmark(
    context: typer.Context,
    data: DataFolder = None,
    models: Models = "ctma,p2v,snunet,unet",
    seeds: Seeds = 1,
    budget: BudgetText = None,
    recipe: RecipeKind = "budget",
    output: Output = None,
    settings: Changes = None,
    from_scratch: FromScratch = False,
    protocol: Protocol = "crops",
    precision: TrainingPrecision = "float32",
    folders: Folders = None,
    device: Device = "auto",
    devices: Devices = 1,
    jobs: Jobs = 1,
    allow_leak: AllowLeak = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train and score networks under one protocol, and put them in a table."""
    if context.invoked_subcommand is not None:
        return
    from ctma.benchmark.plan import BenchmarkPlan

    if data is None or (output is None and not dry_run):
        missing = "data" if data is None else "output"
        raise SettingError(f"`{missing}` is missing: a benchmark needs `data` and `output`")
    plan = BenchmarkPlan(
        data=str(data),
        models=tuple(name.strip() for name in models.split(",") if name.strip()),
        seeds=seeds,
        budget=budget,
        recipe=recipe,
        settings=tuple(settings or ()),
        pretrained=not from_scratch,
        protocol=protocol,
        precision=precision,
        folders=folders,
        devices=devices,
    )
    if dry_run:
        _estimate(plan, output, device, as_json)
    elif output is not None:
        way = {"resume": resume, "allow_leak": allow_leak, "device": device, "jobs": jobs}
        _run(plan, output, as_json, **way)


def _estimate(plan: BenchmarkPlan, output: Path | None, device: str, as_json: bool) -> None:
    from ctma.benchmark.matrix import estimate_benchmark

    with progress("Timing a step") as on_progress:
        estimates = estimate_benchmark(plan, output, device=device, on_progress=on_progress)
    _print_estimates(estimates, as_json)
    if any(one.failure for one in estimates):
        raise typer.Exit(1)


def _run(plan: BenchmarkPlan, output: Path, as_json: bool, **way: Any) -> None:
    from ctma.benchmark.matrix import run_benchmark
    from ctma.benchmark.record import recorded_networks
    from ctma.benchmark.report import failure_notes

    with progress("Trainings") as on_progress:
        tell = ignore if as_json else say
        outcome = run_benchmark(plan, output, on_progress=on_progress, on_note=tell, **way)
    if recorded_networks(output):
        report(output, as_json=as_json)
    elif as_json:
        print_json({"rows": [], "notes": failure_notes(output), "records": []})
    if not as_json:
        say(f"{counted(len(outcome.done), 'training')} done, {len(outcome.failed)} failed")
    if outcome.failed:
        raise typer.Exit(1)


@app.command("report")
def report(
    folder: Annotated[Path, typer.Argument(help="A benchmark's folder.", metavar="OUT")],
    others: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            help="A score file of masks from other programs, written by ctma eval --masks.",
            metavar="FILE",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write OUT/table.md, table.json and table.html."""
    import json

    from ctma.benchmark.report import TABLES, write_benchmark_report

    files = write_benchmark_report(folder, others=others or ())
    if as_json:
        print_json(json.loads((folder / TABLES[1]).read_bytes()))
        return
    say((folder / TABLES[0]).read_text())
    for path in files:
        say(f"wrote {path}")


def _print_estimates(estimates: list[Any], as_json: bool) -> None:
    total = sum(one.trainings * one.seconds for one in estimates)
    if as_json:
        print_json({"seconds": total, "networks": [vars(one) for one in estimates]})
        return
    table = Table("network", "trainings", "steps")
    for name in ("s a step", "pairs/s", "parameters", "GMAC", "minutes"):
        table.add_column(name, justify="right")
    for one in estimates:
        if one.failure:
            table.add_row(one.network, str(one.trainings), str(one.steps), one.failure)
            continue
        cost = one.costs
        table.add_row(
            one.network,
            str(one.trainings),
            str(one.steps),
            f"{cost['step_seconds']:.2f}",
            f"{1 / cost['pair_seconds']:.2f}",
            f"{cost['parameters']:,}",
            f"{cost['gmac']:.1f}",
            f"{one.trainings * one.seconds / 60:.1f}",
        )
    show(table)
    say(f"all: {total / 3600:.1f} hours, from one step that was timed; reading is not in it")
