"""The work of `cargo bench --bench speed -- evaluate` with NumPy, SciPy, scikit-learn and prdc; with --ours both in turn.

    pip install numpy scipy scikit-learn prdc
    python benches/evaluate_numpy.py [--rounds 3] [--ours] [--images 10000] [--dims 512]

Prints a Markdown table of medians. `nearest` is scikit-learn's NearestNeighbors and, in a second line, what one writes in NumPy: a
matrix product and `argpartition`, with the errors of `float32` that our search and scikit-learn's do not have. `prdc` is the package,
`frechet` is np.cov and scipy.linalg.sqrtm. The sets are uniform numbers in `float32`, of the same sizes as ours.
"""
import argparse
import contextlib
import io
import json
import re
import statistics
import subprocess
import time

import numpy as np
import scipy.linalg
from prdc import compute_prdc
from sklearn.neighbors import NearestNeighbors

SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}
K = 5


def nearest(a, b):
    return NearestNeighbors(n_neighbors=K, algorithm="brute").fit(b).kneighbors(a)


def nearest_numpy(a, b, rows=1000):
    found, norms = [], (b**2).sum(1)
    for block in np.split(a, range(rows, len(a), rows)):
        squared = (block**2).sum(1)[:, None] + norms - 2 * (block @ b.T)
        best = np.argpartition(squared, K - 1, axis=1)[:, :K]
        found.append(np.sqrt(np.maximum(np.sort(np.take_along_axis(squared, best, axis=1), axis=1), 0)))
    return np.concatenate(found)


def prdc(a, b):
    with contextlib.redirect_stdout(io.StringIO()):
        return compute_prdc(a, b, K)


def frechet(a, b):
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    means = np.sum((a.mean(0) - b.mean(0)) ** 2)
    return means + np.trace(s1) + np.trace(s2) - 2 * np.trace(scipy.linalg.sqrtm(s1 @ s2)).real


WORK = {"nearest": nearest, "nearest, plain NumPy": nearest_numpy, "prdc": prdc, "frechet": frechet}


def program():
    command = ["cargo", "bench", "--bench", "speed", "--no-run", "--message-format", "json"]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    messages = map(json.loads, output.splitlines())
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "speed")


def ours(path, work):
    bench = f"^evaluate/{work.split(',')[0]}$"
    command = [path, "--bench", bench, "--noplot", "--measurement-time", "5", "--warm-up-time", "1"]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    value, unit = re.search(r"time:\s+\[\S+ \S+ (\S+) (\S+) ", output).groups()
    return float(value) * SECONDS[unit]


def timed(work, a, b):
    start = time.perf_counter()
    WORK[work](a, b)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", action="store_true", help="build and time this project's benchmarks too, in turn")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--work", nargs="+", default=list(WORK), choices=WORK)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    a, b = (rng.random((args.images, args.dims), dtype=np.float32) + shift for shift in (np.float32(0), np.float32(0.05)))
    path = program() if args.ours else None
    print("| work | this project | Python | times faster |\n|---|---|---|---|")
    for work in args.work:
        rounds = [(ours(path, work) if path else float("nan"), timed(work, a, b)) for _ in range(args.rounds)]
        mine, other = (statistics.median(side) for side in zip(*rounds))
        print(f"| {work} | {mine:.2f} s | {other:.2f} s | {other / mine:.2f} |", flush=True)


if __name__ == "__main__":
    main()
