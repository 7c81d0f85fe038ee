//! What the documents say, and how the packages are cut, as far as it can be counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// `docs/reliability.md` lists each file with `unsafe`, and how often it is there.
#[test]
fn unsafe_is_where_the_page_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["crates", "examples", "benches", "tests"] {
        rust_files(&root.join(folder), &mut files);
    }
    // This file has the words in it too.
    files.retain(|file| !file.ends_with(file!()));
    let mut found = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let count: usize = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern"]
            .map(|form| code.clone().map(|line| line.matches(form).count()).sum())
            .iter()
            .sum();
        if count > 0 {
            let name = file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            found.insert(name, count);
        }
    }
    let page = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let listed: BTreeMap<String, usize> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            let count = cells.next()?.parse().ok()?;
            name.ends_with(".rs").then(|| (name.to_owned(), count))
        })
        .collect();
    assert_eq!(found, listed);
}

/// Files under a folder.
fn all_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all_files(&path, found) } else { found.push(path) }
    }
}

/// What words of one disease, of its images or of those who give them out there are in a line of code. Cells of memory (`std::cell`) and of
/// tables are none.
fn words_of_a_disease(line: &str) -> Vec<String> {
    let code = ["std::cell", "RefCell", "OnceCell", "UnsafeCell", "Cell<", "Cell::", "::Cell", "table cell"];
    let line = code.iter().fold(line.to_owned(), |line, part| line.replace(part, " ")).to_lowercase();
    let words = line.split(|c: char| !c.is_alphanumeric());
    let is_one = |word: &&str| {
        word.contains("malaria") || word.contains("parasit") || ["nih", "nlm", "cell", "cells"].contains(word)
    };
    words.filter(is_one).map(str::to_owned).collect()
}

