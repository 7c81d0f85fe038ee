"""Networks that were trained: generators and classifiers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _native
from ._arrays import plain, whole


class Generator:
    """A trained generator. `Generator.built_in()` and `Generator.load(path)` make one."""

    def __init__(self, native: _native.Generator) -> None:
        if not isinstance(native, _native.Generator):
            raise TypeError("take Generator.built_in() or Generator.load(path)")
        self._native = native

    @classmethod
    def built_in(cls) -> Generator:
        """The generator that is part of this package: malaria cells, parasitized and uninfected, 64 x 64 pixels in colour.

        `cellforge generate --about` prints its data sheet. Another version may have another generator.
        """
        return cls(_native.Generator.built_in())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Generator:
        """A generator that `cellforge train gan` trained, or `cellforge pack` packed.

        `path` is the folder of a run or of a checkpoint. A run's best checkpoint is taken, or else its last. In a study with a generator for each class, it is the
        folder of one class, such as `runs/quick/gan/Uninfected`.

        Raises `FileNotFoundError` where there is no checkpoint, and `ValueError` for one that is damaged or of another kind.
        """
        return cls(_native.Generator.load(os.fspath(path)))

    @property
    def classes(self) -> list[str]:
        """The classes that it makes images of."""
        return self._native.classes

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of its images in pixels."""
        return self._native.image_size

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self._native.channels

    def sample(
        self,
        count: int,
        class_name: str | None = None,
        *,
        seed: int = 1,
        first: int = 0,
        truncation: float | None = None,
        keep: float | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Makes images: those of `cellforge generate --count COUNT --class CLASS --seed SEED`, to the byte.

        Args:
            count: How many images of each class, 0 or more.
            class_name: The class. Without it, images of each class are made, those of the first in `classes` first: `count * len(classes)` in all.
            seed: Where all randomness comes from, 0 or above.
            first: The number of the first image, counted from 0. `sample(10, first=20)` has the images 20 to 29 of `sample(30)`, where there is one class.
            truncation: Draws each number of the noise again until it lies within so much of 0, at least 0.01. Images become more typical and vary less.
            keep: The share of candidates that is kept, from 0.001 to 1, by the score of the discriminator. Images look more real to the discriminator and vary less.

        Returns:
            An array `(n, height, width, channels)` of `uint8`. It is the caller's own.

        Raises:
            ValueError: For a class that there is not, or a number out of its range.
        """
        count, first = whole(count, "count", most=2**53), whole(first, "first", most=2**53)
        if class_name is not None and not isinstance(class_name, str):
            raise TypeError(f"class_name is {class_name!r}: give a text, one of {', '.join(self.classes)}")
        data = self._native.sample(count, class_name, whole(seed, "seed"), first, truncation, keep)
        height, width = self.image_size
        return np.frombuffer(data, np.uint8).reshape(-1, height, width, self.channels)

    def __repr__(self) -> str:
        return f"<cellforge.Generator of {_described(self)}>"


class Classifier:
    """A trained classifier. `Classifier.load(path)` makes one."""

    def __init__(self, native: _native.Classifier) -> None:
        if not isinstance(native, _native.Classifier):
            raise TypeError("take Classifier.load(path)")
        self._native = native

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """A classifier that `cellforge train classifier` trained. `path` is the folder of a run or of a checkpoint.

        Raises `FileNotFoundError` where there is no checkpoint, and `ValueError` for one that is damaged or of another kind.
        """
        return cls(_native.Classifier.load(os.fspath(path)))

    @property
    def classes(self) -> list[str]:
        """The classes that it tells apart."""
        return self._native.classes

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that it takes."""
        return self._native.image_size

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self._native.channels

    def predict(self, images: Any) -> npt.NDArray[np.float32]:
        """Probabilities of the classes.

        Args:
            images: `(n, height, width, channels)` of `uint8`, of its size; without the last axis for grey images.

        Returns:
            An array `(n, classes)` of `float32`. Rows add up to 1, and columns are in the order of `classes`.
        """
        data = self._native.predict(plain(images))
        return np.frombuffer(data, np.float32).reshape(-1, len(self.classes))

    def __repr__(self) -> str:
        return f"<cellforge.Classifier of {_described(self)}>"


def _described(network: Generator | Classifier) -> str:
    height, width = network.image_size
    return f"{', '.join(network.classes)}: {width}x{height} pixels, {'colour' if network.channels == 3 else 'grey'}"
