#!/usr/bin/env python3
"""Lists every crate that the program is built from, with version, licence, checksum and what it asks for, in the form of CycloneDX 1.6.

    release/sbom.py [TARGET] [OUT]

Writes OUT/cellforge-TARGET.cdx.json; TARGET is this machine's and OUT `dist` unless they are named. Crates that only build scripts and derive macros use
are marked `excluded`: they run when the program is built and are no part of it. The same commit gives the same bytes. Needs Python 3.8, cargo and Git.
"""

import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def output(*command):
    return subprocess.check_output(command, cwd=ROOT, text=True)


def checksums():
    """The checksum of each crate of the registry, by name and version, from Cargo.lock."""
    pattern = r'\[\[package\]\]\nname = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "([0-9a-f]{64})"'
    lock = (ROOT / "Cargo.lock").read_text(encoding="utf-8")
    return {(name, version): digest for name, version, digest in re.findall(pattern, lock)}


def reached(nodes, start, kinds):
    """What is reached from a package through dependencies of these kinds."""
    found, open_ids = {start}, [start]
    while open_ids:
        for asked in nodes[open_ids.pop()]["deps"]:
            if asked["pkg"] not in found and any(kind["kind"] in kinds for kind in asked["dep_kinds"]):
                found.add(asked["pkg"])
                open_ids.append(asked["pkg"])
    return found


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, digests, is_part):
    entry = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "scope": "required" if is_part else "excluded",
    }
    if digest := digests.get((package["name"], package["version"])):
        entry["hashes"] = [{"alg": "SHA-256", "content": digest}]
    if package["license"]:
        # Crates of long ago write a stroke between two licences.
        entry["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", package["license"])}]
    entry["purl"] = purl(package)
    if package["repository"]:
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return entry


def main():
    words = sys.argv[1:]
    if len(words) > 2 or any(word.startswith("-") for word in words):
        sys.exit(__doc__.strip())
    target = words[0] if words else re.search(r"^host: (.*)$", output("rustc", "-vV"), re.MULTILINE)[1]
    out = Path(words[1] if len(words) > 1 else "dist")

    metadata = json.loads(output("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    program = next(id for id in metadata["workspace_members"] if packages[id]["name"] == "cellforge-cli")

    # A derive macro is asked for like any library, and runs in the compiler; so does what it asks for.
    is_macro = {id for id, package in packages.items() if any("proc-macro" in made["kind"] for made in package["targets"])}
    without = {id: {"deps": [] if id in is_macro else node["deps"]} for id, node in nodes.items()}
    parts = reached(without, program, (None,)) - is_macro
    everything = reached(nodes, program, (None, "build"))
    digests = checksums()

    def by_name(id):
        return (packages[id]["name"], packages[id]["version"])

    when = int(os.environ.get("SOURCE_DATE_EPOCH") or output("git", "log", "-1", "--format=%ct"))
    components = [component(packages[id], digests, id in parts) for id in sorted(everything - {program}, key=by_name)]
    dependencies = []
    for id in sorted(everything, key=by_name):
        asked = {one["pkg"] for one in nodes[id]["deps"] if any(kind["kind"] in (None, "build") for kind in one["dep_kinds"])}
        dependencies.append({"ref": purl(packages[id]), "dependsOn": [purl(packages[one]) for one in sorted(asked & everything, key=by_name)]})
    top = component(packages[program], digests, True)
    top.update({"type": "application", "name": "cellforge"})
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(when, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": top,
            "properties": [{"name": "cargo:target", "value": target}],
        },
        "components": components,
        "dependencies": dependencies,
    }
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"cellforge-{target}.cdx.json"
    path.write_bytes((json.dumps(bom, indent=1) + "\n").encode())
    print(f"{path}: {sum(one['scope'] == 'required' for one in components)} crates in the program, {len(components)} in all")


if __name__ == "__main__":
    main()
