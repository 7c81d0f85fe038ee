#!/usr/bin/env python3
"""Makes the archive of a release: the program, its licence and documents, pages for man, completions, and the list of what it is built from.

    release/archive.py --program target/release/cellforge --target x86_64-unknown-linux-gnu --out dist [--sbom FILE]

Leaves cellforge-VERSION-TARGET.tar.gz in OUT (.zip for Windows), and a file .sha256 beside it as `sha256sum --check` reads it. The same program gives
the same bytes: files are sorted, belong to nobody, and have the time of SOURCE_DATE_EPOCH or, without it, of the commit. Needs Python 3.8, cargo
and Git. The program has to run on this machine: it writes its own pages and completions.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ["LICENSE", "README.md", "CHANGELOG.md"]
# Each shell with the name under which it looks for completions.
SHELLS = {
    "bash": "cellforge.bash",
    "zsh": "_cellforge",
    "fish": "cellforge.fish",
    "powershell": "_cellforge.ps1",
    "elvish": "cellforge.elv",
}


def output(*command):
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True).stdout


def version_of(program):
    """The version that the program says it is, which has to be the one of Cargo.toml."""
    said = output(program, "--version").decode().split()
    metadata = output("cargo", "metadata", "--no-deps", "--format-version", "1", "--manifest-path", ROOT / "Cargo.toml")
    asked = next(one["version"] for one in json.loads(metadata)["packages"] if one["name"] == "cellforge-cli")
    if said != ["cellforge", asked]:
        sys.exit(f"release/archive.py: {program} says that it is {' '.join(said)}, and Cargo.toml says {asked}: build it again")
    return asked


def contents(program, sbom):
    """The files of the archive: a path within it, its bytes, and whether it can be run."""
    found = [("cellforge" + program.suffix, program.read_bytes(), True)]
    found += [(name, (ROOT / name).read_bytes(), False) for name in DOCUMENTS]
    for shell, name in SHELLS.items():
        found.append((f"completions/{name}", output(program, "completions", shell), False))
    with tempfile.TemporaryDirectory() as folder:
        output(program, "man", "--out", folder)
        found += [(f"man/{page.name}", page.read_bytes(), False) for page in Path(folder).iterdir()]
    if sbom:
        found.append((sbom.name, sbom.read_bytes(), False))
    return sorted(found)


def as_tar(name, files, when):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, data, runs in files:
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size, entry.mtime, entry.mode = len(data), when, 0o755 if runs else 0o644
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), compresslevel=6, mtime=0)


def as_zip(name, files, when):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path, data, runs in files:
            entry = zipfile.ZipInfo(f"{name}/{path}", time.gmtime(when)[:6])
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr = (0o100755 if runs else 0o100644) << 16
            archive.writestr(entry, data)
    return packed.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, required=True, help="the program, built for this machine")
    parser.add_argument("--target", required=True, help="what it was built for, such as aarch64-apple-darwin")
    parser.add_argument("--sbom", type=Path, help="what it is built from, as release/sbom.py lists it")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the archive")
    args = parser.parse_args()

    program = args.program.resolve()
    name = f"cellforge-{version_of(program)}-{args.target}"
    when = int(os.environ.get("SOURCE_DATE_EPOCH") or output("git", "-C", ROOT, "log", "-1", "--format=%ct"))
    pack, ending = (as_zip, ".zip") if "windows" in args.target else (as_tar, ".tar.gz")
    archive = pack(name, contents(program, args.sbom), when)

    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / (name + ending)
    path.write_bytes(archive)
    path.with_name(path.name + ".sha256").write_bytes(f"{hashlib.sha256(archive).hexdigest()}  {path.name}\n".encode())
    print(path)


if __name__ == "__main__":
    main()
