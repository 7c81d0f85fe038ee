"""Evaluations of arrays have the figures of the program's on folders of PNG files."""

from __future__ import annotations

import csv
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cellforge
import numpy as np
import pytest
from conftest import QUICK, flags, folders, images


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """All that is not a time, or a name of where the images and the work come from."""
    found = json.loads(json.dumps(found))
    for name in ("seconds", "provenance"):
        del found[name]
    for part in ("real", "holdout", "synthetic"):
        if found["sets"][part]:
            del found["sets"][part]["source"]
    return found


def test_figures_are_those_of_the_program(
    sets: Any, classifier: Path, program: Callable[..., str], tmp_path: Path
) -> None:
    prefixes = {"synthetic": "synthetic_"}
    paths = {part: folders(tmp_path / part, of_classes, prefixes.get(part, "")) for part, of_classes in sets.items()}
    utility = {"evaluate.utility": {"width": 0.25, "updates": 2, "batch": 8, "seeds": 1, "fractions": [1.0], "ratios": [0]}}
    settings = {**QUICK, **utility}
    all_measures = ["fidelity", "two_sample", "privacy", "utility"]
    for features, of_program, measure in [
        ("pixels", "pixels", all_measures),
        (classifier, f"resnet:{classifier}", ["fidelity"]),
    ]:
        out = tmp_path / f"out-{os.path.basename(str(features))}"
        args = ["--side", 32, "--features", of_program, "--pairs", 0, "--seed", 5, "--measure", ",".join(measure)]
        sources = [word for part, path in paths.items() for word in (f"--{part}", path)]
        program("-q", "evaluate", *args, *sources, *flags(settings), "--out", out)
        of_files = json.loads((out / "evaluation.json").read_text())
        of_arrays = cellforge.evaluate(**sets, features=features, seed=5, measure=measure, settings=settings)
        assert figures(of_arrays.to_dict()) == figures(of_files)
        assert [verdict.answer for verdict in of_arrays.verdicts] == [verdict["answer"] for verdict in of_files["verdicts"]]
        assert all(of_files[part] for part in measure)


def test_patients_are_those_of_the_program(sets: Any, program: Callable[..., str], tmp_path: Path) -> None:
    # Names of files are alike in all sets, and one table is of all, so held-out patients would be those of training.
    patients = {name: [f"p{i // 6}" for i in range(len(array))] for name, array in sets["real"].items()}
    table = [f"{name}/{i:06}.png,{group}" for name, all_of in patients.items() for i, group in enumerate(all_of, 1)]
    table += [f"{name}/synthetic_{i:06}.png,s" for name, array in sets["synthetic"].items() for i in range(1, len(array) + 1)]
    (tmp_path / "patients.csv").write_text("\n".join(["file,group", *table, ""]))
    real = folders(tmp_path / "real", sets["real"])
    synthetic = folders(tmp_path / "synthetic", sets["synthetic"], "synthetic_")
    args = ["--side", 32, "--pairs", 0, "--group-csv", tmp_path / "patients.csv", "--measure", "fidelity,two_sample"]
    program("-q", "evaluate", "--real", real, "--synthetic", synthetic, *args, *flags(QUICK), "--out", tmp_path / "out")
    of_files = json.loads((tmp_path / "out/evaluation.json").read_text())
    of_arrays = cellforge.evaluate(
        sets["real"],
        None,
        sets["synthetic"],
        real_groups=patients,
        measure=["fidelity", "two_sample"],
        settings=QUICK,
    )
    assert of_files["sets"]["real"]["patients"] == 10
    assert figures(of_arrays.to_dict()) == figures(of_files)


