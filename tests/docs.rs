//! What the documents say that can be counted.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
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
