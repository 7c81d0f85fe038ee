//! What every kind of run needs around `fit`: how it is driven, and checks of its settings and images.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Device;
use cellforge_data::{ImageSize, View};
use cellforge_nn::Precision;

use crate::{Error, Ranks, Result, checkpoint};

/// How a run is driven, as against what it computes: of this, only the precision changes a byte of the weights on one device.
#[derive(Debug, Clone)]
pub struct Control {
    /// Once true, the step under way is finished, a checkpoint written and the run returns.
    pub stop: Arc<AtomicBool>,
    /// Show progress (see [`crate::Progress`]).
    pub progress: bool,
    /// Where to compute.
    pub device: Device,
    /// What convolutions multiply and what passes between operations; `f32` where the device has no support for it. A training saves it with the
    /// network's configuration: it goes on in no other, and the trained network computes in it unless it is loaded in another.
    pub precision: Precision,
    /// The ranks that train together. Each calls the same function with the same settings and images. Rank 0 alone has observers, judges and writes.
    pub ranks: Ranks,
}

impl Control {
    /// Whether the run was asked to stop.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// The same for work that this rank does alone.
    pub(crate) fn alone(&self) -> Self {
        Self { ranks: Ranks::alone(), ..self.clone() }
    }

    /// The precision that the device computes in.
    #[must_use]
    pub fn used_precision(&self) -> Precision {
        self.precision.on(&self.device)
    }

    /// The precision of a run of a network whose configuration has the precision `of_model`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if that one is neither left at `f32` nor the control's.
    pub(crate) fn precision_of_run(&self, of_model: Precision) -> Result<Precision> {
        let used = self.used_precision();
        if of_model.is_f32() || of_model == used {
            return Ok(used);
        }
        let reason = format!("is {}, but the run was told to compute in {}", of_model.name(), used.name());
        Err(Error::Invalid { field: "model.precision", reason })
    }
}

impl Default for Control {
    /// On the CPU in `f32`, without progress, and with nobody to stop it.
    fn default() -> Self {
        Self {
            stop: Arc::default(),
            progress: false,
            device: Device::Cpu,
            precision: Precision::F32,
            ranks: Ranks::alone(),
        }
    }
}

/// Identifies the images a run trains on and in what order they are listed: their stored sets, and their rows in these.
pub(crate) fn data_fingerprint(views: &[&View]) -> String {
    let mut text = Vec::new();
    for (at, view) in views.iter().enumerate() {
        if at == 0 || !view.shares_set(views[at - 1]) {
            text.extend(view.whole().fingerprint().into_bytes());
        }
        text.push(b'|');
        text.extend(view.rows().into_iter().flat_map(|row| (row as u64).to_le_bytes()));
    }
    checkpoint::hex(&text)
}

/// Checks that each rank has as many parts of a batch as the others.
pub(crate) fn check_parts(field: &'static str, accumulation_steps: u64, ranks: &Ranks) -> Result<()> {
    let n = ranks.size() as u64;
    if accumulation_steps.is_multiple_of(n) {
        return Ok(());
    }
    let reason =
        format!("{accumulation_steps} parts of a batch cannot be shared among {n} ranks: it must be a multiple of {n}");
    Err(Error::Invalid { field, reason })
}

/// Checks that images and model agree on size and channels, and that there is something to train on.
pub(crate) fn check_images(images: &View, size: ImageSize, channels: usize) -> Result<()> {
    let invalid = |field, reason| Err(Error::Invalid { field, reason });
    if (images.size(), images.channels()) != (size, channels) {
        let reason = format!(
            "the model takes {size:#} pixels and {channels} channels, the images have {:#} and {}",
            images.size(),
            images.channels()
        );
        return invalid("model", reason);
    }
    if images.is_empty() {
        return invalid("images", "none to train on".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_by_their_set_and_their_rows() {
        use cellforge_data::phantom::{self, PhantomConfig};
        let config = PhantomConfig { size: 16.into(), images_per_class: 4, ..PhantomConfig::default() };
        let all = phantom::render(&config).unwrap();
        // What a state.json of earlier versions holds: the fingerprint of the whole set, then the rows of each choice.
        let mut text = all.fingerprint().into_bytes();
        for rows in [&[5u64, 1][..], &[2]] {
            text.push(b'|');
            text.extend(rows.iter().flat_map(|row| row.to_le_bytes()));
        }
        let (train, val) = (all.part(&[5, 1]), all.part(&[2]));
        let known = data_fingerprint(&[&train, &val]);
        assert_eq!(known, checkpoint::hex(&text));
        // However they were narrowed.
        let again = all.part(&[7, 5, 3, 1]).part(&[1, 3]);
        assert_eq!(data_fingerprint(&[&again, &val]), known);
        assert_ne!(data_fingerprint(&[&val, &train]), known);
        let other = phantom::render(&PhantomConfig { seed: 1, ..config }).unwrap();
        assert_ne!(data_fingerprint(&[&train, &other.part(&[2])]), known);
    }
}
