"""Figures of features, beside values worked by hand and plain NumPy."""

from __future__ import annotations

import cellforge
import numpy as np
import pytest
from cellforge import metrics


def sets(n: int = 90, m: int = 70, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return rng.normal(size=(n, d)), rng.normal(0.3, 1.2, size=(m, d))


def test_frechet() -> None:
    # In one dimension it is (m1 - m2)^2 + (s1 - s2)^2: means 1 and 6, variances 2 and 8.
    assert metrics.frechet([[0.0], [2.0]], [[4.0], [8.0]]) == pytest.approx(27.0)
    a, b = (array.astype(np.float32).astype(float) for array in sets())
    first, second = (np.linalg.cholesky(np.cov(array, rowvar=False)) for array in (a, b))
    roots = np.linalg.svd(first.T @ second, compute_uv=False).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + (first**2).sum() + (second**2).sum() - 2 * roots
    assert metrics.frechet(a, b) == pytest.approx(expected, rel=1e-9)
    assert metrics.frechet(a, a) == 0


def test_prdc() -> None:
    a, b = sets()

    def near(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.sqrt(((x[:, None] - y) ** 2).sum(-1))

    for k in (1, 5):
        real, synthetic = np.sort(near(a, a))[:, k], np.sort(near(b, b))[:, k]
        between = near(a, b)
        expected = (
            (between <= real[:, None]).any(0).mean(),
            (between <= synthetic).any(1).mean(),
            (between <= real[:, None]).sum() / (k * len(b)),
            (between.min(1) <= real).mean(),
        )
        assert metrics.prdc(a, b, k) == pytest.approx(expected)
    assert metrics.prdc(a, a).coverage == 1


def test_kid() -> None:
    # See the example of `cellforge_eval::kid`.
    assert metrics.kid([[0.0], [1.0]], [[1.0], [2.0]], subsets=1) == (9.5, None)
    a, b = (array.astype(np.float32).astype(float) for array in sets(70, 70))
    of = lambda x, y: (x @ y.T / 6 + 1) ** 3  # noqa: E731
    within = sum((of(x, x).sum() - np.trace(of(x, x))) / (70 * 69) for x in (a, b))
    assert metrics.kid(a, b).mean == pytest.approx(within - 2 * of(a, b).mean(), rel=1e-9)
    found = metrics.kid(a, b, subset=20, subsets=10, seed=3)
    assert found == metrics.kid(a, b, subset=20, subsets=10, seed=3)
    assert found != metrics.kid(a, b, subset=20, subsets=10, seed=4)
    assert found.std is not None and found.std > 0


def test_all_numbers_and_layouts_are_taken() -> None:
    a, b = (np.round(array * 10).astype(np.int64) for array in sets())
    expected = metrics.frechet(a.astype(np.float32), b.astype(np.float32))
    assert metrics.frechet(a, b) == expected
    assert metrics.frechet(a.astype(np.float16), np.asfortranarray(b.astype(float))) == expected
    assert metrics.frechet(a.astype(">f4"), b.tolist()) == expected
    twice = np.repeat(a, 2, axis=1)[:, ::2]
    assert metrics.frechet(twice, b) == expected


def test_what_is_refused() -> None:
    a, b = sets()
    bad = a.copy()
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="feature 2 of image 3 is NaN"):
        metrics.frechet(bad, b)
    bad[3, 2] = 1e300
    with pytest.raises(ValueError, match=r"a\[3, 2\] is 1e\+300.*float32"):
        metrics.frechet(bad, b)
    with pytest.raises(ValueError, match="6 dimensions and the other of 5"):
        metrics.prdc(a, b[:, :5])
    with pytest.raises(ValueError, match="k nearest|nearest neighbours|at least"):
        metrics.prdc(a[:4], b, k=5)
    with pytest.raises(ValueError, match="k is 0"):
        metrics.prdc(a, b, k=0)
    with pytest.raises(ValueError, match=r"real has the shape \(90,\)"):
        metrics.prdc(a[:, 0], b)
    with pytest.raises(ValueError, match=r"b has the shape \(0, 6\)"):
        metrics.kid(a, b[:0])
    with pytest.raises(ValueError, match="needs at least 2 images"):
        metrics.frechet(a[:1], b)
    with pytest.raises(TypeError, match="complex128"):
        metrics.kid(a.astype(complex), b)
    with pytest.raises(TypeError, match="type <U"):
        metrics.frechet([["x"]], b)
    assert cellforge.metrics is metrics
