"""Runs a network over the windows of a scene: in this process, or on a dask cluster."""

from __future__ import annotations

import logging
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ctma.errors import SceneError, SettingError, extras, first_line
from ctma.inference.look import Look
from ctma.scene.plan import Images, Plan, Reader, WindowIndex
from ctma.scene.rasters import raster_settings
from ctma.settings import check_count

if TYPE_CHECKING:
    from distributed import Client

Windows = Generator[NDArray[np.float32], None, None]
WindowPredictor = Callable[[Sequence[WindowIndex]], Windows]
"""Gives the probability of each window, in order: (H, W), NaN where there is no data."""

AHEAD = 2
"""Windows in flight for each thread of a cluster."""

WAIT_SECONDS, PATIENCE = 60, 6
"""Seconds without a window after which ctma checks a cluster, and how often a check may find the
cluster idle. Together this is longer than dask takes to give up a lost worker."""

_QUIET = {"distributed.admin.large-graph-warning-threshold": "1GB"}
"""A look travels with its graph, of which dask would warn."""

WORKERS = {
    # Else dask would leave its number of threads in the environment of this process.
    "distributed.nanny.pre-spawn-environ": {},
    # dask's profiler can stop a process for ever in Python 3.11 (dask/distributed#8616).
    "distributed.worker.profile.enabled": False,
}
"""What dask is told before workers are started here."""

_LOCAL: dict[str, Any] = {
    "dashboard_address": "127.0.0.1:0",
    "silence_logs": logging.ERROR,
    "preload": [__name__],
}
"""How workers are started here; each calls ``dask_setup``."""

STANDS_STILL = "the cluster stands still: no worker computes; restart it, then add `resume`"

S = TypeVar("S")
T = TypeVar("T")


@dataclass
class Local:
    """Predicts windows in this process, while a thread reads the next windows.

    On a CPU, each thread predicts a window of its own. This is faster than all threads on one
    window. Sums also depend on the number of threads that share them. With one thread per window,
    every machine and every worker gives the same bits.

    Attributes:
        plan: The plan.
        look: What predicts a window.
    """

    plan: Plan
    look: Look

    def __call__(self, indices: Sequence[WindowIndex]) -> Windows:
        """The windows, in order."""
        see, look = partial(look_at, self.look), self.look
        with (
            Reader(self.plan) as reader,
            closing(ahead(map(reader.read, indices))) as images,
            closing(in_order(see, images, look.callers, look.begin_thread)) as windows,
        ):
            yield from windows


@dataclass
class Cluster:
    """Predicts windows on the workers of a dask cluster, which read the sources themselves.

    Attributes:
        plan: The plan.
        look: What predicts a window; it travels once to each worker.
        client: A client of the cluster.
        device: The device that each worker uses, such as ``"auto"``.
    """

    plan: Plan
    look: Look
    client: Client
    device: str

    def __call__(self, indices: Sequence[WindowIndex]) -> Windows:
        """The windows, in order; another worker predicts the windows of a worker that died.

        Raises:
            SettingError: If the cluster is lost, or stays idle although it has work.
        """
        parcel = self._send_look()
        waiting = deque(indices)
        flying: deque[tuple[WindowIndex, Any]] = deque()
        patience = PATIENCE
        while waiting or flying:
            most = AHEAD * max(1, sum(self.client.nthreads().values()))
            while waiting and len(flying) < most:
                index = waiting.popleft()
                task = self.client.submit(_predict_on_worker, parcel, self.plan, index, pure=False)
                flying.append((index, task))
            try:
                window = _result(flying[0][1], WAIT_SECONDS)
            except TimeoutError:
                if self._is_alive():
                    continue
                # If a worker dies at a bad moment, dask may never give its tasks to another
                # worker (dask/distributed#3196).
                patience -= 1
                if not patience:
                    raise SettingError(STANDS_STILL) from None
                waiting.extendleft(index for index, _ in reversed(flying))
                flying.clear()
                parcel = self._send_look()
                continue
            flying.popleft()
            yield window

    def _send_look(self) -> Any:
        # A task's result can be made again when its worker dies; scattered data could not.
        parcel = _Parcel(self.look.travelling())
        return self.client.submit(_settle, parcel, self.device, pure=False)

    def _is_alive(self) -> bool:
        """Whether a worker computes anything, or no worker has connected yet."""
        try:
            return not self.client.nthreads() or any(self.client.call_stack().values())
        except OSError:  # a worker is gone, and the scheduler does not know yet
            return False


