"""What several of the tests need."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

# The program that the wheel brought, in this environment and no other.
PROGRAM = Path(sysconfig.get_path("scripts")) / "cellforge"


@pytest.fixture(scope="session")
def program() -> Callable[..., str]:
    """The program, to be given arguments."""

    def run(*args: object) -> str:
        done = subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def images(count: int, class_number: int = 0, seed: int = 0, size: tuple[int, int] = (32, 32), channels: int = 3) -> np.ndarray:
    """Blobs on a ground, of which each class has other colours and places: `(count, h, w, channels)`."""
    rng = np.random.default_rng([seed, class_number])
    y, x = np.mgrid[: size[0], : size[1]]
    centre = rng.uniform(0.3, 0.7, (count, 2)) * size
    width = rng.uniform(3, 7, count) + 2 * class_number
    square = (y - centre[:, 0, None, None]) ** 2 + (x - centre[:, 1, None, None]) ** 2
    blob = np.exp(-square / (2 * width[:, None, None] ** 2))
    tint = np.array([200.0, 120.0 + 60 * class_number, 90.0])[:channels]
    values = 30 + blob[..., None] * tint * rng.uniform(0.7, 1, (count, 1, 1, 1)) + rng.normal(0, 4, (count, *size, channels))
    return np.clip(values, 0, 255).astype(np.uint8)


def folders(root: Path, of_classes: dict[str, np.ndarray], prefix: str = "") -> Path:
    """Writes images as PNG files in a folder for each class, under the names that `cellforge.evaluate` gives them."""
    for class_name, array in of_classes.items():
        (root / class_name).mkdir(parents=True)
        for number, image in enumerate(array, 1):
            Image.fromarray(image.squeeze()).save(root / class_name / f"{prefix}{number:06}.png")
    return root


# Settings by which an evaluation takes seconds.
QUICK: dict[str, Any] = {
    "evaluate.resamples": 50,
    "evaluate.fidelity.k": 3,
    "evaluate.fidelity.frechet_resamples": 20,
    "evaluate.copies.planted": 0,
    "evaluate.encoder": {"images": 16, "updates": 2},
    "evaluate.two_sample": {"updates": 0, "halvings": 50, "planted": False},
    "evaluate.reidentification.updates": 0,
    "evaluate.privacy.relabellings": 50,
}


def flags(settings: dict[str, Any]) -> list[str]:
    """The settings as flags of the program."""
    found: list[str] = []
    for key, value in settings.items():
        if isinstance(value, dict):
            found += flags({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            found += ["--set", f"{key}={json.dumps(value)}"]
    return found


@pytest.fixture(scope="session")
def sets() -> dict[str, dict[str, np.ndarray]]:
    """Real, held-out and synthetic images of two classes, whose names do not sort as they are written here."""
    names = {"well": 0, "ill": 1}
    counts = {"real": 60, "holdout": 48, "synthetic": 50}
    return {
        part: {name: images(count, number, seed) for name, number in names.items()}
        for seed, (part, count) in enumerate(counts.items())
    }


@pytest.fixture(scope="session")
def groups() -> dict[str, dict[str, list[str]]]:
    """Patients of the real and the held-out images, six images each, of both classes."""
    counts = {"real": 60, "holdout": 48}
    return {part: {name: [f"{part}{i // 6}" for i in range(n)] for name in ("well", "ill")} for part, n in counts.items()}


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory, sets: Any, program: Callable[..., str]) -> Path:
    """A small network that the program trained on the real images."""
    root = tmp_path_factory.mktemp("classifier")
    data = folders(root / "data", sets["real"])
    args = ["--side", 32, "--width", 0.1, "--epochs", 1, "--data", data, "--out", root / "net"]
    program("-q", "train", "classifier", *args)
    return root / "net"


def pytest_sessionstart() -> None:
    """The tests are of what was installed: this checkout is not on the path."""
    import cellforge

    assert "site-packages" in os.fspath(Path(cellforge.__file__)), cellforge.__file__
