//! What goes out: which files are in each package, and which code in other languages the program is built from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).arg("--offline").current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages that are published, each with its folder.
fn published() -> BTreeMap<String, PathBuf> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    // `publish = false` is an empty list of registries.
    let packages = packages.filter(|package| package["publish"].is_null()).map(|package| {
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_path_buf();
        (package["name"].as_str().unwrap().to_owned(), folder)
    });
    packages.collect()
}

/// Endings of what a package is made of. A new one is a decision to write down here.
const ENDINGS: &[&str] =
    &["rs", "toml", "md", "lock", "json", "html", "css", "js", "txt", "py", "c", "cu", "cpp", "h", "awk"];

/// Files with other endings, or with none: where they may lie, and why they are there.
const OTHERS: &[(&str, &str)] = &[
    ("LICENSE", "the licence"),
    (".cargo_vcs_info.json", "cargo's note of the commit"),
    ("Cargo.toml.orig", "the manifest before cargo rewrote it"),
    ("builtin/weights.safetensors", "the built-in generator"),
    ("builtin/discriminator.safetensors", "the built-in generator's discriminator, to start other trainings from"),
    ("tests/fixtures/", "what tests compare with"),
    ("tests/cuda/", "the simulator of a GPU, and scripts that build it"),
    ("tests/metal/check", "a script"),
    ("benches/on_gpu", "a script"),
];

/// The most bytes of one file that is no network, and of a package before it is compressed; crates.io takes 10 MB compressed.
const MAX_FILE: u64 = 512 << 10;
const MAX_PACKAGE: u64 = 9 << 20;

/// A large or foreign file in the folder of a package (a data set, a checkpoint, an output) would go out with it unseen.
#[test]
fn packages_hold_what_belongs_to_them() {
    let packages = published();
    assert!(packages.len() > 10, "{packages:?}");
    let mut wrong = Vec::new();
    for (name, folder) in &packages {
        let listed = cargo(&["package", "--list", "--allow-dirty", "-p", name]);
        let mut bytes = 0;
        for file in listed.lines().map(|line| line.replace('\\', "/")) {
            let ending = Path::new(&file).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            let other =
                OTHERS.iter().any(|(place, _)| file == *place || (place.ends_with('/') && file.starts_with(place)));
            if !other && !ENDINGS.contains(&ending) {
                wrong.push(format!("{name}: {file}"));
            }
            // Cargo makes some of the files as it packs.
            let size = fs::metadata(folder.join(&file)).map_or(0, |meta| meta.len());
            if size > MAX_FILE && !file.ends_with(".safetensors") {
                wrong.push(format!("{name}: {file} has {size} bytes"));
            }
            bytes += size;
        }
        assert!(bytes > 5000, "{name} has {bytes} bytes");
        if bytes > MAX_PACKAGE {
            wrong.push(format!("{name} has {bytes} bytes"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Crates that build code in other languages, or look for libraries of the system.
const BUILDERS: &[&str] = &["bindgen", "cc", "cmake", "nasm-rs", "pkg-config", "vcpkg"];

/// What of the program is not Rust. A new one is a decision to write down here and in docs/reliability.md.
const NOT_RUST: &[(&str, &str)] = &[("ring", "cryptography of TLS, in C and assembly, for `data fetch`")];

/// The names of all packages that the program is built from on this machine, each with those that it asks for itself.
fn built_from() -> BTreeMap<String, BTreeSet<String>> {
    let tree = cargo(&["tree", "-e", "normal,build", "--prefix", "depth", "-p", "cellforge-cli"]);
    let (mut found, mut above) = (BTreeMap::<String, BTreeSet<String>>::new(), Vec::<String>::new());
    for line in tree.lines() {
        let digits = line.find(|c: char| !c.is_ascii_digit()).unwrap_or(line.len());
        let (depth, rest) = line.split_at(digits);
        let name = rest.split_whitespace().next().unwrap().to_owned();
        above.truncate(depth.parse().unwrap());
        if let Some(asks) = above.last() {
            found.entry(asks.clone()).or_default().insert(name.clone());
        }
        above.push(name);
    }
    found
}

#[test]
fn code_that_is_not_rust_is_listed() {
    let packages = built_from();
    assert!(packages.len() > 100, "{} packages", packages.len());
    let asks_for_one = |asked: &BTreeSet<String>| BUILDERS.iter().any(|builder| asked.contains(*builder));
    let found: Vec<_> =
        packages.iter().filter(|(_, asked)| asks_for_one(asked)).map(|(name, _)| name.as_str()).collect();
    let listed: Vec<_> = NOT_RUST.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, listed);
}

/// The libraries that the program is linked with when it starts are those of the C library and of the compiler.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu", not(feature = "cuda")))]
fn the_program_asks_for_no_library_but_the_systems() {
    let output = Command::new("ldd").arg(env!("CARGO_BIN_EXE_cellforge")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = said.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let allowed = ["linux-vdso", "ld-linux", "libc.", "libgcc_s.", "libm."];
    assert!(names.iter().any(|name| name.starts_with("libc.")), "{said}");
    for name in names {
        let file = name.rsplit('/').next().unwrap();
        assert!(allowed.iter().any(|start| file.starts_with(start)), "{said}");
    }
}
