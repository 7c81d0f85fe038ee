"""Times this project's training steps and PyTorch's in turn on one machine: the ratios of their medians, and peak memory.

    python benches/in_turn.py TORCH_BENCH [--rounds 5] [--python PYTHON] [--work gan resnet cnn generate]

TORCH_BENCH is a script that takes the work, `--steps N` and `--mode MODE` and prints a line of JSON with `median_s`. Each round
times both sides once, one after the other, so that a machine that is slower for a while is slower for both. Memory is the most
that each side's process had resident, in the median round.
"""
import argparse
import json
import os
import re
import statistics
import subprocess

SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}


def run(command):
    """What a command prints, and the most memory that it had resident, in GiB."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
    return output, usage.ru_maxrss / 2**20  # KiB on Linux


def build():
    """The path of the benchmark program."""
    output, _ = run(["cargo", "bench", "--bench", "speed", "--no-run", "--message-format", "json"])
    messages = map(json.loads, output.splitlines())
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "speed")


def ours(program, work, bf16):
    bench = ("generate" if work == "generate" else f"{work}_step") + ("_bf16" if bf16 else "")
    options = ["--noplot", "--measurement-time", "5", "--warm-up-time", "1"]
    output, memory = run([program, "--bench", f"^{bench}/32$", *options])
    found = re.search(r"time:\s+\[\S+ \S+ (\S+) (\S+) ", output)
    if not found:
        raise SystemExit(f"{bench} did not run on this processor")
    value, unit = found.groups()
    return float(value) * SECONDS[unit], memory


def theirs(python, script, work, mode):
    output, memory = run([python, script, work, "--steps", "5", "--mode", mode])
    return json.loads(output.splitlines()[-1])["median_s"], memory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("torch_bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", default="python3", help="an interpreter that has PyTorch")
    parser.add_argument("--mode", default="channels-last", help="what TORCH_BENCH calls it; bf16 is against our bf16")
    parser.add_argument("--work", nargs="+", default=["gan", "resnet", "cnn", "generate"])
    args = parser.parse_args()
    program = build()
    print(f"| work, batch 32 | this project | PyTorch, {args.mode} | times faster | peak memory | PyTorch's |")
    print("|---|---|---|---|---|---|", flush=True)
    for work in args.work:
        rounds = [
            (*ours(program, work, args.mode == "bf16"), *theirs(args.python, args.torch_bench, work, args.mode))
            for _ in range(args.rounds)
        ]
        mine, my_memory, other, other_memory = (statistics.median(side) for side in zip(*rounds))
        cells = f"{mine:.3f} s | {other:.3f} s | {other / mine:.2f} | {my_memory:.2f} GiB | {other_memory:.2f} GiB"
        print(f"| {work} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