def test_a_pair_is_a_mapping(sets: Any, groups: Any) -> None:
    rng = np.random.default_rng(1)

    def pair(part: str) -> tuple[np.ndarray, list[str], list[str]]:
        """The images in an order of chance, each class in its own, with their labels and groups."""
        labels = np.array([name for name, array in sets[part].items() for _ in array])
        order = rng.permutation(len(labels))
        shuffled = labels[order]
        numbers = {name: iter(range(len(array))) for name, array in sets[part].items()}
        taken = [(name, next(numbers[name])) for name in shuffled]
        array = np.stack([sets[part][name][number] for name, number in taken])
        of_groups = [groups[part][name][number] for name, number in taken] if part in groups else []
        return array, list(map(str, shuffled)), of_groups

    pairs = {part: pair(part) for part in sets}
    options: dict[str, Any] = {"measure": ["fidelity"], "settings": QUICK}
    of_pairs = cellforge.evaluate(
        *((array, labels) for array, labels, _ in pairs.values()),
        real_groups=pairs["real"][2],
        holdout_groups=np.array(pairs["holdout"][2]),
        **options,
    )
    of_mappings = cellforge.evaluate(
        *sets.values(), real_groups=groups["real"], holdout_groups=groups["holdout"], **options
    )
    assert figures(of_pairs.to_dict()) == figures(of_mappings.to_dict())
    found = of_pairs.to_dict()["sets"]
    assert (found["real"]["patients"], found["holdout"]["patients"], found["shared_patients"]) == (10, 8, 0)


def test_the_folder_of_an_evaluation(sets: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = cellforge.evaluate(*sets.values(), settings=QUICK, noun="blob", out=out)
    assert "blobs" in (out / "report.html").read_text() and (out / "datasheet.md").is_file()
    assert json.loads((out / "evaluation.json").read_text()) == found.to_dict()
    assert any((out / "pairs").iterdir())
    found.save(tmp_path / "copy.json")
    assert (tmp_path / "copy.json").read_bytes() == (out / "evaluation.json").read_bytes()
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "copy.json").stat().st_mode) == 0o600
    assert found.to_dict() is not found.to_dict()
    assert {verdict.about for verdict in found.verdicts} == {"realism", "coverage", "utility", "privacy"}
    assert "realism: " in repr(found) and found.verdicts[0].sentence in str(found)
    with pytest.raises(FileExistsError, match="name a new folder"):
        cellforge.evaluate(*sets.values(), settings=QUICK, out=out)
    with pytest.raises(OSError):
        found.save(tmp_path)


