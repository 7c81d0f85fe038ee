"""Every Python block of the documents runs, in its order, as somebody would paste it."""

from __future__ import annotations

from pathlib import Path

import cellforge
import numpy as np
import pytest
from conftest import QUICK, images

HERE = Path(__file__).resolve().parent
PAGES = [HERE.parent / "README.md", HERE.parent.parent / "docs/python.md"]


def blocks(page: Path) -> list[str]:
    """The Python blocks of a page."""
    found, inside = [], False
    for line in page.read_text().splitlines(keepends=True):
        if line.startswith("```"):
            inside = line.strip() == "```python"
            if inside:
                found.append("")
        elif inside:
            found[-1] += line
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run(page: Path, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/resnet").symlink_to(classifier)
    # The files that the pages speak of.
    for seed, name in enumerate(["train", "test", "synthetic"]):
        array = np.concatenate([images(48, number, seed) for number in range(2)])
        np.savez(name, images=array, labels=np.repeat(["ill", "well"], 48), patients=np.arange(96) % 48 // 4 + 100 * seed)
    # What takes minutes takes seconds.
    whole = cellforge.evaluate
    monkeypatch.setattr(cellforge, "evaluate", lambda *given, **options: whole(*given, **{**options, "settings": QUICK}))
    all_blocks = blocks(page)
    assert len(all_blocks) >= 3
    names: dict[str, object] = {}
    for number, code in enumerate(all_blocks):
        exec(compile(code, f"{page.name}, block {number + 1}", "exec"), names)
