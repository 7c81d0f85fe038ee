//! The inputs of a verb, and the precision it computes in.

use std::path::PathBuf;

use cellforge_kernels::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Inputs beside the images of `data`. A study finds all of them itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Inputs {
    /// Class to train a GAN on, or to generate. Without it, all classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Split of the images: a CSV file of `data split`. Without it, the settings of `data` make one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<PathBuf>,
    /// Judge: folder of a classifier that judges a GAN as it trains, on the split's validation images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<PathBuf>,
    /// Checkpoint: folder of a trained network, a run or a study.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    /// Real images that the generator learned from: a folder or zip with one folder per class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real: Option<String>,
    /// Holdout: real images of other patients, which the generator never saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holdout: Option<String>,
    /// Synthetic images: a folder or zip with one folder per class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<String>,
    /// Features to compare images by: `pixels`, `resnet:DIR`, `inception:FILE` or `safetensors:FILE`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub features: String,
    /// Folders of trained GANs, for membership inference by their discriminators.
    pub discriminators: Vec<PathBuf>,
}

/// Precision of convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PrecisionSetting {
    /// 32-bit floating point.
    F32,
    /// 16-bit brain floating point, faster on GPUs and on processors with AVX-512 BF16 or AMX.
    Bf16,
    /// 19-bit floating point, on NVIDIA GPUs.
    Tf32,
    /// The same as `bf16` on any processor, slowly, for comparisons.
    Bf16Emulated,
}

impl From<PrecisionSetting> for Precision {
    fn from(setting: PrecisionSetting) -> Self {
        match setting {
            PrecisionSetting::F32 => Self::F32,
            PrecisionSetting::Bf16 => Self::Bf16,
            PrecisionSetting::Tf32 => Self::Tf32,
            PrecisionSetting::Bf16Emulated => Self::EmulatedBf16,
        }
    }
}

impl From<Precision> for PrecisionSetting {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Bf16 => Self::Bf16,
            Precision::Tf32 => Self::Tf32,
            Precision::EmulatedBf16 => Self::Bf16Emulated,
            _ => Self::F32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precisions_have_the_names_of_the_kernels() {
        for name in ["f32", "bf16", "tf32", "bf16-emulated"] {
            let setting: PrecisionSetting = serde_json::from_value(name.into()).unwrap();
            assert_eq!(Precision::from(setting).name(), name);
            assert_eq!(PrecisionSetting::from(Precision::from(setting)), setting);
        }
    }
}
