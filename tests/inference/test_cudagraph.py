"""The engine of recorded launches, on an emulation of CUDA's graphs that runs on the CPU."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ctma import create_model, load
from ctma.engines.cudagraph import KEPT, CudaGraph
from ctma.engines.exact import Exact
from ctma.errors import SettingError
from ctma.models.base import Fingerprint
from support.network_tester import live_in


class Graph(TorchDispatchMode):
    """Records operations; a replay computes them again, into the same memory."""

    made = 0

    def __init__(self):
        super().__init__()
        Graph.made += 1
        self.steps = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        self.steps.append((operation, args, kwargs or {}, out))
        return out

    def __exit__(self, *error):
        super().__exit__(*error)
        self.steps[-1][-1].zero_()  # a GPU computes nothing while it records

    def replay(self):
        for operation, args, kwargs, out in self.steps:
            again = operation(*args, **kwargs)
            for place, value in zip(tree_leaves(out), tree_leaves(again), strict=True):
                place.copy_(value)


@pytest.fixture
def cuda(monkeypatch):
    stream = SimpleNamespace(wait_stream=lambda _: None)
    monkeypatch.setattr("torch.cuda.CUDAGraph", Graph)
    monkeypatch.setattr("torch.cuda.graph", lambda graph: graph)
    monkeypatch.setattr("torch.cuda.Stream", lambda: stream)
    monkeypatch.setattr("torch.cuda.current_stream", lambda: stream)
    monkeypatch.setattr("torch.cuda.stream", lambda _: nullcontext())
    monkeypatch.setattr(Graph, "made", 0)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return live_in(create_model("ctma-lite", video_len=0)).eval()


@torch.no_grad()
def test_replays_give_the_logits_of_each_pair_and_each_size(cuda, network):
    fingerprint = Fingerprint(network)
    engine = CudaGraph(network, "float32", fingerprint=fingerprint)
    plain = Exact(network, "float32", fingerprint=fingerprint)
    sizes = (64, 96, 64, 96, 64)
    found = []
    for size in sizes:
        pair = torch.rand(2, 1, 3, size, size)
        found.append((engine.run(*pair), plain.run(*pair)))
    assert Graph.made == 2
    for logits, expected in found:  # a later replay leaves earlier logits as they are
        torch.testing.assert_close(logits, expected)


@torch.no_grad()
def test_only_the_last_few_sizes_stay_recorded(cuda, network):
    engine = CudaGraph(network, "float32", fingerprint=Fingerprint(network))
    for size in [*range(64, 64 + 16 * (KEPT + 1), 16), 64]:
        engine.run(*torch.rand(2, 1, 3, size, size))
    assert Graph.made == KEPT + 2


@torch.no_grad()
@pytest.mark.parametrize("fault", ["wrong", "refused"])
def test_a_recording_that_fails_or_gives_other_logits_is_refused(cuda, network, monkeypatch, fault):
    def replay(_):
        if fault == "refused":
            raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Graph, "replay", replay)
    engine = CudaGraph(network, "float32", fingerprint=Fingerprint(network))
    said = {"wrong": "other logits", "refused": "not permitted"}[fault]
    with pytest.raises(SettingError, match=f"engine cudagraph: .*{said}.*take exact"):
        engine.run(*torch.rand(2, 1, 3, 64, 64))


def test_without_a_gpu_the_engine_is_refused():
    predictor = load("ctma-lite", engine="cudagraph", device="cpu")
    with pytest.raises(SettingError, match="cudagraph runs on cuda, not on cpu"):
        _ = predictor.prepared
