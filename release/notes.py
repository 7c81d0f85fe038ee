#!/usr/bin/env python3
"""Prints what the changelog says of a version, for the page of its release.

    release/notes.py v1.2.3

Fails where the tag is no version, Cargo.toml names another, or the changelog has no part of it. Needs Python 3.8 and
cargo.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def fail(message):
    sys.exit(f"release/notes.py: {message}")


def main():
    if len(sys.argv) != 2 or not (tag := re.fullmatch(r"v(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)", sys.argv[1])):
        fail(f"give a tag like v1.2.3, not {' '.join(sys.argv[1:]) or 'nothing'}")
    version = tag[1]
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1", "--manifest-path", ROOT / "Cargo.toml"]
    packages = [one for one in json.loads(subprocess.check_output(command))["packages"] if one["publish"] is None]
    for package in packages:
        if package["version"] != version:
            fail(f"the tag says {version}, and Cargo.toml {package['version']}")
        for asked in package["dependencies"]:
            if "path" in asked and asked["req"] != f"^{version}":
                fail(f"the tag says {version}, and {package['name']} asks for {asked['name']} {asked['req']}")
    log = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    part = re.search(rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## \[|\Z)", log, re.MULTILINE | re.DOTALL)
    if not part or not part[1].strip():
        fail(f"CHANGELOG.md has no part ## [{version}]")
    print(part[1].strip())


if __name__ == "__main__":
    main()
