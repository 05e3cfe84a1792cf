"""The released implementation's command line, word for word.

``train.py train|eval --exp_config FILE [--resume FILE] [--KEY VALUE …]``: every key of the
configuration is an option; keys that are true or false are flags.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ctma.cli.app import run_guarded
from ctma.cli.output import print_scores, progress, say
from ctma.compat.configuration import ReleasedConfig, boolean_keys, load_config
from ctma.compat.run import evaluate_released, train_released
from ctma.errors import SettingError
from ctma.memory import keep_by_default
from ctma.training.recipes import read_yaml


def main() -> None:
    """Runs the released command line; errors as in ``ctma``."""
    keep_by_default()
    arguments = _parse(sys.argv[1:])
    run_guarded(lambda: _run(arguments), debug=arguments.debug_on is True, naming=naming)


def naming(key: str) -> str:
    """The option of a key, with the spelling of the key."""
    return f"--{key}"


def _run(arguments: argparse.Namespace) -> None:
    overrides = {
        key: value
        for key, value in vars(arguments).items()
        if value is not None and key not in {"command", "exp_config"}
    }
    config = load_config(arguments.exp_config, {key: _value(overrides[key]) for key in overrides})
    if arguments.command == "train":
        result = train_released(config, on_note=say)
        say(f"best: {result.best}, epoch {result.epoch}, F1 {100 * result.f1:.2f} on val")
        return
    with progress("Scoring") as on_progress:
        report = evaluate_released(config, on_progress)
    print_scores(report.record)
    for path in report.files:
        say(f"wrote {path}")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("train", "eval"))
    parser.add_argument("--exp_config", required=True, metavar="FILE")
    for name, field in ReleasedConfig.model_fields.items():
        key = field.alias or name
        if key in boolean_keys():
            parser.add_argument(f"--{key}", action="store_true", default=None)
        else:
            parser.add_argument(f"--{key}")
    return parser.parse_args(arguments)


def _value(text: Any) -> Any:
    """An option's text as a YAML value."""
    if not isinstance(text, str) or not text:
        return text
    try:
        return read_yaml(f"value: {text}", text)["value"]
    except SettingError:
        return text
