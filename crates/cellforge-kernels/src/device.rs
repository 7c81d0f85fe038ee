//! Where an operation runs.

use candle_core::Device;

/// Whether operations on this device are kernels of ours, on the tape, rather than composed of Candle's.
pub(crate) fn ours(device: &Device) -> bool {
    on_device!(device, cpu = true, cuda = true, composed = false)
}

/// Runs one of three expressions: our kernel for the CPU, our kernel for NVIDIA GPUs (with the feature `cuda`), or what is composed of
/// Candle's operations, everywhere else.
macro_rules! on_device {
    ($device:expr, cpu = $cpu:expr, cuda = $cuda:expr, composed = $composed:expr $(,)?) => {
        match $device {
            candle_core::Device::Cpu => $cpu,
            #[cfg(feature = "cuda")]
            candle_core::Device::Cuda(_) => $cuda,
            _ => $composed,
        }
    };
}
pub(crate) use on_device;
