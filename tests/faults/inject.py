"""What is left of a command whose n-th write fails, or that is killed there.

    python tests/faults/inject.py --each 100
    python tests/faults/inject.py --each 10 --command predict --command train --seed 3

Each fault runs in a process of its own, forked where all is imported already. ``shim.c`` makes the
write fail. Two ends are right:

- Whole: the files are those of a run without a fault.
- One line, or killed: exit code 2 and one line, or no line; every earlier file is as it was. The
  command given again, with ``--resume`` where it has one, then makes the files whole.

Everything else is lost. Needs Linux and a C compiler.
"""

import argparse
import ctypes
import errno
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from forked import make_map, prepare_process, run_forked

SHIM = Path(__file__).with_name("shim.c")
FAULTS = {
    "full disk": (errno.ENOSPC, True),
    "EIO": (errno.EIO, False),
    "EACCES": (errno.EACCES, False),
    "killed": (0, False),
}
"""The error, 0 to kill, and whether later writes fail too."""


class Command(NamedTuple):
    """A command to break.

    Attributes:
        arguments: Its arguments; {base} holds inputs, {work} is the folder of its outputs.
        made: Patterns of the files that it makes, below {work}.
        resume: Options to go on with.
        earlier: A file below {work} that is there before, with other content.
        told: What the one line that says the fault contains.
        ends: The exit code then.
    """

    arguments: str
    made: tuple[str, ...]
    resume: str = ""
    earlier: str = ""
    told: str = "ctma: error"
    ends: tuple[int, ...] = (2,)


TRAIN = (
    "train levir-cd/ctma-s --data {base}/data -o {work}/run --device cpu --set model.video_len=2 "
    "--set data.repeats=1 --set data.crop_size=64 --set data.batch_size=4 --set data.workers=0 "
    "--set trainer.epochs=2"
)
COMMANDS = {
    "predict": Command(
        "predict {base}/data/val/A {base}/data/val/B -c {base}/m.safetensors -o {work}/out",
        ("out/mask/*.png", "out/probability/*.png"),
    ),
    "predict a scene": Command(
        "predict {base}/a.tif {base}/b.tif -c {base}/m.safetensors -o {work}/out",
        ("out/mask.tif", "out/probability.tif", "out/changes.gpkg"),
        resume="--resume",
    ),
    "predict with workers": Command(
        "predict {base}/a.tif {base}/b.tif -c {base}/m.safetensors -o {work}/out --workers 2",
        ("out/mask.tif", "out/probability.tif", "out/changes.gpkg"),
        resume="--resume",
    ),
    "benchmark": Command(
        "benchmark --data {base}/data --models ctma-s,fc-ef --budget 2x2x64 --from-scratch "
        "-o {work}/bench --device cpu",
        ("bench/**/best.safetensors",),
        resume="--resume",
        told=" done, ",
        ends=(1, 2),
    ),
    "train": Command(TRAIN, ("run/best.safetensors", "run/latest.safetensors"), resume="--resume"),
    "calibrate": Command(
        "calibrate {base}/m.safetensors --data {base}/data -o {work}/c.safetensors --overwrite",
        ("c.safetensors",),
        earlier="c.safetensors",
    ),
    "convert": Command(
        "convert {base}/m.safetensors {work}/half.safetensors --half --overwrite",
        ("half.safetensors",),
        earlier="half.safetensors",
    ),
    "prepare": Command(
        "prepare levir-cd {base}/raw {work}/cut",
        ("cut/**/*.png",),
    ),
    "export": Command(
        "export {base}/m.safetensors -o {work}/m.onnx --overwrite", ("m.onnx",), earlier="m.onnx"
    ),
    "review": Command(
        "review {base}/map -o {work}/r.html --overwrite", ("r.html",), earlier="r.html"
    ),
    "compare": Command(
        "compare {base}/map {base}/map -o {work}/D --overwrite",
        ("D/*.gpkg", "D/*.html", "D/comparison.json"),
    ),
    "eval": Command(
        "eval {base}/m.safetensors --data {base}/data -o {work}/s.json --save-masks {work}/masks "
        "--overwrite",
        ("masks/*.png",),
    ),
}


def main():
    if "FAULTS_SHIM" not in os.environ:
        start_again()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=100, help="faults of a command")
    parser.add_argument("--command", action="append", choices=COMMANDS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    prepare_process()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        write_inputs(base)
        tables = {
            name: break_command(COMMANDS[name], base, Path(folder) / "work", options)
            for name in options.command or COMMANDS
        }
    print_table(tables)
    sys.exit(any(table["lost"] for table in tables.values()))


def start_again():
    """Starts this program anew, behind the library that breaks writes."""
    with tempfile.TemporaryDirectory() as folder:
        shim = Path(folder) / "shim.so"
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(shim), str(SHIM), "-ldl"]
        subprocess.run(command, check=True)
        environment = os.environ | {
            "LD_PRELOAD": str(shim), "FAULTS_SHIM": str(shim), "OMP_NUM_THREADS": "1",
            "CTMA_ENGINE": "eager", "CTMA_CACHE": str(Path(folder) / "cache"),
        }  # fmt: skip
        done = subprocess.run([sys.executable, *sys.argv], env=environment, check=False)
    sys.exit(done.returncode)


