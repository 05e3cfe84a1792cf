"""A device against the CPU: do they agree, what does bf16 change, how long is a step.

    python benchmarks/accelerator.py [--device cuda] [--networks ctma-lite …] [--batch 16]

Weights are random; what is compared are probabilities of one batch. Times are medians of ten, each
waited for.
"""

import argparse
import time
from statistics import median

import torch

from ctma import create_model
from ctma.devices import TRAINER_PRECISIONS, autocast
from ctma.models.layers import channels_last
from ctma.training.losses import change_loss
from ctma.training.settings import BCESettings

TURNS = 10


def waited(device, work):
    """Seconds that something takes, the queue of the device included."""
    found = []
    for _ in range(TURNS + 2):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - start)
    return median(found[2:])


def lines(name, device, batch, size):
    """What there is to say of a network."""
    torch.manual_seed(0)
    network = channels_last(create_model(name)).eval()
    pair = torch.rand(2, batch, 3, size, size)
    with torch.no_grad():
        expected = network(*pair[:, :2]).fine.sigmoid()
    network, pair = network.to(device), pair.to(device)
    change = torch.rand(batch, 1, size, size, device=device) > 0.9
    optimizer = torch.optim.AdamW(network.parameters())
    for precision in TRAINER_PRECISIONS:

        def look(precision=precision):
            with torch.no_grad(), autocast(device, precision):
                return network(*pair).fine

        def learn(precision=precision):
            optimizer.zero_grad()
            with autocast(device, precision):
                logits = network(*pair)
            change_loss(logits, change, BCESettings()).backward()
            optimizer.step()

        network.eval()
        apart = (look()[:2].float().sigmoid().cpu() - expected).abs().max()
        seconds = waited(device, look)
        trained = {key: weight.clone() for key, weight in network.state_dict().items()}
        network.train()
        step = waited(device, learn)
        network.load_state_dict(trained)
        megapixels = batch * size**2 / 1e6
        yield (
            f"{name}, {precision}: {apart:.1e} from the CPU in float32; "
            f"{megapixels / seconds:.1f} Mpx/s seen, {megapixels / step:.1f} Mpx/s learned"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", nargs="+", default=["ctma-lite", "ctma-s", "ctma"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    for name in options.networks:
        for line in lines(name, torch.device(options.device), options.batch, options.size):
            print(line, flush=True)


if __name__ == "__main__":
    main()
