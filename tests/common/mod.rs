//! What several of the test files need.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Every file under a folder with its bytes, except TensorBoard's, which hold the time of writing, and the cache's, which are not
/// part of a run.
pub fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_dir() {
                found.insert(path.strip_prefix(root).unwrap().to_path_buf(), fs::read(&path).unwrap());
            } else if !path.ends_with("tensorboard") && !path.ends_with("cache") {
                folders.push(path);
            }
        }
    }
    found
}
