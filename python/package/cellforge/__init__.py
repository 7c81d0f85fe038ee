"""Make synthetic medical images, and measure what they are worth.

- `Generator`: makes images, from the built-in generator or one of your own.
- `evaluate`: judges synthetic images beside real ones, with the figures and verdicts of the program `cellforge evaluate`.
- `features`: what an evaluation compares images by.
- `Classifier`: class probabilities of images.
- `metrics`: figures of two arrays of features.

Images are NumPy arrays of `uint8`, `(n, height, width)` in grey or `(n, height, width, channels)` with 1 or 3 channels. Heights and widths are 24, 28, 40, 56 or a
multiple of 16 from 32 to 512. Everything runs on the CPU, on as many threads as it has cores, or as the environment variable `RAYON_NUM_THREADS` says. Python's
lock is released meanwhile. No result depends on the number of threads.

What is wrong with what is given is a `ValueError` or `TypeError`, what is wrong with a file an `OSError`.

For research and teaching. Not a diagnostic device.
"""

from . import metrics
from ._evaluation import Evaluation, Verdict, evaluate, features
from ._native import __version__
from ._networks import Classifier, Generator

__all__ = [
    "Classifier",
    "Evaluation",
    "Generator",
    "Verdict",
    "__version__",
    "evaluate",
    "features",
    "metrics",
]
