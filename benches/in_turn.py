"""Times this project's training steps and PyTorch's in turn on one machine: the ratios of their medians, and peak memory.

    python benches/in_turn.py TORCH_BENCH [--rounds 5] [--python PYTHON] [--work gan resnet cnn generate]
    python benches/in_turn.py TORCH_BENCH --device cuda --program PATH --batch 32 128 512 [--mode bf16] [--compile]

TORCH_BENCH is a script that takes the work, `--steps N`, `--mode MODE`, `--batch N`, `--device DEVICE` and `--compile`, and prints a line
of JSON with `median_s`. Each round times both sides once, one after the other, so that a machine that is slower for a while is slower for
both. Memory is the most that each side's process had resident, in the median round. PATH is the benchmark program where there is no cargo
to build it: what `cargo bench --bench speed --features cuda --no-run` makes.
"""
import argparse
import itertools
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


def build(device):
    """The path of the benchmark program."""
    features = ["--features", "cuda"] if device == "cuda" else []
    output, _ = run(["cargo", "bench", "--bench", "speed", "--no-run", "--message-format", "json", *features])
    messages = map(json.loads, output.splitlines())
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "speed")


def ours(program, work, batch, bf16):
    bench = ("generate" if work == "generate" else f"{work}_step") + ("_bf16" if bf16 else "")
    options = ["--noplot", "--measurement-time", "5", "--warm-up-time", "1"]
    output, memory = run([program, "--bench", f"^{bench}/{batch}$", *options])
    found = re.search(r"time:\s+\[\S+ \S+ (\S+) (\S+) ", output)
    if not found:
        raise SystemExit(f"{bench} did not run on this processor")
    value, unit = found.groups()
    return float(value) * SECONDS[unit], memory


def theirs(args, work, batch):
    options = ["--steps", str(args.steps), "--mode", args.mode, "--batch", str(batch), "--device", args.device]
    output, memory = run([args.python, args.torch_bench, work, *options, *(["--compile"] if args.compile else [])])
    return json.loads(output.splitlines()[-1])["median_s"], memory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("torch_bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", default="python3", help="an interpreter that has PyTorch")
    parser.add_argument("--mode", default="channels-last", help="what TORCH_BENCH calls it; bf16 is against our bf16")
    parser.add_argument("--work", nargs="+", default=["gan", "resnet", "cnn", "generate"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", nargs="+", type=int, default=[32], help="others than 32 on a GPU alone")
    parser.add_argument("--compile", action="store_true", help="PyTorch's networks through torch.compile")
    parser.add_argument("--steps", type=int, default=5, help="steps that PyTorch's median is of")
    parser.add_argument("--program", help="the benchmark program, if it is built already")
    args = parser.parse_args()
    os.environ["CELLFORGE_BENCH_DEVICE"] = args.device
    program = args.program or build(args.device)
    theirs_is = f"PyTorch, {args.mode}{', compiled' if args.compile else ''}"
    print(f"| work | batch | this project | {theirs_is} | times faster | peak memory | PyTorch's |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for work, batch in itertools.product(args.work, args.batch):
        rounds = [
            (*ours(program, work, batch, args.mode == "bf16"), *theirs(args, work, batch)) for _ in range(args.rounds)
        ]
        mine, my_memory, other, other_memory = (statistics.median(side) for side in zip(*rounds))
        times = f"{1e3 * mine:.4g} ms | {1e3 * other:.4g} ms | {other / mine:.2f}"
        print(f"| {work} | {batch} | {times} | {my_memory:.2f} GiB | {other_memory:.2f} GiB |", flush=True)


if __name__ == "__main__":
    main()
