"""Threads, signals and processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import cellforge
import numpy as np
import pytest

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals are sent to the process itself")

# Presses Ctrl-C a second after the work has begun, and tells how long it took to be heard.
STOPPED = """
import os, signal, threading, time
import numpy as np, cellforge
{prepare}
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
start = time.monotonic()
try:
    {work}
except KeyboardInterrupt:
    print("stopped", time.monotonic() - start)
"""

WORK = {
    "sample": ("g = cellforge.Generator.built_in()", "g.sample(1_000_000)"),
    "evaluate": (
        "rng = np.random.default_rng(1)\n"
        "sets = [{'a': rng.integers(0, 256, (400, 32, 32), dtype=np.uint8)} for _ in range(3)]",
        "cellforge.evaluate(*sets)",
    ),
    "prdc": ("rng = np.random.default_rng(1)\na, b = rng.normal(size=(2, 60_000, 512))", "cellforge.metrics.prdc(a, b)"),
}


@POSIX
@pytest.mark.parametrize("name", WORK)
def test_ctrl_c_is_heard(name: str) -> None:
    prepare, work = WORK[name]
    script = STOPPED.format(prepare=prepare, work=work)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    words = done.stdout.split()
    assert words[:1] == ["stopped"], done.stdout + done.stderr
    assert 0.9 < float(words[1]) < 30


def test_other_threads_go_on() -> None:
    ticks, going = 0, threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not going.is_set():
            ticks += 1
            time.sleep(0.005)

    generator = cellforge.Generator.built_in()
    thread = threading.Thread(target=tick)
    thread.start()
    before, start = ticks, time.monotonic()
    generator.sample(64)
    seconds = time.monotonic() - start
    counted = ticks - before
    going.set()
    thread.join()
    # At a tick in 5 ms there would be 200 a second; with the lock held there would be none.
    assert counted > 20 * seconds


def test_threads_share_a_generator() -> None:
    generator = cellforge.Generator.built_in()
    expected = generator.sample(8, seed=3)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(generator.sample(8, seed=3))) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(found) == 3 and all((images == expected).all() for images in found)


def _in_child(queue: Any) -> None:
    try:
        queue.put(int(cellforge.Generator.built_in().sample(1).sum()))
    except RuntimeError as error:
        queue.put(str(error))


@POSIX
def test_a_forked_process_says_so_and_does_not_hang() -> None:
    cellforge.Generator.built_in()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert "spawn" in queue.get(timeout=60)
    child.join(timeout=60)


def test_another_process_makes_the_same() -> None:
    expected = int(cellforge.Generator.built_in().sample(1).sum())
    code = "import cellforge; print(int(cellforge.Generator.built_in().sample(1).sum()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == str(expected), done.stderr


def test_the_program_is_of_the_same_version(program: Callable[..., str]) -> None:
    from importlib.metadata import version

    assert program("--version").split() == ["cellforge", cellforge.__version__]
    assert version("cellforge") == cellforge.__version__


def test_no_signal_is_taken_away() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
