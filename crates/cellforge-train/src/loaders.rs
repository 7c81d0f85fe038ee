//! The ways to load a trained network, which are the same for all.

/// Gives a type with a function `open(path, device, precision)` its loaders. `$what` is what is loaded, and which of a run's checkpoints.
macro_rules! loaders {
    ($type:ty, $what:literal) => {
        impl $type {
            #[doc = concat!("Loads ", $what, ", else its last. It is on the CPU.")]
            ///
            /// # Errors
            /// [`NoCheckpoint`](crate::Error::NoCheckpoint), [`Damaged`](crate::Error::Damaged) or
            /// [`Unsuitable`](crate::Error::Unsuitable).
            pub fn load(path: impl AsRef<std::path::Path>) -> crate::Result<Self> {
                Self::load_on(path, &candle_core::Device::Cpu)
            }

            /// As [`load`](Self::load), on a device of choice. It computes in the precision that it was trained in, or in `f32` where the
            /// device has no support for that.
            ///
            /// # Errors
            /// As [`load`](Self::load), and those of the device.
            pub fn load_on(path: impl AsRef<std::path::Path>, device: &candle_core::Device) -> crate::Result<Self> {
                Self::open(path.as_ref(), device, None)
            }

            /// As [`load_on`](Self::load_on), in a precision of choice.
            ///
            /// # Errors
            /// As [`load_on`](Self::load_on).
            pub fn load_in(
                path: impl AsRef<std::path::Path>,
                device: &candle_core::Device,
                precision: cellforge_nn::Precision,
            ) -> crate::Result<Self> {
                Self::open(path.as_ref(), device, Some(precision))
            }
        }
    };
}

pub(crate) use loaders;