/// Only the study knows what its images show, and the phantom and the built-in generator, which are like them.
#[test]
fn libraries_and_program_name_no_disease() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        let package = entry.unwrap().path();
        let source = if package.ends_with("cellforge-cli") { package } else { package.join("src") };
        if source.is_dir() && !source.starts_with(root.join("crates/cellforge-study")) {
            all_files(&source, &mut files);
        }
    }
    assert!(files.len() > 150, "{} files", files.len());
    let knows = ["cellforge-data/src/phantom/", "cellforge-train/src/builtin.rs", "cellforge/src/shipped.rs"];
    // What is meant by another word there: a cell of a grid, and what people call the column of files in a table.
    let others = |name: &str, line: &str, word: &str| {
        let of_a_grid = name.starts_with("crates/cellforge-kernels/") && word.starts_with("cell");
        of_a_grid || (name == "crates/cellforge-data/src/groups.rs" && line.contains("FILE_WORDS"))
    };
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        if knows.iter().any(|part| name.contains(part)) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            if words_of_a_disease(line).iter().any(|word| !others(&name, line, word)) {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn words_are_found() {
    for line in ["parasitised", "the NIH's", "let cells = 3;", "images_of_a_cell", "cell_images.zip", "Malaria"] {
        assert!(!words_of_a_disease(line).is_empty(), "{line}");
    }
    for line in
        ["cellforge_data", "use std::cell::Cell;", "Cell<u8>", "in a table cell", "cancelled", "RefCell::new(0)"]
    {
        assert!(words_of_a_disease(line).is_empty(), "{line}");
    }
}

/// What code would say that makes a path of one of the names that stand in `RunDir`.
fn names_in_paths() -> Vec<String> {
    // Files, whose names mean nothing else; and folders, whose names are words of their own where they are not joined to a path.
    let files = "log.jsonl test.json folds.json config.toml split.csv evaluation.json audit.json report.html datasheet.md results.json judgement.json phantom.zip";
    let folders = "tensorboard grids cache features gans runs pairs stamps data cnn resnet gan synthetic judge evaluation last best";
    let mut found = Vec::new();
    for name in files.split(' ') {
        found.extend([format!("\"{name}\""), format!("/{name}\"")]);
    }
    for name in folders.split(' ') {
        for before in ["join", "path", "push", "with_file_name", "RunDir::new", "Folder"] {
            found.extend([format!("{before}(\"{name}\""), format!("{before}(\"{name}/")]);
        }
        found.push(format!("format!(\"{name}/"));
    }
    found
}

/// Whether a line of code has one of them. What a report says, and the key of a seed, are no paths.
fn names_a_file_of_a_run(line: &str, names: &[String]) -> bool {
    let other = !line.contains('"') || line.contains("code { ") || line.contains("derive_seed(");
    !other && names.iter().any(|name| line.contains(name.as_str()))
}

/// Only `RunDir` knows what the files and folders of a run are called; tests may.
#[test]
fn names_in_the_folder_of_a_run_stand_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("crates"), &mut files);
    let (names, mut found) = (names_in_paths(), Vec::new());
    for file in files {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        if name.contains("/tests") || name.ends_with("cellforge-train/src/run_dir/names.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            if !line.trim_start().starts_with("//") && names_a_file_of_a_run(line, &names) {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn names_of_files_are_found() {
    for line in [
        "out.join(\"results.json\")",
        "const REPORT: &str = \"report.html\";",
        "Makes::Folder(\"cnn\")",
        "format!(\"gan/{name}\")",
    ] {
        assert!(names_a_file_of_a_run(line, &names_in_paths()), "{line}");
    }
    for line in ["code { \"results.json\" }", "derive_seed(1, \"gan\")", "Table::new(\"cnn\")", "words.join(\" \")"] {
        assert!(!names_a_file_of_a_run(line, &names_in_paths()), "{line}");
    }
}

fn cargo(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.args(args).arg("--offline").current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The names of all packages that one is built from.
fn built_from(package: &[&str]) -> BTreeSet<String> {
    let tree = cargo(&[&["tree", "-e", "normal", "--prefix", "none", "-p"], package].concat());
    tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn libraries_are_built_from_nothing_that_is_for_programs() {
    let none_of = |package: &[&str], names: &[&str]| {
        let found = built_from(package);
        assert!(found.contains(package[0]) && found.len() > 20, "{found:?}");
        let wrong: Vec<_> = names.iter().filter(|name| found.contains(**name)).collect();
        assert!(wrong.is_empty(), "{package:?} is built from {wrong:?}");
    };
    none_of(&["cellforge"], &["clap", "sysinfo", "signal-hook", "tracing-subscriber", "anyhow"]);
    none_of(&["cellforge-data", "--no-default-features"], &["candle-core", "ureq", "indicatif", "tempfile"]);
    none_of(&["cellforge-eval"], &["candle-core", "image", "indicatif", "tempfile"]);
    none_of(&["cellforge-settings"], &["candle-core", "clap"]);
}

/// The libraries of the workspace, each with its folder and what it asks for itself, its tests left out.
fn libraries() -> BTreeMap<String, (PathBuf, BTreeSet<String>)> {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let package = |package: &serde_json::Value| {
        let asked = package["dependencies"].as_array().unwrap().iter().filter(|asked| asked["kind"].is_null());
        let asked = asked.map(|asked| asked["name"].as_str().unwrap().to_owned()).collect();
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_path_buf();
        (package["name"].as_str().unwrap().to_owned(), (folder, asked))
    };
    let mut found: BTreeMap<_, _> = metadata["packages"].as_array().unwrap().iter().map(package).collect();
    assert!(found.remove("cellforge-cli").is_some() && found.len() > 8);
    found
}

/// Candle's safetensors brings tempfile along; no crate of ours asks for it. Charts are drawn where the reports are.
#[test]
fn what_libraries_ask_for() {
    for (name, (_, asked)) in libraries() {
        assert!(!asked.contains("tempfile") && !asked.contains("clap"), "{name}: {asked:?}");
        assert_eq!(asked.contains("plotters"), name == "cellforge-assess", "{name}: {asked:?}");
    }
}

#[test]
fn every_package_has_its_licence() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let licence = fs::read(root.join("LICENSE")).unwrap();
    for (name, (folder, _)) in libraries() {
        assert_eq!(fs::read(folder.join("LICENSE")).unwrap_or_default(), licence, "{name}");
    }
}

/// The page's table of margins is the program's.
#[test]
fn margins_are_those_of_the_page() {
    use cellforge::assess::evaluation::{LEAST_IMAGES, LEAST_PATIENTS, MARGINS};

    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/evaluation.md")).unwrap();
    let part = page.split("## What counts as good").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<Vec<&str>> = part
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| figure"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let expected: Vec<Vec<String>> = MARGINS
        .iter()
        .map(|one| {
            let percent = 100.0 * one.margin;
            let margin = match one.figure {
                "Fréchet distance" => format!("{percent}% of the variance of the real images' features"),
                _ => format!("{percent} points"),
            };
            vec![one.figure.to_owned(), one.about.to_owned(), margin]
        })
        .collect();
    assert_eq!(rows, expected);
    let words = part.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&format!("fewer than {LEAST_IMAGES} images")));
    assert!(words.contains(&format!("fewer than {LEAST_PATIENTS} patients")));
}

/// The book has every page.
#[test]
fn every_page_is_in_the_book() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let mut files = Vec::new();
    all_files(&docs, &mut files);
    let pages =
        files.iter().filter(|file| file.extension().is_some_and(|end| end == "md") && !file.ends_with("SUMMARY.md"));
    for page in pages {
        let name = page.strip_prefix(&docs).unwrap().to_str().unwrap().replace('\\', "/");
        assert_eq!(summary.matches(&format!("]({name})")).count(), 1, "docs/SUMMARY.md has each page once: {name}");
    }
    assert!(summary.lines().filter(|line| line.contains("](")).count() > 10);
}
