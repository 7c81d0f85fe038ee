"""Generators make what the program makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cellforge
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def built_in() -> cellforge.Generator:
    return cellforge.Generator.built_in()


def made(folder: Path) -> np.ndarray:
    """The images that the program wrote into a folder, in their order."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def test_what_is_known_of_it(built_in: cellforge.Generator) -> None:
    assert built_in.classes == ["Parasitized", "Uninfected"]
    assert (built_in.image_size, built_in.channels) == ((64, 64), 3)
    assert "Uninfected" in repr(built_in)


def test_images_are_those_of_the_program(built_in: cellforge.Generator, program: Callable[..., str], tmp_path: Path) -> None:
    program("-q", "generate", "--count", 5, "--seed", 7, "--out", tmp_path / "made")
    both = built_in.sample(5, seed=7)
    assert both.shape == (10, 64, 64, 3) and both.dtype == np.uint8
    assert (both == np.concatenate([made(tmp_path / "made" / name) for name in built_in.classes])).all()
    one = built_in.sample(5, "Uninfected", seed=7)
    assert (one == both[5:]).all()
    # The array is the caller's own.
    one[0] = 0
    assert (built_in.sample(1, "Uninfected", seed=7) == both[5:6]).all()


def test_images_by_number_seed_and_options(built_in: cellforge.Generator, program: Callable[..., str], tmp_path: Path) -> None:
    whole = built_in.sample(40, "Parasitized", seed=2)
    assert (built_in.sample(7, "Parasitized", seed=2, first=30) == whole[30:37]).all()
    assert (built_in.sample(1, "Parasitized", seed=2, first=0) == whole[:1]).all()
    assert not (built_in.sample(1, "Parasitized", seed=3) == whole[:1]).all()
    assert built_in.sample(0).shape == (0, 64, 64, 3)
    program("-q", "generate", "--count", 3, "--class", "Parasitized", "--truncation", 0.7, "--out", tmp_path / "made")
    typical = built_in.sample(3, "Parasitized", seed=1, truncation=0.7)
    assert (made(tmp_path / "made/Parasitized") == typical).all()


def test_a_generator_of_ones_own(program: Callable[..., str], tmp_path: Path) -> None:
    program("-q", "data", "phantom", "--images-per-class", 20, "--out", tmp_path / "images.zip")
    small = ["--side", 32, "--width", 0.05, "--batch", 4, "--iterations", 2]
    program("-q", "train", "gan", *small, "--data", tmp_path / "images.zip", "--class", "Uninfected", "--out", tmp_path / "gan")
    program("-q", "generate", "--checkpoint", tmp_path / "gan", "--count", 2, "--out", tmp_path / "made")
    own = cellforge.Generator.load(tmp_path / "gan")
    assert (own.classes, own.image_size) == (["Uninfected"], (32, 32))
    assert (made(tmp_path / "made/Uninfected") == own.sample(2)).all()
    kept = own.sample(2, keep=0.5, seed=1)
    assert kept.shape == (2, 32, 32, 3)


def test_what_is_refused(built_in: cellforge.Generator, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no class 'Well'|no class \"Well\".*Parasitized, Uninfected"):
        built_in.sample(1, "Well")
    with pytest.raises(ValueError, match="count is -1"):
        built_in.sample(-1)
    with pytest.raises(ValueError, match="seed is -1"):
        built_in.sample(1, seed=-1)
    with pytest.raises(ValueError, match="seed is 1844"):
        built_in.sample(1, seed=2**64)
    with pytest.raises(TypeError, match="count is 1.5"):
        built_in.sample(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="count is True"):
        built_in.sample(True)
    with pytest.raises(TypeError, match="class_name is 1"):
        built_in.sample(1, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="truncation"):
        built_in.sample(1, truncation=0.0)
    with pytest.raises(ValueError, match="keep"):
        built_in.sample(1, keep=2.0)
    with pytest.raises((MemoryError, ValueError)):
        built_in.sample(2**52)
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        cellforge.Generator.load(tmp_path / "nowhere")
    (tmp_path / "state.json").write_text("{")
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ValueError):
        cellforge.Generator.load(tmp_path)
    with pytest.raises(TypeError, match="Generator.built_in"):
        cellforge.Generator("x")  # type: ignore[arg-type]
    np.testing.assert_equal(built_in.sample(np.int64(1)), built_in.sample(1))  # type: ignore[arg-type]
