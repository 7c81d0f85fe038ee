from typing import final

__all__ = [
    "Classifier",
    "Generator",
    "Images",
    "__version__",
    "evaluate",
    "features",
    "frechet",
    "kid",
    "prdc",
    "write_private",
]

__version__: str

@final
class Images:
    @staticmethod
    def plain(pixels: bytes, size: tuple[int, int], channels: int) -> Images: ...
    @staticmethod
    def sorted(
        pixels: bytes,
        size: tuple[int, int],
        channels: int,
        classes: list[str],
        labels: list[int],
        groups: list[str | None] | None,
        prefix: str,
    ) -> Images: ...
    def __len__(self) -> int: ...

@final
class Generator:
    @staticmethod
    def built_in() -> Generator: ...
    @staticmethod
    def load(path: str) -> Generator: ...
    @property
    def classes(self) -> list[str]: ...
    @property
    def image_size(self) -> tuple[int, int]: ...
    @property
    def channels(self) -> int: ...
    def sample(
        self,
        count: int,
        class_name: str | None,
        seed: int,
        first: int,
        truncation: float | None,
        keep: float | None,
    ) -> bytearray: ...

@final
class Classifier:
    @staticmethod
    def load(path: str) -> Classifier: ...
    @property
    def classes(self) -> list[str]: ...
    @property
    def image_size(self) -> tuple[int, int]: ...
    @property
    def channels(self) -> int: ...
    def predict(self, images: Images) -> bytearray: ...

def evaluate(
    real: Images,
    holdout: Images | None,
    synthetic: Images,
    features: list[str],
    settings: list[str],
    seed: int,
    level: float,
    noun: str,
    out: str,
    keep: bool,
) -> str: ...
def features(images: Images, features: str) -> tuple[bytearray, int]: ...
def write_private(path: str, text: str) -> None: ...
def frechet(a: bytes, dims_a: int, b: bytes, dims_b: int) -> float: ...
def prdc(a: bytes, dims_a: int, b: bytes, dims_b: int, k: int) -> tuple[float, float, float, float]: ...
def kid(
    a: bytes, dims_a: int, b: bytes, dims_b: int, subset: int, subsets: int, seed: int
) -> tuple[float, float | None]: ...
