"""Compares two folders of runs: weights, images and zips by their bytes, figures by their numbers. Names of keys, words, times and settings may differ."""

import hashlib
import json
import pathlib
import sys
import zipfile

BYTES = {".safetensors", ".png", ".csv"}
# What is no figure: times, what a run was asked for, and versions of formats. And what the program of before did not measure.
SKIPPED = {"copies", "two_sample", "seconds", "durations", "settings", "versions", "schema_version", "format_version", "config", "provenance", "training"}


def numbers(value, found):
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in SKIPPED:
                numbers(inner, found)
    elif isinstance(value, list):
        for inner in value:
            numbers(inner, found)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found.append(float(value))
    return found


def content(path):
    """What is compared of a file, or None where nothing is."""
    if path.suffix in BYTES:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return [(name, hashlib.sha256(archive.read(name)).hexdigest()) for name in archive.namelist()]
    if path.name == "log.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return {line["iteration"]: sorted(numbers({k: v for k, v in line.items() if k != "iteration"}, [])) for line in lines}
    if path.name in ("results.json", "evaluation.json", "test.json", "judgement.json"):
        return sorted(numbers(json.loads(path.read_text()), []))
    return None


def main(before, after):
    compared, wrong = 0, []
    for path in sorted(before.rglob("*")):
        inside = path.relative_to(before)
        if not path.is_file() or "cache" in inside.parts or "tensorboard" in inside.parts or "stamps" in inside.parts:
            continue
        old = content(path)
        if old is None:
            continue
        other = after / inside
        if not other.is_file():
            wrong.append(f"{inside} is missing")
            continue
        new = content(other)
        compared += 1
        if path.name == "log.jsonl":
            # Logs may have more lines or fewer; those of the same iteration say the same.
            shared = old.keys() & new.keys()
            if not shared or any(old[at] != new[at] for at in shared):
                wrong.append(f"{inside} differs")
        elif old != new:
            wrong.append(f"{inside} differs")
    for line in wrong:
        print(line)
    print(f"{compared} files compared, {len(wrong)} differ")
    return 1 if wrong or not compared else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))
