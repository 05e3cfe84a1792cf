"""Seconds a training step on the CPU: networks as they are written against how they are trained.

    python benchmarks/training.py [--network NAME] [--against SRC]

A step is forward, loss, backward and Adam. Each way is a process of its own that works while
the others wait; they take turns, and the ratios are those of the medians to the first way.
``--against`` is the folder ``src`` of another checkout, whose training takes turns too.
"""

import argparse
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from statistics import median

import torch

from ctma import create_model
from ctma.devices import autocast
from ctma.memory import KEEP_MEMORY
from ctma.models import layers
from ctma.training.losses import change_loss
from ctma.training.settings import BCESettings

WAYS = {
    "as written, bf16": ("bf16", "written"),
    "trained, bf16": ("bf16", "trained"),
    "as written, float32": ("float32", "written"),
    "trained, float32": ("float32", "trained"),
}
CROPS = {"ctma-s": (16, 128), "ctma": (4, 128), "ctma-lite": (12, 192)}
TURNS = 9


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", action="append", choices=CROPS)
    parser.add_argument("--against", type=Path, help="The folder `src` of another checkout.")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return
    ways = dict(WAYS)
    if options.against:
        ways["other checkout, bf16"] = ("bf16", "trained", options.against.resolve())
    for network in options.network or CROPS:
        count, size = CROPS[network]
        print(f"{network}, {count} crops of {size} x {size}", flush=True)
        workers = {way: start(network, *how) for way, how in ways.items()}
        found = {way: [] for way in ways}
        for _ in range(TURNS + 1):
            for way, worker in workers.items():
                worker.stdin.write("\n")
                worker.stdin.flush()
                found[way].append(tuple(map(float, worker.stdout.readline().split())))
        for worker in workers.values():
            worker.communicate()
        report(found)


def report(found):
    """The table; the first step, which warms up, does not count."""
    seconds = {way: median(step for step, _ in steps[1:]) for way, steps in found.items()}
    first = next(iter(found))
    for way, steps in found.items():
        apart = max(
            abs(loss - exact) for (_, loss), (_, exact) in zip(steps, found[first], strict=True)
        )
        print(
            f"  {way}: {seconds[way]:.2f} s a step, {seconds[first] / seconds[way]:.2f} times as "
            f"fast, losses at most {apart:.1e} apart",
            flush=True,
        )


def start(network, precision, way, source=None):
    """A process that waits for its turns; memory is kept as by ``ctma train``."""
    environment = {KEEP_MEMORY: "1"} | ({"PYTHONPATH": str(source)} if source else {})
    return subprocess.Popen(
        [sys.executable, __file__, "--work", network, precision, way],
        env=os.environ | environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def work(name, precision, way):
    """Steps, one a line read; tells the seconds and the loss."""
    count, size = CROPS[name]
    torch.manual_seed(0)
    torch.set_num_threads(2)
    # As in the shipped recipes.
    arguments = {} if name == "ctma-lite" else {"joint_statistics": True}
    network = layers.channels_last(create_model(name, **arguments)).train()
    optimizer = torch.optim.Adam(network.parameters(), fused=way == "trained")
    if way == "trained":
        take_forms(network)
    before, after = torch.rand(2, count, 3, size, size)
    change = torch.rand(count, 1, size, size) > 0.9
    settings = BCESettings(coarse=1.0, dice=0.5, coarse_dice=0.5)
    for _ in sys.stdin:
        begin = time.perf_counter()
        optimizer.zero_grad()
        with autocast(torch.device("cpu"), precision):
            logits = network(before, after)
        loss = change_loss(logits, change, settings)
        loss.backward()
        optimizer.step()
        print(time.perf_counter() - begin, loss.item(), flush=True)


def take_forms(network):
    """Forms for training; former checkouts kept them elsewhere, and patched them in."""
    if hasattr(layers, "take_training_forms"):
        layers.take_training_forms(network)
    else:
        import_module("ctma.training.arithmetic").speed_up(network)


if __name__ == "__main__":
    main()
