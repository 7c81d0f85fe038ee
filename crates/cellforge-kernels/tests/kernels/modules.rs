//! The modules of the crate import one another in one direction only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The modules of the crate's root that a source names: what follows `crate::`, outside comments and tests.
fn imports(source: &str) -> BTreeSet<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut found = BTreeSet::new();
    for line in lines {
        for after in line.split("crate::").skip(1) {
            match after.strip_prefix('{') {
                Some(group) => found.extend(group.split(',').map(|one| name(one.trim()))),
                None => _ = found.insert(name(after)),
            }
        }
    }
    found
}

fn read(folder: &Path, module: Option<&str>, edges: &mut BTreeMap<String, BTreeSet<String>>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        let own = module.unwrap_or(&stem);
        if path.is_dir() {
            read(&path, Some(own), edges);
        } else if path.extension().is_some_and(|extension| extension == "rs") && own != "lib" {
            let source = std::fs::read_to_string(&path).expect("a source");
            edges.entry(own.to_owned()).or_default().extend(imports(&source));
        }
    }
}

#[test]
fn no_module_imports_itself_by_way_of_others() {
    let mut edges = BTreeMap::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut edges);
    let modules: BTreeSet<String> = edges.keys().cloned().collect();
    for (module, imports) in &mut edges {
        let unknown: Vec<_> = imports.difference(&modules).collect();
        assert!(unknown.is_empty(), "{module} imports {unknown:?} from the root: import it from its module");
        imports.remove(module);
    }
    assert!(edges.len() > 20 && edges["conv"].contains("tape") && edges["tape"].contains("gather"), "{edges:?}");
    // Modules that import none that is left are taken away, until none is: a circle would stay.
    while !edges.is_empty() {
        let left: BTreeSet<String> = edges.keys().cloned().collect();
        edges.retain(|_, imports| !imports.is_disjoint(&left));
        assert!(edges.len() < left.len(), "these modules import one another in a circle, or from one: {edges:?}");
    }
}
