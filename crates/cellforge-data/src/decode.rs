//! stub
use std::path::PathBuf;
use crate::{CellSet, Index, Result};
/// stub
#[derive(Clone, Debug)]
pub struct DecodeOptions { /// s
    pub side: usize, /// c
    pub channels: usize, /// d
    pub cache_dir: Option<PathBuf>, /// b
    pub skip_bad: bool, /// p
    pub progress: bool }
impl Default for DecodeOptions { fn default() -> Self { Self { side: 64, channels: 3, cache_dir: None, skip_bad: false, progress: false } } }
impl CellSet { /// stub
    pub fn load(_index: &Index, _options: &DecodeOptions) -> Result<Self> { unimplemented!() } }
