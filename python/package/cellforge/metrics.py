"""Figures of two arrays of features: how close one set of images comes to another.

Features are arrays `(n, d)`, a row of `d` numbers for each of `n` images, from any network. They are computed in `float32`, and sums in `float64`. NaN and infinity are
a `ValueError` that says where. None of these figures has an interval: `cellforge.evaluate` gives intervals.

Ctrl-C ends the call at once. What was being computed goes on in the background until it is done, and is dropped.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from . import _native
from ._arrays import rows, whole

__all__ = ["Kid", "Prdc", "frechet", "kid", "prdc"]


class Prdc(NamedTuple):
    """Precision, recall, density and coverage."""

    precision: float
    """Share of the synthetic images within the `k`-th neighbour of a real one, 0 to 1."""
    recall: float
    """Share of the real images within the `k`-th neighbour of a synthetic one, 0 to 1."""
    density: float
    """Mean number of real images within whose `k`-th neighbour a synthetic image lies, over `k`; 0 or above."""
    coverage: float
    """Share of the real images that have a synthetic one within their `k`-th neighbour, 0 to 1."""


class Kid(NamedTuple):
    """The kernel distance over random subsets."""

    mean: float
    """Mean over the subsets. It is below 0 about half the time where both sets come from one distribution."""
    std: float | None
    """Standard deviation over the subsets, with their number as divisor; `None` where no two subsets differ."""


def frechet(a: Any, b: Any) -> float:
    """The Fréchet distance of two sets of features `(n, d)` and `(m, d)`; 0 or above. With the features of Inception-v3 it is called FID.

    Covariances are over n - 1. Compare only distances between sets of the same sizes: smaller sets have larger ones.
    """
    return _native.frechet(*_pair(a, b))


def prdc(real: Any, synthetic: Any, k: int = 5) -> Prdc:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020) of features `(n, d)` and `(m, d)`.

    `k` is the nearest neighbour that counts as near, 1 or above and below `n` and `m`. Neighbours are exact, in memory that does not grow with `n * m`.
    """
    return Prdc(*_native.prdc(*_pair(real, synthetic, ("real", "synthetic")), whole(k, "k", 1, 2**31)))


def kid(a: Any, b: Any, *, subset: int = 1000, subsets: int = 100, seed: int = 0) -> Kid:
    """The kernel distance (KID, Bińkowski et al. 2018) of features `(n, d)` and `(m, d)`, with the kernel `(x·y / d + 1)³`.

    It is taken over `subsets` random subsets, of `subset` rows of each set, or of all of the smaller set where it has fewer.
    """
    sizes = whole(subset, "subset", 2, 2**31), whole(subsets, "subsets", 1, 2**31)
    return Kid(*_native.kid(*_pair(a, b), *sizes, whole(seed, "seed")))


def _pair(a: Any, b: Any, names: tuple[str, str] = ("a", "b")) -> tuple[bytes, int, bytes, int]:
    (first, dims), (second, others) = rows(a, names[0]), rows(b, names[1])
    return first, dims, second, others
