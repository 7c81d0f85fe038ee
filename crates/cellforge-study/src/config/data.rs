//! The settings of the cells and of their split.

use std::path::PathBuf;

pub use cellforge_data::SplitRule;
use serde::{Deserialize, Serialize};

/// Which cells, and how they are split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// A folder or zip with one folder per class, or `cifar10:DIR`, or `mnist:DIR`. Without it: the phantom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where the group (patient) of a cell comes from.
    pub groups: GroupSource,
    /// Files of `file,group` lines, or NLM's `patientid_cellmapping_*.csv`; they win over `groups`.
    pub group_csv: Vec<PathBuf>,
    /// Side of the square images, in pixels: 32, 64 or 128.
    pub side: usize,
    /// 3 for colour, 1 for grey.
    pub channels: usize,
    /// What is never divided between training and test.
    pub split_by: SplitRule,
    /// Share of the cells for validation (choosing the best small network).
    pub val: f64,
    /// Share of the cells for the test.
    pub test: f64,
    /// At most so many training cells per class; 0 means all.
    pub train_limit: usize,
    /// At most so many validation cells and so many test cells per class; 0 means all.
    pub test_limit: usize,
    /// Leave out images that cannot be read, and list them, instead of failing.
    pub skip_bad: bool,
    /// The stand-in for real cells.
    pub phantom: PhantomStage,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            path: None,
            groups: GroupSource::Auto,
            group_csv: Vec::new(),
            side: 64,
            channels: 3,
            split_by: SplitRule::Auto,
            val: 0.1,
            test: 0.2,
            train_limit: 0,
            test_limit: 0,
            skip_bad: false,
            phantom: PhantomStage::default(),
        }
    }
}

/// Where the group (patient) of a cell comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupSource {
    /// From NIH file names where they have that form, otherwise none.
    #[default]
    Auto,
    /// From NIH file names.
    Nih,
    /// No groups.
    None,
}

/// The size of the phantom, the rendered stand-in for real cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhantomStage {
    /// Cells per class.
    pub cells_per_class: usize,
    /// Patients the cells come from.
    pub patients: usize,
}

impl Default for PhantomStage {
    fn default() -> Self {
        // As many cells and patients as the NIH set has.
        Self { cells_per_class: 13_779, patients: 200 }
    }
}
