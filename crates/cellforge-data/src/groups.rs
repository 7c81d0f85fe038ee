//! stub
use std::path::PathBuf;
/// stub
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Groups { /// a
    #[default] Auto, /// n
    None, /// nih
    NihName, /// csv
    Csv(Vec<PathBuf>) }
