"""What parts of a training are worth: trained on with and without each, from the same weights.

    python benchmarks/levers.py --data DIR --init CHECKPOINT -o FOLDER

Each lever trains the compact network for one short epoch (138 steps where no more is said) by
``shipped/ctma-resnet34`` with a higher learning rate. What the first weights learned with a part
is not lost at once without it, so that this shows less than the part is worth. Printed is F1 on
validation at 0.5 and at the threshold that is best there, then, at the latter, on every sixth
view under the conditions of ``robustness.py``. The same with other seeds says what is no
difference. A second run trains only what the first did not.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from robustness import conditions

from ctma import calibrate, load, load_recipe
from ctma.data.dataset import PairDataset
from ctma.data.pairs import find_coding
from ctma.data.readers import find_pairs

RECIPE = "shipped/ctma-resnet34"


def sources(*repeats):
    """Those of the recipe, drawn as often as that: 0.5 m, 0.5 m with colour jitter, 1 m."""
    own = load_recipe(RECIPE).data.sources
    drawn = [
        source.model_copy(update={"repeats": often}).model_dump(mode="json")
        for source, often in zip(own, repeats, strict=True)
        if often
    ]
    return f"data.sources={json.dumps(drawn)}"


BASE = ("model.name=ctma-s", "trainer.epochs=1", "optimizer.lr=2e-3", sources(1, 1, 3))
LEVERS = {
    "as it is": (),
    "as it is, seed 1": ("seed=1",),
    "as it is, seed 2": ("seed=2",),
    "without swapped dates": ("data.without=[swap]",),
    "without identical pairs": ("data.without=[still]",),
    "without misregistration": ("data.without=[misregistration]",),
    "without light and colour": ("data.without=[colour]",),
    "without blur": ("data.without=[blur]",),
    "without JPEG": ("data.without=[jpeg]",),
    "without crops laid over change": ("data.focus=0",),
    "without the pairs at 1 m (125 steps)": (sources(2, 2, 0),),
    "constant learning rate": ("schedule.name=constant",),
}
PRECISION = "bf16"
EVERY = 6


def trained(options, name, settings):
    """The weights' file."""
    folder = options.output / "-".join(re.findall(r"\w+", name))
    changes = [part for setting in (*BASE, *settings) for part in ("--set", setting)]
    command = [sys.executable, "-m", "ctma", "train", RECIPE, "--precision", "auto"]
    command += ["--data", options.data, "--init", options.init, "-o", folder, "--resume", *changes]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    return folder / "best.safetensors"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Holds levir_cd_05m and _1m.")
    parser.add_argument("--init", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    validation = options.data / "levir_cd_05m"
    pairs = find_pairs(validation, "val")[::EVERY]
    dataset = PairDataset(pairs, find_coding(pairs))
    for name, settings in LEVERS.items():
        weights = trained(options, name, settings)
        calibrated = weights.with_name("calibrated.safetensors")
        found = calibrate(load(weights, precision=PRECISION), validation, calibrated)
        print(
            f"{name}: F1 {100 * found.f1_before:.2f}, best {100 * found.f1_after:.2f}", flush=True
        )
        for line in conditions(load(calibrated, precision=PRECISION).prepared, dataset):
            print(f"    {line}", flush=True)


if __name__ == "__main__":
    main()
