//! The settings of the images and of their split.

use std::path::PathBuf;

pub use cellforge_data::SplitRule;
use cellforge_data::{Duplicates, Fit, GroupPattern, Groups, Masks, OpenOptions, Stacks, Table};
use cellforge_settings::{CHANNELS, ImageSize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, nih};

/// Which images, and how they are split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Noun for one image in reports and messages, such as `radiograph`, or both forms, such as `biopsy/biopsies`.
    ///
    /// At the default, a study calls the NIH images and the phantom cells.
    pub noun: String,
    /// Images: a folder or zip of them, a file that holds many, or `cifar10:DIR`, or `mnist:DIR`. Without it, the phantom.
    ///
    /// Folders sort them into classes, and where there are such into patients and the parts of a split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Layout: what each level of folders above the images is, as in `class/group`: class, group, part or `*`. Without it, that is found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// A table of classes, groups and parts of a split. It wins over folders, names and files.
    pub table: TableConfig,
    /// Where the group (patient) of an image comes from.
    pub groups: GroupSetting,
    /// Pattern of groups: a regular expression whose first part in parentheses is the group in a file's name, or with a `/` in its path. It wins over `groups`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_pattern: Option<String>,
    /// CSV files of groups, with lines `file,group`, or NLM's. They win over `groups`.
    pub group_csv: Vec<PathBuf>,
    /// Slices of volumes, pages and frames that are images: `all`, `middle`, or a number N for each N-th.
    pub slices: String,
    /// Axis of volumes across which they are cut into slices.
    #[schemars(extend("enum" = [1, 2, 3]))]
    pub axis: usize,
    /// Window: the intensities that are black and white, of images of more than 8 bits. Without it, those of the set, and DICOM files' own.
    ///
    /// Of whole numbers they are the least and the greatest of the set, of measured ones its percentiles 0.5 and 99.5.
    pub window: Vec<f64>,
    /// What becomes of masks that lie beside the images.
    pub masks: Masks,
    /// What becomes of identical images: on one side of a split, kept apart, or dropped.
    pub duplicates: Duplicates,
    /// Size of the images in pixels: a side for squares, and width x height otherwise, as in `320x240`.
    pub side: ImageSize,
    /// How an image of another shape becomes one of this size: chosen by the set, stretched, padded with the colour of its border, or cropped.
    pub fit: Fit,
    /// Channels of the images: 3 for colour, 1 for grey. Without it, 1 where no image shows a colour, however it is stored, else 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = CHANNELS))]
    pub channels: Option<usize>,
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
            layout: None,
            table: TableConfig::default(),
            groups: GroupSetting::Auto,
            group_pattern: None,
            group_csv: Vec::new(),
            slices: "all".to_owned(),
            axis: 3,
            window: Vec::new(),
            masks: Masks::LeaveOut,
            duplicates: Duplicates::SameSide,
            side: ImageSize::square(64),
            fit: Fit::Auto,
            channels: None,
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

impl DataConfig {
    /// The channels of the images, or the most that they can have where that is to be found out.
    #[must_use]
    pub fn most_channels(&self) -> usize {
        self.channels.unwrap_or(3)
    }

    /// How the images are read: in memory, of two classes or more, without a bar.
    ///
    /// # Errors
    /// [`Error::Data`] for a layout, a pattern, slices or a window that are none.
    pub fn open_options(&self) -> Result<OpenOptions> {
        let mut options = nih::open_options(self.side, self.channels);
        options.fit = self.fit;
        options.groups = self.groups()?;
        options.layout = self.layout.as_deref().map(str::parse).transpose()?;
        options.table = self.table.table();
        options.window = match self.window.as_slice() {
            [] => None,
            [low, high] => Some((*low, *high)),
            other => {
                let reason = format!("a window is two intensities, black and white, not {}", other.len());
                return Err(Error::Data(cellforge_data::Error::Invalid(reason)));
            }
        };
        options.stacks = Stacks::new(self.axis, self.slices.parse()?);
        // A window that is asked for is one for all, files with windows of their own among them.
        options.stacks.windows = options.window.is_none();
        options.masks = self.masks;
        options.duplicates = self.duplicates;
        options.skip_bad = self.skip_bad;
        Ok(options)
    }

    /// The rule by which images get their groups. CSV files, where there are some, win over a pattern, and that over the word.
    fn groups(&self) -> Result<Groups> {
        if !self.group_csv.is_empty() {
            return Ok(Groups::Csv(self.group_csv.clone()));
        }
        Ok(match (&self.group_pattern, self.groups) {
            (Some(pattern), _) => Groups::Names(GroupPattern::new(pattern)?),
            (None, GroupSetting::Auto) => Groups::Auto,
            (None, GroupSetting::Nih) => Groups::Names(nih::patients()),
            (None, GroupSetting::None) => Groups::None,
        })
    }

    /// The same for images that are described by nothing but their folders, such as synthetic ones: no table, no groups, and what looks like
    /// a mask is an image.
    #[must_use]
    pub fn of_folders(&self) -> Self {
        Self {
            layout: None,
            table: TableConfig::default(),
            groups: GroupSetting::None,
            group_pattern: None,
            group_csv: Vec::new(),
            masks: Masks::Keep,
            duplicates: Duplicates::Keep,
            ..self.clone()
        }
    }
}

/// A table with a line for each image, and a header: any delimiter, in UTF-8 or UTF-16.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TableConfig {
    /// Table with a line for each image and a header, such as a CSV file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Column of the table that names images, by path, file name or that without its ending. Without it, the one in which most are found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Column of the class; or several columns of ones and zeros, each named by a class. Without it, folders tell the classes.
    pub label: Vec<String>,
    /// Column of the group, such as the patient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Column of the part of a split: train, val or test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
}

impl TableConfig {
    fn table(&self) -> Option<Table> {
        let Self { file, name, label, group, part } = self.clone();
        file.map(|path| Table { path, name, label, group, part })
    }
}

/// The setting that says where the group (patient) of an image comes from, where neither a pattern nor a table does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupSetting {
    /// What files state (DICOM), or else folders, NIH file names where all have that form, or the volumes that slices are of; otherwise none.
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
