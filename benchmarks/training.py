"""Seconds a training step of CTMA-S on the CPU: memory in huge pages, and bf16.

    python benchmarks/training.py

Each step is forward, loss, backward and Adam on 16 crops of 128 x 128, as in the shipped
recipes. The allocator is set before a process starts, so each way is a process of its own;
they take turns, and the ratio is that of the medians.
"""

import os
import subprocess
import sys
import time
from statistics import median

import torch

from ctma import create_model
from ctma.devices import autocast
from ctma.models.layers import channels_last
from ctma.training.losses import change_loss
from ctma.training.settings import BCESettings

HUGE_PAGES = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=10000000000"
)
WAYS = {
    "as it is": ("", "32-true"),
    "huge pages": (HUGE_PAGES, "32-true"),
    "huge pages and bf16": (HUGE_PAGES, "bf16-mixed"),
}
TURNS, STEPS = 2, 8


def main():
    if sys.argv[1:]:
        print(*seconds(sys.argv[1]))
        return
    found = {way: [] for way in WAYS}
    for _ in range(TURNS):
        for way, (tunables, precision) in WAYS.items():
            run = subprocess.run(
                [sys.executable, __file__, precision],
                env=os.environ | {"GLIBC_TUNABLES": tunables},
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            found[way] += map(float, run.stdout.split())
    for way, steps in found.items():
        print(f"{way}: {median(steps):.2f} s a step")
    plain, huge, bf16 = (median(steps) for steps in found.values())
    print(f"huge pages take {huge / plain:.2f} of the time, bf16 in them {bf16 / huge:.2f} of that")


def seconds(precision):
    """Of each step, after two to warm up."""
    torch.manual_seed(0)
    torch.set_num_threads(2)
    network = channels_last(create_model("ctma-s", joint_statistics=True)).train()
    optimizer = torch.optim.Adam(network.parameters())
    before, after = torch.rand(2, 16, 3, 128, 128)
    change = torch.rand(16, 1, 128, 128) > 0.9
    settings = BCESettings(coarse=1.0, dice=0.5, coarse_dice=0.5)
    for step in range(STEPS + 2):
        start = time.perf_counter()
        optimizer.zero_grad()
        with autocast(torch.device("cpu"), precision):
            logits = network(before, after)
        change_loss(logits, change, settings).backward()
        optimizer.step()
        if step >= 2:
            yield time.perf_counter() - start


if __name__ == "__main__":
    main()
