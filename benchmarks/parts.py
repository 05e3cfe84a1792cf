"""What CTMA's parts are worth in CTMA-Lite: trained with and without each, for one equal budget.

    python benchmarks/parts.py --data FOLDER_OF_PAIRS -o FOLDER [--seeds 3]

Each is 160 steps on 12 crops of 128 x 128 from ImageNet's weights, by one cycle; where a part is
left out a step is shorter as well, so the minutes are printed too. The first is the plain network.
A second run trains only what the first did not.
"""

import argparse
import csv
import re
import subprocess
import sys
import time
from pathlib import Path

BASE = (
    "trainer.epochs=1", "data.draws=1920", "data.batch_size=12", "data.crop_size=128",
    "data.workers=1", "data.augmentation=mild", "data.without=[still, misregistration]",
    "optimizer.name=adamw", "optimizer.lr=2e-3", "optimizer.backbone=0.5",
    "optimizer.weight_decay=0.01", "schedule.name=one-cycle", "loss.dice=1", "loss.coarse_dice=0.4",
)  # fmt: skip
PARTS = {
    "plain": ("model.video_len=0", "model.fusion=1"),
    "plain, coarse mask not taught": (
        "model.video_len=0", "model.fusion=1", "loss.coarse=0", "loss.coarse_dice=0",
    ),
    "temporal encoder of 8 frames": ("model.fusion=1",),
    "temporal encoder of 4 frames": ("model.fusion=1", "model.video_len=4"),
    "masked branch": ("model.video_len=0", "model.fusion=0.5"),
    "both": ("model.video_len=8", "model.fusion=0.5"),
    "plain, lite1": ("model.video_len=0", "model.fusion=1", "model.backbone=tf_efficientnet_lite1"),
    "plain, lite2": ("model.video_len=0", "model.fusion=1", "model.backbone=tf_efficientnet_lite2"),
}  # fmt: skip


def trained(options, name, seed):
    """F1 on validation at 0.5, in percent, and minutes."""
    folder = options.output / "-".join([*re.findall(r"\w+", name), str(seed)])
    settings = (*BASE, *PARTS[name], f"seed={seed}")
    command = [sys.executable, "-m", "ctma", "train", "levir-cd/ctma-lite", "--precision", "auto"]
    command += ["--data", options.data, "-o", folder, "--resume"]
    command += [part for setting in settings for part in ("--set", setting)]
    start = time.monotonic()
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    rows = csv.DictReader((folder / "logs/metrics.csv").open())
    (f1,) = (float(row["val_f1"]) for row in rows if row["val_f1"])
    return 100 * f1, (time.monotonic() - start) / 60


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Such as levir_cd_05m.")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    found = {name: [] for name in PARTS}
    for seed in range(options.seeds):  # so that all are known of one seed early
        for name in PARTS:
            found[name].append(trained(options, name, seed))
        for name, scores in found.items():
            mean = sum(f1 for f1, _ in scores) / len(scores)
            each = ", ".join(f"{f1:.1f}" for f1, _ in scores)
            print(f"{name}: F1 {mean:.1f} ({each}), {scores[0][1]:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
