"""Times this project's training steps and PyTorch's in turn on one machine: how many times faster, and peak memory.

    python3 benches/in_turn.py                                                    # everything, on the CPU
    python3 benches/in_turn.py --work best generate_best --side 64 --precision bf16 --rounds 5
    python3 benches/in_turn.py --device cuda --batch 32 128 512 --program PATH

PyTorch runs the same networks by benches/torch/bench.py, eager and compiled (--form); how much faster this project is counts against the faster of
those. Each round times all of them, one after the other, so that a machine that is slower for a while is slower for all. Figures are
medians of the rounds. Memory is the most that a process had resident; PyTorch's is that of its faster form.

Where no interpreter with PyTorch is named by --python, and this one has none, it is installed into target/torch, which takes 5 GB. PATH is
the benchmark program where there is no cargo to build it: what `cargo bench --bench speed --features cuda --no-run` makes.
"""

import argparse
import importlib.util
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = ROOT / "benches" / "torch"
SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}
# What is timed, and the sides of its images.
WORK = {"gan": [64], "best": [64, 128, 256], "resnet": [64, 128], "cnn": [64], "generate": [64], "generate_best": [64]}
FORMS = {"eager": [], "compiled": ["--compile"]}


def run(command, **options):
    """What a command prints, the most memory that it had resident in GiB, and its exit status."""
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, cwd=ROOT, **options) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return output, usage.ru_maxrss / 2**20, process.returncode  # KiB on Linux


def needed(command):
    """What a command prints that must succeed."""
    output, _, status = run(command)
    if status:
        raise SystemExit(f"{' '.join(map(str, command))} failed with {status}")
    return output


def build(device):
    """The path of the benchmark program."""
    features = ["--features", "cuda"] if device == "cuda" else []
    output = needed(["cargo", "bench", "--bench", "speed", "--no-run", "--message-format", "json", *features])
    messages = map(json.loads, output.splitlines())
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "speed")


def interpreter():
    """An interpreter that has PyTorch: this one, or that of target/torch, which is made if need be."""
    spec = importlib.util.find_spec("torch")
    if spec and spec.origin:  # without an origin it is only the folder benches/torch, which lies beside this script
        return sys.executable
    folder = ROOT / "target" / "torch"
    python, done = folder / "bin" / "python", folder / "installed"
    requirements = (TORCH / "requirements.txt").read_text()
    if not (done.is_file() and done.read_text() == requirements):
        print(f"installing PyTorch into {folder}", file=sys.stderr)
        needed([sys.executable, "-m", "venv", folder])
        needed([python, "-m", "pip", "install", "--quiet", "-r", TORCH / "requirements.txt"])
        done.write_text(requirements)
    return python


def benchmark(work, side, precision):
    """The name of our benchmark: see the table in benches/README.md."""
    step = "" if work.startswith("generate") else "_step"
    return work + step + (f"_{side}" if side != 64 else "") + ("_bf16" if precision == "bf16" else "")


def ours(program, work, side, batch, precision):
    """Seconds and GiB, or None where this processor has no instructions for it."""
    name = f"{benchmark(work, side, precision)}/{batch}"
    options = ["--noplot", "--measurement-time", "5", "--warm-up-time", "1"]
    # A sample of `best` is eight iterations: one sample a round, as PyTorch's.
    options += ["--quick"] if work == "best" else []
    output, memory, status = run([program, "--bench", f"^{name}$", *options])
    if status:
        raise SystemExit(f"{name} failed with {status}")
    found = re.search(r"time:\s+\[\S+ \S+ (\S+) (\S+) ", output)
    if not found:
        return None
    value, unit = found.groups()
    return float(value) * SECONDS[unit], memory


def theirs(args, form, work, side, batch, precision):
    """Seconds and GiB, or the last line of what it said when it failed."""
    samples = 1 if work == "best" else args.samples
    options = ["--side", side, "--batch", batch, "--precision", precision, "--samples", samples, "--device", args.device]
    command = [args.python, TORCH / "bench.py", work, *options, *FORMS[form]]
    with tempfile.TemporaryFile("w+") as errors:
        output, _, status = run(command, stderr=errors)
        if status:
            errors.seek(0)
            return (errors.read().strip().splitlines() or [f"exit status {status}"])[-1]
    found = json.loads(output.splitlines()[-1])
    return found["median_s"], found["peak_gib"]


def row(args, work, side, batch, precision):
    """A line of the table."""
    what = [work, side, batch, precision]
    mine, others = [], {form: [] for form in args.form}
    for _ in range(args.rounds):
        found = ours(args.program, *what)
        if found is None:
            return print(f"{work} in {precision}: not run on this processor", file=sys.stderr)
        mine.append(found)
        for form in list(others):
            found = theirs(args, form, *what)
            if isinstance(found, str):
                if len(others) == 1 or form == "eager":
                    raise SystemExit(f"PyTorch failed at {work}: {found}")
                print(f"PyTorch's {work} in {precision} is eager alone, compiling it failed: {found}", file=sys.stderr)
                del others[form]
            else:
                others[form].append(found)

    def medians(rounds):
        return [statistics.median(values) for values in zip(*rounds)]

    (seconds, memory), others = medians(mine), {form: medians(rounds) for form, rounds in others.items()}
    best = min(others.values())
    forms = [f"{1e3 * others[form][0]:.4g} ms" if form in others else "failed" for form in args.form]
    cells = [*what, f"{1e3 * seconds:.4g} ms", *forms, f"{best[0] / seconds:.2f}", f"{memory:.2f} GiB", f"{best[1]:.2f} GiB"]
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--side", nargs="+", type=int, help="of those that a work is timed at (all)")
    parser.add_argument("--precision", nargs="+", choices=["f32", "bf16"], default=["f32", "bf16"], help="f32 is tf32 on a GPU")
    parser.add_argument("--batch", nargs="+", type=int, default=[32], help="others than 32 on a GPU and at 64x64 alone")
    parser.add_argument("--form", nargs="+", choices=FORMS, default=list(FORMS), help="of PyTorch's networks")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=5, help="what PyTorch's time in a round is the median of")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--python", help="an interpreter that has PyTorch")
    parser.add_argument("--program", help="the benchmark program, if it is built already")
    args = parser.parse_args()
    os.environ["CELLFORGE_BENCH_DEVICE"] = args.device
    args.python, args.program = args.python or interpreter(), args.program or build(args.device)
    columns = ["work", "side", "batch", "precision", "this project", *(f"PyTorch, {form}" for form in args.form)]
    columns += ["times faster", "peak memory", "PyTorch's"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for work, precision in itertools.product(args.work, args.precision):
        sides = [side for side in WORK[work] if not args.side or side in args.side]
        for side, batch in itertools.product(sides, args.batch):
            if side == 64 or batch == 32:
                row(args, work, side, batch, precision)


if __name__ == "__main__":
    main()
