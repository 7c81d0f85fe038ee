"""Times this project's training steps and PyTorch's in turn on one machine, and prints the ratios of their medians.

    python benches/in_turn.py TORCH_BENCH [--rounds 5] [--python PYTHON] [--work gan resnet cnn generate]

TORCH_BENCH is a script that takes the work, `--steps N` and `--mode MODE` and prints a line of JSON with `median_s`. Each round
times both sides once, one after the other, so that a machine that is slower for a while is slower for both.
"""
import argparse
import json
import re
import statistics
import subprocess

SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}


def run(command, cwd=None):
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def ours(work):
    bench = "generate" if work == "generate" else f"{work}_step"
    options = ["--measurement-time", "5", "--warm-up-time", "1"]
    output = run(["cargo", "bench", "--bench", "speed", "--", f"^{bench}/32$", *options])
    value, unit = re.search(r"time:\s+\[\S+ \S+ (\S+) (\S+) ", output).groups()
    return float(value) * SECONDS[unit]


def theirs(python, script, work, mode):
    output = run([python, script, work, "--steps", "5", "--mode", mode])
    return json.loads(output.splitlines()[-1])["median_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("torch_bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", default="python3", help="an interpreter that has PyTorch")
    parser.add_argument("--mode", default="channels-last")
    parser.add_argument("--work", nargs="+", default=["gan", "resnet", "cnn", "generate"])
    args = parser.parse_args()
    run(["cargo", "bench", "--bench", "speed", "--no-run"])
    print(f"| work, batch 32 | this project | PyTorch, {args.mode} | times faster |\n|---|---|---|---|", flush=True)
    for work in args.work:
        rounds = [(ours(work), theirs(args.python, args.torch_bench, work, args.mode)) for _ in range(args.rounds)]
        mine, other = (statistics.median(side) for side in zip(*rounds))
        print(f"| {work} | {mine:.3f} s | {other:.3f} s | {other / mine:.2f} |", flush=True)


if __name__ == "__main__":
    main()
