"""A GPU against itself: engines, precisions, a training step, memory; and against the CPU.

    python benchmarks/accelerator.py [--device cuda] [--networks ctma-lite …] [-o OUT.json]

Weights are random. Everything is held against eager float32 with TF32 off, in one run; times are
medians of rounds, each waited for. The share is that of the rate of a large product of matrices in
bf16, measured first. Differences are the largest of logits, of eager float32 from the CPU's at
256 x 256.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch

from ctma import Predictor, Running, create_model
from ctma.devices import TRAINER_PRECISIONS, autocast
from ctma.errors import SettingError
from ctma.evaluation.workers import count_gmac
from ctma.models.layers import channels_last
from ctma.training.losses import change_loss
from ctma.training.settings import BCESettings

WAYS = (
    ("eager", "float32", False),
    ("eager", "float32", True),
    ("exact", "float32", False),
    ("eager", "bf16", True),
    ("exact", "bf16", True),
    ("compile", "bf16", True),
)
"""Engine, precision, and whether TF32 may stand in for float32."""

BATCH, CROP = 16, 256
"""Of a training step; a crop is also what is held against the CPU."""

ROUNDS, MATRIX = 7, 8192
GIGA, TERA = 1e9, 1e12


def waited(device, work):
    """Seconds that something takes, the queue of the device included, and its peak memory in GB."""
    found = []
    for _ in range(2):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return median(found), peak / GIGA


def allow_tf32(allowed):
    """Lets convolutions and products of float32 be computed in TF32, or not."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def matrix_rate(device, side):
    """Multiplications and additions a second of a large product in bf16."""
    left, right = torch.randn(2, side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / waited(device, lambda: left @ right)[0]


def looks(name, device, options, rate):
    """Inference, engine by engine."""
    torch.manual_seed(0)
    network = channels_last(create_model(name)).eval()
    small = torch.rand(2, 2, 3, CROP, CROP)
    allow_tf32(False)
    with torch.no_grad():
        expected = network(*small).fine
        network = network.to(device)
        found = network(*small.to(device)).fine.cpu()
        print(f"{name}: {(found - expected).abs().max():.1e} from the CPU", flush=True)
        pair = torch.rand(2, options.batch, 3, options.size, options.size, device=device)
        operations = 2 * GIGA * count_gmac(network, *pair[:, :1])
        expected = network(*pair).fine
    for engine, precision, tf32 in WAYS:
        allow_tf32(tf32)
        try:
            predictor = Predictor(network, Running(engine=engine, precision=precision))
            prepared = predictor.prepared.eval()
            with torch.no_grad():
                apart = (prepared(*pair).fine.float() - expected).abs().max().item()
                seconds, memory = waited(device, lambda prepared=prepared: prepared(*pair).fine)
        except SettingError as error:
            print(f"{name}: {error}", flush=True)
            continue
        seconds /= options.batch
        yield {
            "task": "inference",
            "network": name,
            "way": f"{engine} {precision}{' with TF32' if tf32 and precision == 'float32' else ''}",
            "milliseconds": 1000 * seconds,
            "share_of_matrix_rate": operations / seconds / rate,
            "peak_gigabytes": memory,
            "largest_difference": apart,
        }


def steps(name, device, batch):
    """A training step: as the network is written, and as fast as torch's settings make it."""
    before, after = torch.rand(2, batch, 3, CROP, CROP, device=device)
    change = torch.rand(batch, 1, CROP, CROP, device=device) > 0.9
    for precision in TRAINER_PRECISIONS:
        for fast in (False, True):
            allow_tf32(fast)
            torch.manual_seed(0)
            network = create_model(name).to(device).train()
            if fast:
                channels_last(network)
            optimizer = torch.optim.AdamW(network.parameters(), fused=fast or None)

            def learn(network=network, optimizer=optimizer, precision=precision):
                optimizer.zero_grad()
                with autocast(device, precision):
                    logits = network(before, after)
                change_loss(logits, change, BCESettings()).backward()
                optimizer.step()

            seconds, memory = waited(device, learn)
            extra = ", channels last, fused AdamW, TF32" if fast else ""
            yield {
                "task": "training step",
                "network": name,
                "way": f"{precision}{extra}",
                "milliseconds": 1000 * seconds,
                "peak_gigabytes": memory,
            }


def show(row, first):
    """One line of the table."""
    line = f"{row['network']:10} {row['task']:14} {row['way']:45} {row['milliseconds']:8.2f} ms"
    line += f" {first / row['milliseconds']:6.2f} times  {row['peak_gigabytes']:5.2f} GB"
    if "share_of_matrix_rate" in row:
        share = 100 * row["share_of_matrix_rate"]
        line += f"  {share:5.1f} % of the rate  {row['largest_difference']:.1e} apart"
    print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", nargs="+", default=["ctma-lite", "ctma-s", "ctma"])
    parser.add_argument("--size", type=int, default=1024, help="Side of a window that is seen.")
    parser.add_argument("--batch", type=int, default=4, help="Windows at a time.")
    parser.add_argument("--learned", type=int, default=BATCH, help="Crops in a training step.")
    parser.add_argument("--matrix", type=int, default=MATRIX)
    parser.add_argument("-o", "--output", type=Path, help="For all figures as JSON.")
    options = parser.parse_args()
    device = torch.device(options.device)
    rate = matrix_rate(device, options.matrix)
    print(f"{rate / TERA:.1f} TFLOP/s of a product of {options.matrix} squared in bf16", flush=True)
    rows = []
    for name in options.networks:
        for work in (looks(name, device, options, rate), steps(name, device, options.learned)):
            first = None
            for row in work:
                first = first or row["milliseconds"]
                show(row, first)
                rows.append(row)
                if options.output is not None:
                    found = {"matrix_rate": rate, "rows": rows}
                    options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
