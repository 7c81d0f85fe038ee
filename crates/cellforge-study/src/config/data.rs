//! The settings of the images and of their split.

use std::path::PathBuf;

pub use cellforge_data::SplitRule;
use cellforge_gan::{CHANNELS, SIDES};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which images, and how they are split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Noun for one image in reports and messages, such as `radiograph`, or both forms, such as `biopsy/biopsies`.
    ///
    /// At the default, a study calls the NIH images and the phantom cells.
    pub noun: String,
    /// Images: a folder or zip with one folder per class, or `cifar10:DIR`, or `mnist:DIR`. Without it, the phantom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where the group (patient) of an image comes from.
    pub groups: GroupSetting,
    /// CSV files of groups, with lines `file,group`, or NLM's. They win over `groups`.
    pub group_csv: Vec<PathBuf>,
    /// Side of the square images, in pixels.
    #[schemars(extend("enum" = SIDES))]
    pub side: usize,
    /// Channels of the images: 3 for colour, 1 for grey.
    #[schemars(extend("enum" = CHANNELS))]
    pub channels: usize,
    /// Unit of the split: what is never divided between training and test.
    pub split_by: SplitRule,
    /// Share of the images for validation.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub val: f64,
    /// Share of the images for the test.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub test: f64,
    /// Most training images per class. 0 is all.
    #[schemars(range(max = 1_000_000_000))]
    pub train_limit: usize,
    /// Most validation images, and most test images, per class. 0 is all.
    #[schemars(range(max = 1_000_000_000))]
    pub test_limit: usize,
    /// Skip images that cannot be read, and list them, instead of failing.
    pub skip_bad: bool,
    /// The rendered stand-in for real images.
    pub phantom: PhantomStage,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            noun: "image".to_owned(),
            path: None,
            groups: GroupSetting::Auto,
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

/// The setting that says where the group (patient) of an image comes from: a word, from which [`GroupSetting::groups`] makes the
/// [`Groups`](cellforge_data::Groups) that images are read with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupSetting {
    /// From NIH file names where they have that form, otherwise none.
    #[default]
    Auto,
    /// From NIH file names.
    Nih,
    /// No groups.
    None,
}

/// The size of the phantom, the rendered stand-in for real images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PhantomStage {
    /// Images of each class in the phantom.
    #[schemars(range(min = 1, max = 100_000))]
    pub images_per_class: usize,
    /// Patients in the phantom.
    #[schemars(range(min = 1, max = 100_000))]
    pub patients: usize,
}

impl Default for PhantomStage {
    fn default() -> Self {
        // Enough for a look; as many as a study needs are in its presets.
        Self { images_per_class: 500, patients: 40 }
    }
}
