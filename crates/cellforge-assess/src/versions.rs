//! What something was computed with.

use candle_core::Device;
use cellforge_kernels::Precision;
use serde::{Deserialize, Serialize};

/// What something was computed with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    /// Version of this crate.
    pub cellforge: String,
    /// Version of Candle.
    pub candle: String,
    /// Operating system, e.g. `linux`.
    pub os: String,
    /// Processor architecture, e.g. `x86_64`.
    pub arch: String,
    /// What it ran on: `cpu`, `cuda:0`, `metal`, with commas where they differ.
    pub device: String,
}

/// The version of Candle in the workspace's `Cargo.lock`; a test holds it to that.
const CANDLE: &str = "0.11.1";

impl Versions {
    /// Those of this program, with what it computed on.
    #[must_use]
    pub fn here(device: String) -> Self {
        Self {
            cellforge: env!("CARGO_PKG_VERSION").to_owned(),
            candle: CANDLE.to_owned(),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            device,
        }
    }
}

/// What a device is called in outputs, with the precision that it computes in when it is told this one.
#[must_use]
pub fn device_name(device: &Device, precision: Precision) -> String {
    let used = precision.on(device);
    match device.location() {
        candle_core::DeviceLocation::Cpu => match used {
            Precision::F32 => "cpu".to_owned(),
            lower => format!("cpu ({})", lower.name()),
        },
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id} ({})", used.name()),
        candle_core::DeviceLocation::Metal { .. } => "metal".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candle_is_the_locked_one() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
        let lock: toml::Table = std::fs::read_to_string(lock).unwrap().parse().unwrap();
        let packages = lock["package"].as_array().unwrap();
        let candle = packages.iter().find(|package| package["name"].as_str() == Some("candle-core")).unwrap();
        assert_eq!(candle["version"].as_str(), Some(CANDLE));
    }
}
