"""What commands make of damaged inputs: cut short, bits turned, pieces zeroed.

    python tests/faults/damage.py --each 100
    python tests/faults/damage.py --each 20 --kind png --kind "tif deflate" --seed 3

Each damaged file is read by a process of its own, forked where all is imported already. Right ends:

- Right: exit code 0, and the outputs are those of the sound input.
- One line: exit code 2 and one line.
- Other values: exit code 0 and other outputs; only where the format has no checksum.

All else is wrong: a traceback, a crash, more than ``MOST_MEMORY``, a run that hangs.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from forked import make_map, prepare_process, run_forked

MOST_MEMORY = 6 * 2**30
"""Bytes."""


class Kind(NamedTuple):
    """A kind of input.

    Attributes:
        file: The file that is damaged, below {base}.
        arguments: What reads the file; {work} is the folder of its outputs.
        made: A pattern of the files that it makes, below {work}.
        checked: Whether the format has a checksum, so that a change must not pass.
    """

    file: str
    arguments: str
    made: str
    checked: bool = False


SCENE = "predict {{base}}/{name}.tif {{base}}/b.tif -c {{base}}/m.safetensors -o {{work}}/out"
IMAGE = "predict {{base}}/a.{0} {{base}}/b.{0} -c {{base}}/m.safetensors -o {{work}}/out"
TRAIN = (
    "--data {base}/data -o {work}/run --device cpu --set model.video_len=2 --set data.repeats=1 "
    "--set data.crop_size=64 --set data.batch_size=4 --set data.workers=0 --set trainer.epochs=2"
)
COMPRESSIONS = ("none", "deflate", "lzw", "zstd", "packbits", "lzma", "webp", "jpeg")
KINDS = {
    **{
        f"tif {name}": Kind(f"{name}.tif", SCENE.format(name=name), "out/mask.tif")
        for name in COMPRESSIONS
    },
    "jp2": Kind("j.jp2", SCENE.format(name="j").replace("j.tif", "j.jp2"), "out/mask.tif"),
    "png": Kind("a.png", IMAGE.format("png"), "out/mask/*.png", checked=True),
    "jpg": Kind("a.jpg", IMAGE.format("jpg"), "out/mask/*.png"),
    "safetensors": Kind(
        "w.safetensors",
        IMAGE.format("png").replace("m.safetensors", "w.safetensors"),
        "out/mask/*.png",
        checked=True,
    ),
    "pth": Kind("w.pth", "convert {base}/w.pth {work}/out.safetensors", "out.safetensors", True),
    "ckpt": Kind(
        "run/latest.ckpt", f"train levir-cd/ctma-s {TRAIN} --resume", "run/best.safetensors", True
    ),
    "recipe": Kind("r.yaml", f"train {{base}}/r.yaml {TRAIN}", "run/best.safetensors"),
    "gpkg": Kind("map/changes.gpkg", "review {base}/map -o {work}/r.html", "r.html"),
    "summary": Kind("map/summary.json", "review {base}/map -o {work}/r.html", "r.html"),
    "list": Kind(
        "listed/list/val.txt",
        "eval {base}/m.safetensors --data {base}/listed --split val -o {work}/s.json",
        "s.json",
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=60, help="damaged files of a kind")
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "CTMA_ENGINE": "eager"}
    prepare_process()
    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CTMA_CACHE"] = f"{folder}/cache"
        base, work = Path(folder) / "base", Path(folder) / "work"
        write_inputs(base)
        for name in options.kind or KINDS:
            tables[name] = damage(name, KINDS[name], base, work, options)
            print(f"{name:<14}" + "".join(f"{tables[name][end]:>14}" for end in ENDS), flush=True)
    total = sum(tables.values(), Counter())
    print(f"{'all':<14}" + "".join(f"{total[end]:>14}" for end in ENDS))
    sys.exit(total["wrong"] > 0)


ENDS = ("tried", "right", "one line", "other values", "wrong")


def write_inputs(base):
    """Rasters of each compression, images, weights, a begun training, a map."""
    import rasterio.shutil
    import torch
    from PIL import Image

    import ctma
    from ctma.data.synthetic import write_synthetic
    from support.scenes import smooth, write_raster

    write_synthetic(base / "data", {"train": 4, "val": 6, "test": 2}, size=64)
    before, after = (smooth(seed, 200, 260) for seed in (1, 2))
    write_raster(base / "b.tif", after)
    for name in COMPRESSIONS:
        write_raster(base / f"{name}.tif", before, compress=name)
    rasterio.shutil.copy(base / "none.tif", base / "j.jp2", driver="JP2OpenJPEG")
    for name, pixels in (("a", before), ("b", after)):
        for form in ("png", "jpg"):
            Image.fromarray(pixels.transpose(1, 2, 0)).save(base / f"{name}.{form}")
    torch.manual_seed(0)
    network = ctma.create_model("ctma-s", video_len=2)
    for name in ("m", "w"):
        ctma.save_model(base / f"{name}.safetensors", network)
    ctma.save_model(base / "fc.safetensors", ctma.create_model("fc-ef"))
    ctma.convert(base / "fc.safetensors", base / "w.pth")
    make_map(base, "none.tif")
    for kind in ("A", "B", "label"):
        shutil.copytree(base / "data/val" / kind, base / "listed" / kind)
    names = sorted(path.name for path in (base / "data/val/A").iterdir())
    (base / "listed/list").mkdir()
    (base / "listed/list/val.txt").write_text("".join(f"{name}\n" for name in names))
    begin = KINDS["ckpt"].arguments.replace("{work}", "{base}").replace("--resume", "")
    code, said, _ = run_forked(
        begin.replace("epochs=2", "epochs=1").format(base=base), base / "report"
    )
    assert code == 0, said
    shutil.copy(base / "run/recipe.yaml", base / "r.yaml")


def damage(name, kind, base, work, options):
    """Damages one kind of file in many ways; counts the ends."""
    sound = (base / kind.file).read_bytes()
    right, table = None, Counter()
    rng = random.Random(f"{options.seed} {name}")
    for number in range(options.each + 1):
        changed = sound if right is None else spoil(sound, rng)
        (base / kind.file).write_bytes(changed)
        renew(work, base, kind)
        code, said, memory = run_forked(
            kind.arguments.format(base=base, work=work), work / "report"
        )
        found = {path.name: path.read_bytes() for path in sorted(work.glob(kind.made))}
        if right is None:
            assert code == 0, f"{name}: {said}"
            assert found, f"{name} makes the files that are compared"
            right = found
            continue
        end = judge(code, said, memory, found == right, kind.checked)
        table[end.partition(":")[0]] += 1
        if end.startswith("wrong"):
            print(f"{name}, {number}: {end}", flush=True)
    (base / kind.file).write_bytes(sound)
    return table | Counter(tried=options.each)


def renew(work, base, kind):
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    if kind.file.startswith("run/"):
        shutil.copytree(base / "run", work / "run")


def spoil(sound, rng):
    """The bytes of a file, cut short, with turned bits, or with a zeroed piece."""
    changed = bytearray(sound)
    way = rng.choice(("cut", "bits", "bits", "zeros"))
    place = rng.randrange(len(sound))
    if way == "cut":
        return bytes(changed[:place])
    if way == "zeros":
        size = min(rng.choice((16, 512, 4096)), len(sound) - place)
        changed[place : place + size] = bytes(size)
    else:
        # Half of them among the first bytes, where sizes and types stand.
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(min(len(sound), rng.choice((512, len(sound)))))
            changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def judge(code, said, memory, same, checked):
    lines = [line for line in said.splitlines() if "ctma: error" in line]
    if memory > MOST_MEMORY:
        return f"wrong: {memory / 2**30:.1f} GiB"
    if code == 2 and len(lines) == 1 and "Traceback" not in said:
        return "one line"
    if code != 0 or "Traceback" in said:
        return f"wrong: exit code {code}, {said[-400:]!r}"
    if same:
        return "right"
    return "wrong: exit code 0, other values" if checked else "other values"


if __name__ == "__main__":
    main()
