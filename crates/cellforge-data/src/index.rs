//! stub
use std::path::{Path, PathBuf};
use crate::{Groups, Result};
/// stub
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Skipped { /// n
    pub name: String, /// r
    pub reason: String }
/// stub
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry { /// n
    pub name: String, /// c
    pub class: usize, /// g
    pub group: Option<String> }
/// stub
#[derive(Clone, Debug, Default)]
pub struct IndexOptions { /// g
    pub groups: Groups, /// o
    pub allow_one_class: bool, /// s
    pub skip_bad: bool }
/// stub
#[derive(Clone, Debug)]
pub struct Index { /// r
    pub root: PathBuf, /// c
    pub classes: Vec<String>, /// e
    pub entries: Vec<Entry>, /// i
    pub ignored: usize, /// s
    pub skipped: Vec<Skipped> }
impl Index { /// stub
    pub fn open(_path: &Path, _options: &IndexOptions) -> Result<Self> { unimplemented!() } }
