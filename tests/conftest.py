"""Settings for all tests; generated pairs, tiny models, and the golden weights."""

import ctypes
import faulthandler
import os
import sys

# Before anything is imported that looks, and for the processes that tests start too: how wide
# tables are, what runs networks that tests do not prepare, and how many threads share a sum; one,
# where tests run side by side.
os.environ |= {
    "COLUMNS": "200",
    "CTMA_ENGINE": "eager",
    "OMP_NUM_THREADS": "1" if "PYTEST_XDIST_WORKER" in os.environ else "2",
}

import pytest
import torch
from _pytest.faulthandler import fault_handler_stderr_fd_key

from ctma import create_model, save_model
from ctma.data.synthetic import write_synthetic
from support import commands
from support.browser import browser, visit  # noqa: F401
from support.golden import golden_state


@pytest.fixture(autouse=True, scope="session")
def _threads():
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


class _SignalStack(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@pytest.fixture(autouse=True)
def _crashes_are_told(request):
    """Puts Python's handler of crashes back, which Lightning takes down after each training.

    Handlers run on the usual stack. On a stack of their own that is too small for the registers of
    the processor (AMX), the kernel ends the process without a word when a child process ends.
    """
    faulthandler.disable()
    faulthandler.enable(request.config.stash[fault_handler_stderr_fd_key])
    if sys.platform == "linux":
        none = _SignalStack(None, 2, 0)  # SS_DISABLE
        ctypes.CDLL(None).sigaltstack(ctypes.byref(none), None)


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory):
    """Graphs that tests make are kept for this run alone."""
    os.environ["CTMA_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def ctma():
    """Runs the command line in this process."""
    return commands.run_here


@pytest.fixture(scope="session")
def ctma_alone():
    """Runs the command line in a process of its own."""
    return commands.run_alone


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Synthetic pairs of 64 pixels: 8 to train on, 5 to validate on, 4 to test on."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    write_synthetic(folder, {"train": 8, "val": 5, "test": 4}, size=64)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A checkpoint of CTMA-S with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, create_model("ctma-s", video_len=2))
    return path


@pytest.fixture(scope="session")
def pair(tiny_data):
    """Two images of one place."""
    return tiny_data / "test/A/test_0000.png", tiny_data / "test/B/test_0000.png"


@pytest.fixture(scope="session")
def golden_weights():
    """Weights under the released names."""
    return golden_state()


@pytest.fixture(scope="session")
def golden_file(golden_weights, tmp_path_factory):
    """The golden weights as a file of the released implementation."""
    path = tmp_path_factory.mktemp("golden") / "original.pth"
    state = {"epoch": 3, "state_dict": golden_weights, "optimizer": {}, "max_acc": (0.9, 2)}
    torch.save(state, path)
    return path
