#!/usr/bin/env python3
"""Times figures of features beside the packages that people use for them, and shows that they agree.

    python/bench.py [--rows 10000] [--dims 512] [--rounds 3]

Every package computes on the same arrays, in turn, in one process. A package that is not installed is left out and named. `docs/python.md` says how to install them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
from cellforge import metrics

Work = Callable[[], "float | tuple[float, ...]"]


def features(rows: int, dims: int, seed: int) -> np.ndarray:
    """Features as a network gives them: 0 or above, of a falling spectrum; the second set is a little off the first."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(dims, dims)) * np.linspace(1, 0.05, dims)[:, None] / np.sqrt(dims)
    return np.maximum(rng.normal(0.05 * seed, 1, (rows, dims)) @ mixing + 0.5, 0).astype(np.float32)


def frechet_by_scipy(a: np.ndarray, b: np.ndarray) -> float:
    """The formula with SciPy's matrix root, as programs for FID have it."""
    from scipy.linalg import sqrtm

    a, b = a.astype(np.float64), b.astype(np.float64)
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.asarray(sqrtm(first @ second)).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * np.trace(root))


def frechet_by_torch_fidelity(a: np.ndarray, b: np.ndarray) -> float:
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    first, second = (fid_features_to_statistics(torch.from_numpy(array)) for array in (a, b))
    return float(fid_statistics_to_metric(first, second, verbose=False)["frechet_inception_distance"])


def kid_by_torch_fidelity(a: np.ndarray, b: np.ndarray, subset: int, subsets: int) -> float:
    import torch
    from torch_fidelity.metric_kid import kid_features_to_metric

    options = {"kid_subsets": subsets, "kid_subset_size": subset, "verbose": False}
    found = kid_features_to_metric(torch.from_numpy(a), torch.from_numpy(b), **options)
    return float(found["kernel_inception_distance_mean"])


def prdc_by_prdc(a: np.ndarray, b: np.ndarray, k: int) -> tuple[float, ...]:
    from prdc import compute_prdc

    # It prints what it was given.
    with contextlib.redirect_stdout(None):
        found = compute_prdc(a, b, nearest_k=k)
    return tuple(float(found[name]) for name in ("precision", "recall", "density", "coverage"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000, help="images of each set")
    parser.add_argument("--dims", type=int, default=512, help="features of an image")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is timed")
    args = parser.parse_args()
    a, b = (features(args.rows, args.dims, seed) for seed in (0, 1))
    all_of, some = min(args.rows, 1000), (100, min(args.rows, 1000))
    figures: dict[str, dict[str, tuple[str, Work]]] = {
        "Fréchet distance": {
            "cellforge": ("", lambda: metrics.frechet(a, b)),
            "scipy": ("scipy", lambda: frechet_by_scipy(a, b)),
            "torch-fidelity": ("torch_fidelity", lambda: frechet_by_torch_fidelity(a, b)),
        },
        f"KID, {some[0]} subsets of {some[1]}": {
            "cellforge": ("", lambda: metrics.kid(a, b, subset=some[1], subsets=some[0]).mean),
            "torch-fidelity": ("torch_fidelity", lambda: kid_by_torch_fidelity(a, b, some[1], some[0])),
        },
        f"KID, all of {all_of}": {
            "cellforge": ("", lambda: metrics.kid(a[:all_of], b[:all_of], subset=all_of, subsets=1).mean),
            "torch-fidelity": ("torch_fidelity", lambda: kid_by_torch_fidelity(a[:all_of], b[:all_of], all_of, 1)),
        },
        "precision, recall, density, coverage": {
            "cellforge": ("", lambda: tuple(metrics.prdc(a, b, 5))),
            "prdc": ("prdc", lambda: prdc_by_prdc(a, b, 5)),
        },
    }
    print(f"{args.rows} x {args.dims} features, {os.cpu_count()} cores, medians of {args.rounds}\n")
    print("| figure | package | seconds | value |\n|---|---|---|---|")
    for figure, packages in figures.items():
        there = {name: work for name, (module, work) in packages.items() if not module or importlib.util.find_spec(module)}
        seconds: dict[str, list[float]] = {name: [] for name in there}
        values: dict[str, object] = {}
        for _ in range(args.rounds):
            for name, work in there.items():
                start = time.perf_counter()
                values[name] = work()
                seconds[name].append(time.perf_counter() - start)
        for name, found in seconds.items():
            value = values[name]
            shown = ", ".join(f"{one:.6g}" for one in (value if isinstance(value, tuple) else (value,)))
            print(f"| {figure} | {name} | {statistics.median(found):.2f} | {shown} |", flush=True)
        for name in packages.keys() - there.keys():
            print(f"| {figure} | {name} | not installed | |")


if __name__ == "__main__":
    main()
