"""Matches the changes of two maps by their overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely.geometry.base import BaseGeometry

OVERLAP = 0.1
"""Two changes are one where they share at least this share of the smaller one's area."""

KINDS = ("kept", "gained", "lost", "split", "merged", "regrouped")
"""What became of changes from the first map to the second."""


class Match(NamedTuple):
    """Changes of two maps that belong together.

    Attributes:
        kind: One of ``KINDS``: ``kept`` (one is one), ``gained`` (only in the second map),
            ``lost`` (only in the first), ``split`` (one became several), ``merged`` (several
            became one), ``regrouped`` (several became several others).
        first: Indices of the changes of the first map.
        second: Indices of the changes of the second map.
    """

    kind: str
    first: list[int]
    second: list[int]


def match(first: Sequence[BaseGeometry], second: Sequence[BaseGeometry]) -> list[Match]:
    """Groups the changes of two maps.

    Args:
        first: Polygons of the first map.
        second: Polygons of the second map, in the same CRS.
    """
    ones, others = np.asarray(first, object), np.asarray(second, object)
    links = _find_links(ones, others)
    count = len(ones) + len(others)
    graph = coo_array(
        (np.ones(links.shape[1]), (links[0], len(ones) + links[1])), shape=(count, count)
    )
    _, labels = connected_components(graph, directed=False)
    return [*_group(labels, len(ones))] if count else []


def _find_links(ones: NDArray[np.object_], others: NDArray[np.object_]) -> NDArray[np.int64]:
    """Indices (2, N) of changes that overlap enough."""
    if not len(ones) or not len(others):
        return np.zeros((2, 0), np.int64)
    pairs: NDArray[np.int64] = shapely.STRtree(others).query(ones, predicate="intersects")
    common = shapely.area(shapely.intersection(ones[pairs[0]], others[pairs[1]]))
    smaller = np.minimum(shapely.area(ones[pairs[0]]), shapely.area(others[pairs[1]]))
    return pairs[:, common >= OVERLAP * smaller]


def _group(labels: NDArray[np.int32], split: int) -> Iterator[Match]:
    order = np.argsort(labels, kind="stable")
    ends = np.flatnonzero(np.diff(labels[order])) + 1
    for members in np.split(order, ends):
        first = members[members < split].tolist()
        second = (members[members >= split] - split).tolist()
        yield Match(_name(len(first), len(second)), first, second)


def _name(first: int, second: int) -> str:
    if not first or not second:
        return "lost" if first else "gained"
    if first == 1:
        return "kept" if second == 1 else "split"
    return "merged" if second == 1 else "regrouped"