class Sharing(NamedTuple):
    """The processes that share the work.

    Attributes:
        workers: Number of processes to start here, ``None`` to start none.
        cluster: Address of the scheduler of a running dask cluster, ``None`` for no cluster.
    """

    workers: int | None
    cluster: str | None

    @property
    def alone(self) -> bool:
        """Whether this process does all the work."""
        return self.workers is None and self.cluster is None

    def check(self) -> None:
        """Refuses contradictory or invalid values.

        Raises:
            SettingError: If both are given, or ``workers`` is no whole number of at least 1.
        """
        check_count("workers", self.workers)
        if self.workers is not None and self.cluster is not None:
            raise SettingError("`workers` starts a cluster, `cluster` uses a running one: give one")


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
        dask.config.set(WORKERS | _QUIET),
        LocalCluster(n_workers=workers, threads_per_worker=1, **_LOCAL) as cluster,
        Client(cluster) as client,
    ):
        yield client


def dask_setup(worker: object) -> None:
    """Has a worker leave Ctrl-C to the process that leads; dask calls this as a worker starts."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def look_at(look: Look, images: Images) -> NDArray[np.float32]:
    """The probability of one window, (H, W), NaN where there is no data."""
    if not images.valid.any():
        return np.full(images.valid.shape, np.nan, np.float32)
    probability = look(images.before, images.after)
    if not images.valid.all():
        probability[~images.valid] = np.nan
    return probability


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Yields items, while a separate thread makes the next item; the first one from now on."""
    begun = _begin_ahead(items)
    next(begun)
    return begun


def _begin_ahead(items: Iterator[T]) -> Generator[Any, None, None]:
    """Yields nothing when the thread has begun, then the items."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, end)
        yield
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item


def in_order(
    function: Callable[[S], T], items: Iterator[S], threads: int, begin: Callable[[], None]
) -> Generator[T, None, None]:
    """Applies a function in threads, each of which calls ``begin`` first; yields in order."""
    with ThreadPoolExecutor(threads, initializer=begin) as pool:
        flying: deque[Future[T]] = deque()
        for item in items:
            flying.append(pool.submit(function, item))
            if len(flying) > threads:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()


def _result(future: Any, seconds: float) -> NDArray[np.float32]:
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    try:
        return future.result(seconds)
    except KilledWorker as error:
        raise SettingError(
            f"workers died again and again on one window ({first_line(error)}); "
            "give them more memory, then add `resume`"
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise SettingError(f"the cluster was lost in mid-run ({first_line(error)})") from error


@dataclass(frozen=True)
class _Parcel:
    """A look that dask moves as a whole.

    If dask moved each weight alone, the weights would lose their memory layout. Another layout
    rounds differently.
    """

    look: Look


def _settle(parcel: _Parcel, device: str) -> _Parcel:
    return _Parcel(parcel.look.on(device))


_worker = threading.local()


def _predict_on_worker(parcel: _Parcel, plan: Plan, index: WindowIndex) -> NDArray[np.float32]:
    """Predicts one window; the rasters stay open on the worker between windows."""
    parcel.look.begin_thread()
    with raster_settings():
        reader = getattr(_worker, "reader", None)
        if reader is None or reader.plan != plan:
            _worker.reader = reader = Reader(plan)
        try:
            images = reader.read(index)
        except SceneError:
            # A raster whose server failed may keep parts of answers: the next task opens it anew.
            _worker.reader = None
            raise
        return look_at(parcel.look, images)
