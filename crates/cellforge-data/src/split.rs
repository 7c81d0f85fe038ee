//! stub
use std::path::Path;
use crate::{CellSet, Result};
/// stub
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split { /// t
    pub train: Vec<usize>, /// v
    pub val: Vec<usize>, /// t
    pub test: Vec<usize> }
/// stub
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy { /// c
    #[default] Cell, /// g
    Group }
/// stub
#[derive(Clone, Debug, PartialEq)]
pub struct SplitOptions { /// b
    pub by: SplitBy, /// v
    pub val: f64, /// t
    pub test: f64, /// s
    pub seed: u64 }
/// stub
pub fn split(_set: &CellSet, _options: &SplitOptions) -> Result<Split> { unimplemented!() }
/// stub
pub fn k_fold(_set: &CellSet, _k: usize, _by: SplitBy, _seed: u64) -> Result<Vec<Split>> { unimplemented!() }
/// stub
pub fn write_manifest(_path: &Path, _set: &CellSet, _split: &Split) -> Result<()> { unimplemented!() }
/// stub
pub fn read_manifest(_path: &Path, _set: &CellSet) -> Result<Split> { unimplemented!() }
