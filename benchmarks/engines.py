"""Milliseconds a pair with each engine, of this checkout against another one, in turns.

    python benchmarks/engines.py --against SRC [--model NAME] [--size 256] [--rounds 21]

``SRC`` is the folder ``src`` of another checkout. Each checkout is a process of its own for each
engine. The processes take turns, and the ratios are those of the medians.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

import ctma

HERE = Path(ctma.__file__).parents[1]
WAYS = (
    ("eager", "float32"), ("exact", "float32"), ("exact", "bf16"),
    ("openvino", "float32"), ("openvino", "bf16"), ("onnx", "float32"),
)  # fmt: skip
PAUSE = 0.03


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, required=True, help="Another checkout's `src`.")
    parser.add_argument("--model", default="ctma-lite")
    parser.add_argument("--size", default="256")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.model, *options.work, int(options.size))
        return
    for way in WAYS:
        workers = [start(options, way, source) for source in (options.against.resolve(), HERE)]
        times = [[], []]
        for number in range(options.rounds):
            for i in (0, 1) if number % 2 else (1, 0):
                time.sleep(PAUSE)
                workers[i].stdin.write("\n")
                workers[i].stdin.flush()
                times[i].append(float(workers[i].stdout.readline()))
        for worker in workers:
            worker.communicate()
        other, this = map(median, times)
        print(f"{' '.join(way)}: {other:.1f} ms there, {this:.1f} here: {this / other:.3f}")


def start(options, way, source):
    """A process of one checkout that waits for its turns."""
    command = [sys.executable, __file__, "--against", str(source), "--work", *way]
    worker = subprocess.Popen(
        [*command, "--model", options.model, "--size", options.size],
        env=os.environ | {"PYTHONPATH": str(source), "CTMA_KEEP_MEMORY": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    worker.stdout.readline()
    return worker


def work(model, engine, precision, size):
    """Milliseconds of a pair, one a line read; what the other left in caches is not timed."""
    network = prepared(model, engine, precision)
    torch.manual_seed(0)
    pair = torch.rand(2, 1, 3, size, size)
    with torch.inference_mode():
        network(*pair)
        print("ready", flush=True)
        for _ in sys.stdin:
            network(*pair)
            begin = time.perf_counter()
            network(*pair)
            print(1000 * (time.perf_counter() - begin), flush=True)


def prepared(model, engine, precision):
    """A network behind an engine; former checkouts called the function otherwise."""
    if hasattr(ctma, "load"):
        return ctma.load(model, engine=engine, precision=precision, device="cpu").prepared.eval()
    return ctma.prepare(ctma.load_model(model), engine, precision)


if __name__ == "__main__":
    main()
