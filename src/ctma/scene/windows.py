"""A network over the windows of a scene: in this process, or on a dask cluster."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ctma.devices import autocast, find_device
from ctma.errors import SettingError, extras, first_line
from ctma.inference.protocols import whole
from ctma.models.base import ChangeNetwork
from ctma.scene.plan import Images, Plan, Reader, WindowIndex
from ctma.scene.rasters import raster_settings

if TYPE_CHECKING:
    from distributed import Client

Windows = Generator[NDArray[np.float32], None, None]
WindowPredictor = Callable[[Sequence[WindowIndex]], Windows]
"""Gives the probability of each window, in order: (H, W), NaN where there is no data."""

AHEAD = 2
"""Windows in flight for each thread of a cluster."""

S = TypeVar("S")
T = TypeVar("T")


@dataclass
class Local:
    """Predicts windows here, while the next ones are read.

    On a CPU as many windows are predicted at once as there are threads, each by one thread:
    that is faster than all threads on one window, and as sums depend on how many threads
    share them, the only way that every machine and every worker gives the same bits.

    Attributes:
        plan: The plan.
        model: The network; it runs on the device it is on.
    """

    plan: Plan
    model: ChangeNetwork

    def __call__(self, indices: Sequence[WindowIndex]) -> Windows:
        """The windows, in order."""
        on_cpu = self.model.device.type == "cpu"
        threads = torch.get_num_threads()
        try:
            with (
                Reader(self.plan) as reader,
                closing(ahead(map(reader.read, indices))) as images,
                closing(in_order(self._look, images, threads if on_cpu else 1)) as windows,
            ):
                yield from windows
        finally:
            torch.set_num_threads(threads)

    def _look(self, images: Images) -> NDArray[np.float32]:
        return look(self.model, images, self.plan.precision)


@dataclass
class Cluster:
    """Predicts windows on the workers of a dask cluster, which read the sources themselves.

    Attributes:
        plan: The plan.
        model: The network; it travels once to each worker.
        client: A client of the cluster.
        device: The device that each worker uses, such as ``"auto"``.
    """

    plan: Plan
    model: ChangeNetwork
    client: Client
    device: str = "auto"

    def __call__(self, indices: Sequence[WindowIndex]) -> Windows:
        """The windows, in order; those of a worker that died are done by another."""
        # A task's result can be made again when its worker dies; scattered data could not.
        parcel = self.client.submit(
            _settle, _Parcel(deepcopy(self.model).cpu()), self.device, pure=False
        )
        waiting = deque(indices)
        flying: deque = deque()
        while waiting or flying:
            most = AHEAD * max(1, sum(self.client.nthreads().values()))
            while waiting and len(flying) < most:
                index = waiting.popleft()
                flying.append(
                    self.client.submit(_predict_on_worker, parcel, self.plan, index, pure=False)
                )
            yield _result(flying.popleft())


@contextmanager
def connect(workers: int | None, address: str | None) -> Iterator[Client]:
    """A client of a cluster: a running one, or one of ``workers`` processes started here.

    Raises:
        MissingExtraError: If dask is not installed.
        SettingError: If no scheduler answers.
    """
    with extras():
        import dask
        from distributed import Client, LocalCluster
    if address is not None:
        try:
            client = Client(address, timeout="10s")
        except (OSError, ValueError) as error:
            raise SettingError(f"`cluster` {address}: no dask scheduler answers there") from error
        with client:
            yield client
        return
    with (
        # Else dask would leave its choice of threads in this process's environment.
        dask.config.set({"distributed.nanny.pre-spawn-environ": {}}),
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def look(model: ChangeNetwork, images: Images, precision: str) -> NDArray[np.float32]:
    """The probability of one window, (H, W), NaN where there is no data."""
    if not images.valid.any():
        return np.full(images.valid.shape, np.nan, np.float32)
    before, after = (
        torch.from_numpy(image)[None].to(model.device, memory_format=torch.channels_last)
        for image in images[:2]
    )
    with autocast(model.device, precision):
        probability = whole(model, before, after)[0, 0].cpu().numpy()
    if not images.valid.all():
        probability[~images.valid] = np.nan
    return probability


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Gives items while the next one is made in a thread of its own."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item  # type: ignore[misc]


def in_order(
    function: Callable[[S], T], items: Iterator[S], threads: int
) -> Generator[T, None, None]:
    """Applies a function in threads that each compute alone; gives results in order."""
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        flying: deque[Future[T]] = deque()
        for item in items:
            flying.append(pool.submit(function, item))
            if len(flying) > threads:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()


def _result(future: object) -> NDArray[np.float32]:
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    try:
        return future.result()  # type: ignore[attr-defined]
    except KilledWorker as error:
        raise SettingError(
            f"workers died again and again on one window ({first_line(error)}); "
            "give them more memory, then add `resume`"
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise SettingError(f"the cluster was lost in mid-run ({first_line(error)})") from error


@dataclass(frozen=True)
class _Parcel:
    """A network as dask shall move it: whole. Weight by weight their memory layout would be
    lost, and other layouts round otherwise.
    """

    model: ChangeNetwork


def _settle(parcel: _Parcel, device: str) -> _Parcel:
    return _Parcel(parcel.model.to(find_device(device)))


_worker = threading.local()


def _predict_on_worker(parcel: _Parcel, plan: Plan, index: WindowIndex) -> NDArray[np.float32]:
    """One window; the rasters stay open on the worker from window to window."""
    torch.set_num_threads(1)
    with raster_settings():
        reader = getattr(_worker, "reader", None)
        if reader is None or reader.plan != plan:
            _worker.reader = reader = Reader(plan)
        return look(parcel.model, reader.read(index), plan.precision)
