//! The device that a verb computes on.

use std::{fmt, str::FromStr};

use anyhow::{Context, Result, bail};
use candle_core::Device;

/// The value of `--device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    Auto,
    Cpu,
    Cuda(usize),
    Metal,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "expected cpu, cuda, cuda:N, metal or auto".to_owned()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl DeviceChoice {
    pub(super) fn open(self, asked: bool) -> Result<Device> {
        let (cuda, metal) = (cfg!(feature = "cuda"), cfg!(feature = "metal"));
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) if !cuda => {
                bail!(
                    "this cellforge was built without CUDA; build one that has it with: cargo build --release --features cuda"
                )
            }
            Self::Metal if !metal => {
                bail!(
                    "this cellforge was built without Metal; build one that has it with: cargo build --release --features metal"
                )
            }
            Self::Cuda(n) => open_cuda(n).with_context(|| format!("cannot open CUDA device {n}")),
            Self::Metal => Device::new_metal(0).context("cannot open the Metal device"),
            Self::Auto => {
                let opened = if cuda {
                    open_cuda(0)
                } else if metal {
                    Device::new_metal(0)
                } else {
                    if asked {
                        tracing::info!("device: the CPU, for this build has no accelerator support");
                    }
                    return Ok(Device::Cpu);
                };
                Ok(opened.unwrap_or_else(|error| {
                    let reason = error.to_string();
                    tracing::info!(
                        "device: the CPU, for no accelerator can be opened ({})",
                        reason.lines().next().unwrap_or("")
                    );
                    Device::Cpu
                }))
            }
        }
    }
}

/// An NVIDIA GPU, as the kernels want it opened.
pub(crate) fn open_cuda(ordinal: usize) -> candle_core::Result<Device> {
    #[cfg(feature = "cuda")]
    return cellforge::kernels::cuda_device(ordinal);
    #[cfg(not(feature = "cuda"))]
    Device::new_cuda(ordinal)
}
