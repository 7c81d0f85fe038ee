"""Evaluations of synthetic images, by the code of `cellforge evaluate`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _native
from ._arrays import labelled, plain, whole



@dataclass(frozen=True)
class Verdict:
    """The answer to one question."""

    about: str
    """`realism`, `coverage`, `utility` or `privacy`."""
    question: str
    """The question in words."""
    answer: str
    """`good`, `caution`, `bad` or `unknown`."""
    sentence: str
    """The answer in one or two sentences, with the figures that it rests on."""


class Evaluation:
    """What an evaluation found. `evaluate` makes it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._verdicts = [Verdict(**verdict) for verdict in json.loads(text)["verdicts"]]

    @property
    def verdicts(self) -> list[Verdict]:
        """The answers to the four questions, drawn from intervals alone."""
        return list(self._verdicts)

    def to_dict(self) -> dict[str, Any]:
        """All figures: the content of `evaluation.json`, whose fields `SCHEMA.md` of the crate `cellforge-assess` describes.

        Each call makes a new one.
        """
        found: dict[str, Any] = json.loads(self._text)
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `evaluation.json` to `path`, and replaces what is there. The file is its owner's alone to read: it may name patients and images."""
        _native.write_private(os.fspath(path), self._text)

    def __repr__(self) -> str:
        return f"<cellforge.Evaluation {', '.join(f'{verdict.about}: {verdict.answer}' for verdict in self._verdicts)}>"

    def __str__(self) -> str:
        return "\n".join(f"{verdict.question} {verdict.answer.upper()}\n  {verdict.sentence}" for verdict in self._verdicts)


def evaluate(
    real: Any,
    holdout: Any,
    synthetic: Any,
    *,
    features: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = "pixels",
    real_groups: Any = None,
    holdout_groups: Any = None,
    measure: Sequence[str] | None = None,
    seed: int = 1,
    level: float = 0.95,
    noun: str = "image",
    settings: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Evaluation:
    """Judges synthetic images beside real ones: do they look real, do they cover what is real, can a model be trained on them, do they leak a patient?

    It is the evaluation of `cellforge evaluate`. Image `i` of a class goes by the name `CLASS/00000i.png`, counted from 1, or `CLASS/synthetic_00000i.png`, as
    `cellforge generate` names it. Folders of such PNG files give the program the same figures and verdicts.

    Each set is a mapping from the name of a class to its images, `(n, height, width)` or `(n, height, width, channels)` of `uint8`, or a pair of images and one
    label for each: texts or whole numbers, which become texts. All sets have images of one size. Synthetic classes are real ones; not all have to be there.

    Args:
        real: The real images that the generator learned from.
        holdout: Real images of other patients, which it never saw. With `None`, only copies of training images are looked for, and no other leak.
        synthetic: The synthetic images.
        features: What images are compared by, one or several. Verdicts rest on the first. `"pixels"`; a path or `"resnet:DIR"` for a classifier that was trained with
            cellforge; `"self-supervised"` for a network that learns from the real images; `"inception:FILE"` and `"dinov2:FILE"` for networks whose weights
            are supplied; `"safetensors:FILE"` for features that another program computed.
        real_groups: The patient of each real image, in the form of `real`: a mapping from class to groups, or one group for each image. Groups are texts or whole
            numbers, or `None` where one is not known; patients count where all are known.
        holdout_groups: The same of `holdout`.
        measure: What to measure, of `"fidelity"`, `"two_sample"`, `"privacy"` and `"utility"`. Without it, all but utility, which trains classifiers.
        seed: Where all randomness comes from, 0 or above.
        level: Coverage of the intervals, between 0 and 1.
        noun: What one image is called in sentences, such as `"radiograph"`, or its singular and plural, such as `"biopsy/biopsies"`.
        settings: Any settings of the table `evaluate` by their names in the documents, such as `{"evaluate.resamples": 200}`.
        out: A new or empty folder, for `evaluation.json`, the report `report.html`, and `datasheet.md`. The report shows real images.

    Returns:
        The figures and verdicts.

    Raises:
        TypeError, ValueError: For what does not fit together; the message says what, and what is needed.
        OSError: For a file that cannot be read or written.
    """
    sources = [features] if isinstance(features, (str, os.PathLike)) else list(features)
    given = _assignments(settings, measure)
    sets = (
        labelled(real, real_groups, "real"),
        None if holdout is None else labelled(holdout, holdout_groups, "holdout"),
        labelled(synthetic, None, "synthetic", "synthetic_"),
    )
    if holdout is None and holdout_groups is not None:
        raise ValueError("holdout_groups is given, and holdout is not")
    named = [_source(one) for one in sources]

    def into(folder: str, keep: bool) -> Evaluation:
        return Evaluation(_native.evaluate(*sets, named, given, whole(seed, "seed"), float(level), noun, folder, keep))

    if out is None:
        with tempfile.TemporaryDirectory(prefix="cellforge-") as folder:
            return into(folder, False)
    folder = os.fspath(out)
    if Path(folder).exists() and (not Path(folder).is_dir() or any(Path(folder).iterdir())):
        raise FileExistsError(f"{folder} is there already and holds something: name a new folder for the evaluation")
    return into(folder, True)


def features(images: Any, features: str | os.PathLike[str] = "pixels") -> npt.NDArray[np.float32]:
    """What an evaluation compares images by.

    Args:
        images: `(n, height, width)` or `(n, height, width, channels)` of `uint8`.
        features: `"pixels"`, which are averaged to 12 x 12 or fewer; a path or `"resnet:DIR"` for a classifier that was trained with cellforge; `"inception:FILE"` or
            `"dinov2:FILE"` for a network whose weights are supplied.

    Returns:
        An array `(n, d)` of `float32`, a row for each image, in their order.
    """
    data, dims = _native.features(plain(images), _source(features))
    return np.frombuffer(data, np.float32).reshape(-1, dims)


def _source(source: Any) -> str:
    """A source of features as a text: a path is that of a classifier."""
    if isinstance(source, str):
        return source
    if isinstance(source, os.PathLike):
        return f"classifier:{os.fspath(source)}"
    raise TypeError(f"features has {source!r}: give a text or a path")


def _assignments(settings: Mapping[str, Any] | None, measure: Sequence[str] | None) -> list[str]:
    """Settings as the texts KEY=VALUE."""
    found: dict[str, Any] = {}
    _flatten(settings or {}, "", found)
    if measure is not None:
        found["evaluate.measure"] = [measure] if isinstance(measure, str) else list(measure)
    return [f"{key}={_toml(key, value)}" for key, value in found.items()]


def _flatten(settings: Mapping[str, Any], above: str, found: dict[str, Any]) -> None:
    if not isinstance(settings, Mapping):
        raise TypeError(f"settings is a {type(settings).__name__}: give a mapping from names of settings to values")
    for key, value in settings.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            _flatten(value, f"{name}.", found)
        else:
            found[name] = value


def _toml(key: str, value: Any) -> str:
    """A value as TOML, of which texts, numbers, truth values and lists in JSON are a part."""
    if value is None:
        return "none"
    if isinstance(value, np.generic):
        value = value.item()
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise TypeError(f"the setting {key} is {value!r}: give a text, a number, a truth value or a list of them") from None