def test_nothing_is_left_behind(sets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = cellforge.evaluate(sets["real"], None, sets["synthetic"], measure=["fidelity"], settings=QUICK)
    assert found.to_dict()["pairs"] == [] and list(tmp_path.iterdir()) == []
    # What is refused makes no folder.
    with pytest.raises(ValueError):
        cellforge.evaluate(sets["real"], None, {"other": sets["synthetic"]["ill"]}, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_grey_images_and_one_class(sets: Any) -> None:
    grey = {part: {"ill": of_classes["ill"][..., 0]} for part, of_classes in sets.items()}
    found = cellforge.evaluate(*grey.values(), measure=["fidelity"], settings=QUICK).to_dict()
    assert (found["sets"]["channels"], found["classes"]) == (1, ["ill"])
    # Non-contiguous arrays are what they show.
    turned = {part: {"ill": np.asfortranarray(array["ill"])[:, ::1]} for part, array in grey.items()}
    again = cellforge.evaluate(*turned.values(), measure=["fidelity"], settings=QUICK).to_dict()
    assert figures(again) == figures(found)
    # A class that the synthetic images have not is left out, and told of.
    fewer = cellforge.evaluate(sets["real"], None, {"ill": sets["synthetic"]["ill"]}, measure=["fidelity"], settings=QUICK).to_dict()
    assert fewer["sets"]["real"]["left_out"] == {"well": 60}


def test_several_features(sets: Any, classifier: Path) -> None:
    found = cellforge.evaluate(
        sets["real"], None, sets["synthetic"], features=[classifier, "pixels"], measure=["fidelity"], settings=QUICK
    ).to_dict()
    assert found["features"]["family"] == "classifier"
    assert [other["features"]["name"] for other in found["other_features"]] == ["pixels"]


def test_features_are_those_of_an_evaluation(sets: Any, classifier: Path, tmp_path: Path) -> None:
    array = sets["real"]["ill"]
    pixels = cellforge.features(array)
    assert pixels.shape == (60, 12 * 12 * 3) and pixels.dtype == np.float32
    # 32 rows to 12: the first mean is over two whole rows and two thirds of the third.
    weights = np.array([1, 1, 2 / 3])
    first = (array[0, :3, :3, 0] / 255 * weights[:, None] * weights).sum() / weights.sum() ** 2
    assert abs(pixels[0, 0] - first) < 1e-6
    found = cellforge.features(array, classifier)
    assert found.shape[0] == 60 and np.isfinite(found).all()
    assert (cellforge.features(array[::-1], classifier) == found[::-1]).all()
    assert (cellforge.features(array[..., 0]) == cellforge.features(array[..., :1])).all()
    # They are what the figures are of: as features of another program they give the same.
    one_class = [{"ill": sets[part]["ill"]} for part in ("real", "synthetic")]
    names = ["real", "synthetic"]
    write_safetensors(tmp_path / "pixels.safetensors", {name: cellforge.features(of["ill"]) for name, of in zip(names, one_class)})
    supplied = f"safetensors:{tmp_path / 'pixels.safetensors'}"
    both = [
        cellforge.evaluate(one_class[0], None, one_class[1], features=source, measure=["fidelity"], settings=QUICK).to_dict()
        for source in ("pixels", supplied)
    ]
    assert both[0]["fidelity"]["pooled"] == both[1]["fidelity"]["pooled"]
    assert both[1]["features"]["family"] == "supplied"


def write_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A safetensors file: the length of its header, the header, and the arrays one after the other."""
    header, end = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in arrays.values()))


def test_predictions_are_those_of_the_program(sets: Any, classifier: Path, program: Callable[..., str], tmp_path: Path) -> None:
    network = cellforge.Classifier.load(str(classifier))
    assert (network.classes, network.image_size, network.channels) == (["ill", "well"], (32, 32), 3)
    array = sets["holdout"]["ill"]
    found = network.predict(array)
    assert found.shape == (48, 2) and np.allclose(found.sum(axis=1), 1, atol=1e-6)
    data = folders(tmp_path / "data", sets["holdout"])
    program("-q", "classify", "--checkpoint", classifier, "--data", data, "--csv", tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as table:
        of_program = {line["name"]: [float(line[f"p_{name}"]) for name in network.classes] for line in csv.DictReader(table)}
    for number, row in enumerate(found, 1):
        assert np.allclose(of_program[f"ill/{number:06}.png"], row, atol=1e-5), number


def test_what_is_refused(sets: Any, classifier: Path, tmp_path: Path) -> None:
    real, holdout, synthetic = sets.values()
    quick: dict[str, Any] = {"measure": ["fidelity"], "settings": QUICK}

    def refused(kind: type[Exception], match: str, *given: Any, **options: Any) -> None:
        with pytest.raises(kind, match=match):
            cellforge.evaluate(*given, **{**quick, **options})

    ill = real["ill"]
    refused(TypeError, r"real\['ill'\] has the type float64.*astype\('uint8'\)", {"ill": ill / 255.0}, None, synthetic)
    refused(TypeError, "type uint16.*16 bits", {"ill": ill.astype(np.uint16)}, None, synthetic)
    refused(TypeError, "type bool", {"ill": ill > 9}, None, synthetic)
    refused(ValueError, r"channels come last.*transpose\(0, 2, 3, 1\)", {"ill": ill.transpose(0, 3, 1, 2)}, None, synthetic)
    refused(ValueError, "there are 1 or 3 channels, not 4", {"ill": np.repeat(ill[..., :1], 4, 3)}, None, synthetic)
    refused(ValueError, r"one image in colour: take image\[None\]", {"ill": ill[0]}, None, synthetic)
    refused(ValueError, r"expected \(n, height, width\).*image\[None\]", {"ill": ill[0, ..., 0]}, None, synthetic)
    refused(ValueError, "there are no images in it", {**real, "ill": ill[:0]}, None, synthetic)
    refused(ValueError, r"real\['ill'\] makes no array", {"ill": [ill[0], ill[1, :5]]}, None, synthetic)
    refused(ValueError, "real has no class", {}, None, synthetic)
    refused(TypeError, "real is a ndarray: give a mapping", ill, None, synthetic)
    refused(TypeError, "names of classes are texts", {1: ill}, None, synthetic)
    refused(ValueError, "have one size", {"ill": ill, "well": ill[:, :24, :24]}, None, synthetic)
    refused(ValueError, "holdout images: images have 24x24", real, {name: a[:, :24, :24] for name, a in holdout.items()}, synthetic)
    refused(ValueError, "real images: image_size is 33: each side", *({"ill": images(9, size=(33, 33))} for _ in range(3)))
    refused(ValueError, "synthetic images: they are of sick, which is no class of the real images", real, None, {"sick": ill})
    refused(ValueError, "holdout images: there is none of class", real, {"ill": holdout["ill"]}, synthetic)
    refused(ValueError, "fidelity|images", {"ill": ill[:2]}, None, {"ill": ill[:2]})
    refused(ValueError, r"real\[1\] has 3 entries for 60 images", (ill, ["a", "b", "c"]), None, synthetic)
    refused(TypeError, r"real\[1\]\[0\] is 0.5", (ill, [0.5] * 60), None, synthetic)
    refused(TypeError, r"real\[1\]\[0\] is None", (ill, [None] * 60), None, synthetic)
    refused(TypeError, r"real_groups\['ill'\]\[1\] is nan", {"ill": ill}, None, synthetic, real_groups={"ill": ["a", float("nan")]})
    refused(TypeError, r"real_groups\['ill'\]\[0\] is ''", {"ill": ill}, None, synthetic, real_groups={"ill": [""]})
    refused(TypeError, "noun", real, None, synthetic, noun=None)
    refused(ValueError, "real_groups has the classes well", {"ill": ill}, None, synthetic, real_groups={"well": []})
    refused(ValueError, "holdout_groups is given", real, None, synthetic, holdout_groups={})
    refused(ValueError, "none of resnet:DIR, pixels", real, None, synthetic, features="vgg")
    refused(FileNotFoundError, "no checkpoint in", real, None, synthetic, features=tmp_path / "none")
    refused(FileNotFoundError, "none.pth", real, None, synthetic, features="inception:none.pth")
    refused(ValueError, "takes images of 32x32", *({"ill": images(9, size=(48, 48))} for _ in range(3)), features=classifier)
    refused(ValueError, "names none", real, None, synthetic, features=[])
    refused(TypeError, "features has 3", real, None, synthetic, features=[3])
    refused(ValueError, "no setting evaluate.resample.*evaluate.resamples", real, None, synthetic, settings={"evaluate.resample": 3})
    refused(ValueError, "evaluate.resamples is 3", real, None, synthetic, settings={"evaluate": {"resamples": 3}})
    refused(TypeError, "setting evaluate.resamples", real, None, synthetic, settings={"evaluate.resamples": object()})
    refused(ValueError, "evaluate.measure", real, None, synthetic, measure=["beauty"])
    refused(ValueError, "level", real, None, synthetic, level=2)
    refused(ValueError, "noun", real, None, synthetic, noun="a/b/c")
    refused(ValueError, "seed is -1", real, None, synthetic, seed=-1)
    with pytest.raises(ValueError, match="learns from the real images"):
        cellforge.features(ill, "self-supervised")
    with pytest.raises(ValueError, match="the sets that it was made of"):
        cellforge.features(ill, "safetensors:x")
    with pytest.raises(ValueError, match="takes images of 32x32"):
        cellforge.Classifier.load(classifier).predict(images(2, size=(48, 48)))