def write_inputs(base):
    """Pairs, an uncut data set, two rasters and a checkpoint."""
    import torch

    from ctma import create_model, save_model
    from ctma.data.synthetic import write_synthetic
    from support.scenes import smooth, write_raster

    write_synthetic(base / "data", {"train": 4, "val": 6, "test": 2}, size=64)
    write_synthetic(base / "raw", {"train": 1, "val": 1, "test": 1}, size=1024)
    for name, seed in (("a", 1), ("b", 2)):
        write_raster(base / f"{name}.tif", smooth(seed, 200, 260))
    torch.manual_seed(0)
    save_model(base / "m.safetensors", create_model("ctma-s", video_len=2))
    make_map(base, "a.tif")


def break_command(command, base, work, options):
    """Breaks one command at writes spread over its run; counts the ends."""
    library = ctypes.CDLL(os.environ["FAULTS_SHIM"])
    renew(work, command)
    code, said, writes = run(library, command, base, work)
    assert code == 0, said
    right = contents(work, command)
    assert right, "the command makes the files that are compared"
    table = Counter()
    rng = random.Random(options.seed)
    for number in range(options.each):
        fault = [*FAULTS][number % len(FAULTS)]
        place = (
            1 + number * writes // options.each
            if writes > options.each
            else 1 + rng.randrange(writes)
        )
        renew(work, command)
        end = break_once(library, command, base, work, (place, fault), right)
        table[end.partition(":")[0]] += 1
        if end.startswith("lost"):
            print(f"{command.arguments.split()[0]}, write {place} of {writes}, {fault}: {end}")
    return table | Counter(tried=options.each, writes=writes)


def break_once(library, command, base, work, at, right):
    """Runs a command with one fault, and again without; says how it ended."""
    place, fault = at
    code, said, _ = run(library, command, base, work, place, *FAULTS[fault])
    if code == 0:
        return "whole" if (odd := differing(work, command, right)) == "" else f"lost: exit 0, {odd}"
    lines = [line for line in said.splitlines() if command.told in line or "ctma: error" in line]
    if code != -9 and (code not in command.ends or len(lines) != 1 or "Traceback" in said):
        return f"lost: exit code {code}, {said[-300:]!r}"
    if code != -9 and command.earlier:
        kept = (work / command.earlier).read_bytes()
        if kept not in (b"earlier", right.get(command.earlier)):
            return f"lost: {command.earlier} is neither the former file nor the new one"
    told = ""
    for extra in [command.resume, ""] if command.resume else [""]:
        whole, line, _ = run(library, command, base, work, extra=extra)
        told += line[-200:]
        if whole == 0:
            break
    if whole != 0:
        return f"lost: cannot be repeated ({told!r})"
    if odd := differing(work, command, right):
        return f"lost: after the repeat, {odd}"
    return "killed, then whole" if code == -9 else "one line, then whole"


def run(library, command, base, work, place=-1, error=0, lasting=False, extra=""):
    """Runs a command in a forked process: exit code, what it said, and the writes counted."""
    counted = work.with_name("counts")
    counted.write_text("")

    def arm():
        os.environ["FAULTS_ARM"] = f"{place} {error} {int(lasting)} {work}"
        os.environ["FAULTS_COUNTS"] = str(counted)
        library.fault_arm(str(work).encode(), ctypes.c_long(place), error, int(lasting))

    def tell():
        with counted.open("a") as file:
            file.write(f"{library.fault_count()}\n")

    arguments = f"{command.arguments} {extra}".format(base=base, work=work)
    code, said, _ = run_forked(
        arguments,
        work.with_name("report"),
        arm,
        tell,
    )
    return code, said, max(map(int, counted.read_text().split()), default=0)


def renew(work, command):
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    if command.earlier:
        (work / command.earlier).write_bytes(b"earlier")


def differing(work, command, right):
    """The files that are not those of a run without a fault, in words; empty if there is none."""
    found = contents(work, command)
    odd = [
        name for name in sorted(found.keys() | right.keys()) if found.get(name) != right.get(name)
    ]
    return f"other than without a fault: {', '.join(odd)}" if odd else ""


def contents(work, command):
    return {
        str(path.relative_to(work)): path.read_bytes()
        for pattern in command.made
        for path in sorted(work.glob(pattern))
        if not path.name.startswith(".")
    }


def print_table(tables):
    ends = ("tried", "whole", "one line, then whole", "killed, then whole", "lost")
    print(f"{'command':<18}" + "".join(f"{end:>22}" for end in ("writes", *ends)))
    for name, table in tables.items():
        print(f"{name:<18}" + "".join(f"{table[end]:>22}" for end in ("writes", *ends)))
    total = sum(tables.values(), Counter())
    print(f"{'all':<18}" + " " * 22 + "".join(f"{total[end]:>22}" for end in ends))


if __name__ == "__main__":
    main()
