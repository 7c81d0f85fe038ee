"""Checks of what is given: images, classes, groups, numbers."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._native import Images

CHANNELS = (1, 3)
MAX_SEED = 2**64 - 1


def whole(value: Any, name: str, least: int = 0, most: int = MAX_SEED) -> int:
    """A whole number within a range."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}: give a whole number") from None
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}: give a whole number")
    if not least <= number <= most:
        raise ValueError(f"{name} is {number}: it must be from {least} to {most}")
    return number


def _array(values: Any, name: str) -> npt.NDArray[Any]:
    """What is given as an array; lists of rows of several lengths make none."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} makes no array: {error}") from None


def pixels(images: Any, name: str) -> npt.NDArray[np.uint8]:
    """Images as an array (n, h, w, c) with n, h and w above 0."""
    array = _array(images, name)
    if array.dtype != np.uint8:
        raise TypeError(f"{name} has the type {array.dtype}, and images are uint8, 0 to 255{_hint(array)}")
    shape = array.shape
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4:
        one = "; of one image, take image[None]" if array.ndim == 2 else ""
        raise ValueError(f"{name} has the shape {shape}: expected (n, height, width) or (n, height, width, channels){one}")
    if array.shape[3] not in CHANNELS:
        if array.shape[1] in CHANNELS:
            raise ValueError(f"{name} has the shape {shape}: channels come last, as {name}.transpose(0, 2, 3, 1) has them")
        raise ValueError(f"{name} has the shape {shape}: there are 1 or 3 channels, not {array.shape[3]}")
    if len(shape) == 3 and shape[2] in CHANNELS:
        raise ValueError(f"{name} has the shape {shape}, which is that of one image in colour: take image[None]")
    if 0 in array.shape:
        raise ValueError(f"{name} has the shape {shape}: there are no images in it")
    return array


def _hint(array: npt.NDArray[Any]) -> str:
    if array.dtype.kind == "f":
        return ": of values from 0 to 1, take (255 * images).round().astype('uint8')"
    if array.dtype == np.uint16:
        return ": of 16 bits, choose black and white first, as in (images >> 8).astype('uint8')"
    if array.dtype.kind in "iu":
        return ": take images.astype('uint8') where all values are within that"
    return ""


def plain(images: Any, name: str = "images") -> Images:
    """Images that nothing sorts, in their order."""
    array = pixels(images, name)
    _, height, width, channels = array.shape
    return Images.plain(array.tobytes(), (height, width), channels)


def labelled(images: Any, groups: Any, name: str, prefix: str = "") -> Images:
    """Images with their classes: a mapping from class to images, or a pair of images and labels. Groups have the same form. Names of images begin with the prefix."""
    if isinstance(images, Mapping):
        classes, labels, array, all_groups = _of_mapping(images, groups, name)
    elif isinstance(images, (tuple, list)) and len(images) == 2:
        classes, labels, array, all_groups = _of_pair(images[0], images[1], groups, name)
    else:
        raise TypeError(f"{name} is a {type(images).__name__}: give a mapping from class to images, or a pair (images, labels)")
    _, height, width, channels = array.shape
    return Images.sorted(array.tobytes(), (height, width), channels, classes, labels, all_groups, prefix)


Labelled = tuple[list[str], list[int], npt.NDArray[np.uint8], "list[str | None] | None"]


def _of_mapping(images: Mapping[Any, Any], groups: Any, name: str) -> Labelled:
    if not images:
        raise ValueError(f"{name} has no class")
    if groups is not None and not isinstance(groups, Mapping):
        raise TypeError(f"{name}_groups is a {type(groups).__name__}: give a mapping from class to groups, as {name} has classes")
    if groups is not None and set(groups) != set(images):
        raise ValueError(f"{name}_groups has the classes {_listed(groups)}, and {name} has {_listed(images)}")
    arrays: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    all_groups: list[str | None] = []
    for label, (class_name, of_class) in enumerate(images.items()):
        if not isinstance(class_name, str):
            raise TypeError(f"{name} has the class {class_name!r}: names of classes are texts")
        array = pixels(of_class, f"{name}[{class_name!r}]")
        if arrays and array.shape[1:] != arrays[0].shape[1:]:
            first = next(iter(images))
            raise ValueError(
                f"{name}[{class_name!r}] has images of {_size(array)}, and {name}[{first!r}] of {_size(arrays[0])}: "
                "all images of an evaluation have one size"
            )
        arrays.append(array)
        labels += [label] * len(array)
        if groups is not None:
            all_groups += _names(groups[class_name], len(array), f"{name}_groups[{class_name!r}]", missing=True)
    return list(images), labels, np.concatenate(arrays), all_groups if groups is not None else None


def _of_pair(images: Any, labels: Any, groups: Any, name: str) -> Labelled:
    array = pixels(images, f"{name}[0]")
    names = [str(label) for label in _names(labels, len(array), f"{name}[1]", missing=False)]
    classes = sorted(set(names))
    places = {class_name: place for place, class_name in enumerate(classes)}
    of_groups = None if groups is None else _names(groups, len(array), f"{name}_groups", missing=True)
    return classes, [places[label] for label in names], array, of_groups


def _names(values: Any, expected: int, name: str, missing: bool) -> list[str | None]:
    """Names as texts, one an image; whole numbers become their digits. `missing` lets some be `None`."""
    if isinstance(values, (str, bytes)) or not isinstance(values, (Iterable, Sequence)):
        raise TypeError(f"{name} is a {type(values).__name__}: give one entry for each image")
    found: list[str | None] = []
    for place, value in enumerate(values):
        if isinstance(value, str) and (value or not missing):
            found.append(str(value))
        elif isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            found.append(str(int(value)))
        elif value is None and missing:
            found.append(None)
        else:
            allowed = "a text that is not empty, a whole number, or None where it is not known" if missing else "a text or a whole number"
            raise TypeError(f"{name}[{place}] is {value!r}: give {allowed}")
    if len(found) != expected:
        raise ValueError(f"{name} has {len(found)} entries for {expected} images: give one for each image")
    return found


def _listed(classes: Mapping[Any, Any]) -> str:
    return ", ".join(map(str, classes))


def _size(array: npt.NDArray[np.uint8]) -> str:
    _, height, width, channels = array.shape
    return f"{height} rows, {width} columns and {channels} channel{'' if channels == 1 else 's'}"


def rows(features: Any, name: str) -> tuple[bytes, int]:
    """Features as the bytes of float32, and the numbers of a row."""
    array = _array(features, name)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} has the type {array.dtype}: features are real numbers")
    if array.ndim != 2:
        raise ValueError(f"{name} has the shape {array.shape}: expected (n, d), a row of d features for each of n images")
    if 0 in array.shape:
        raise ValueError(f"{name} has the shape {array.shape}: there are no features in it")
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(array, dtype=np.float32)
    lost = np.isinf(narrow) & np.isfinite(array)
    if lost.any():
        row, column = np.argwhere(lost)[0]
        raise ValueError(f"{name}[{row}, {column}] is {array[row, column]}: features are computed in float32, and that is beyond its range")
    return narrow.tobytes(), array.shape[1]
