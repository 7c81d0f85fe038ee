//! What is reported of an iteration.

use candle_core::{DType, Device, Tensor};

use crate::{Losses, Result, losses};

/// A loss of an iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Term {
    /// The discriminator's, of real and generated images together.
    Discriminator,
    /// The discriminator's on real images.
    Real,
    /// The discriminator's on generated images.
    Fake,
    /// Its gradient penalty at real images.
    R1,
    /// Its gradient penalty at generated images.
    R2,
    /// The generator's.
    Generator,
}

impl Term {
    fn name(self) -> &'static str {
        match self {
            Self::Discriminator => losses::D,
            Self::Real => losses::D_REAL,
            Self::Fake => losses::D_FAKE,
            Self::R1 => losses::R1,
            Self::R2 => losses::R2,
            Self::Generator => losses::G,
        }
    }
}

/// Whose images the discriminator judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Real,
    Generated,
}

#[derive(Debug, Clone, Copy)]
enum Entry {
    Loss(Term),
    /// How many images the discriminator is right about.
    Correct(Origin),
}

/// The losses and counts of an iteration. Scalars are kept as they are, to be read together later: reading one holds up a GPU until it has
/// been computed.
pub(super) struct Tally {
    /// Real images, which are as many as the generated ones.
    pub(super) images: usize,
    /// The probability of augmentations, where it adapts.
    augment: Option<f64>,
    entries: Vec<Entry>,
    pub(super) scalars: Vec<Tensor>,
}

impl Tally {
    pub(super) fn new(images: usize, augment: Option<f64>) -> Self {
        Self { images, augment, entries: Vec::new(), scalars: Vec::new() }
    }

    /// Adds to a loss.
    pub(super) fn add(&mut self, term: Term, value: &Tensor) {
        self.entries.push(Entry::Loss(term));
        self.scalars.push(value.detach());
    }

    /// Counts the logits of images on the right side of zero.
    pub(super) fn count(&mut self, logits: &Tensor, origin: Origin) -> candle_core::Result<()> {
        let logits = logits.detach();
        let correct = match origin {
            Origin::Real => logits.gt(0f32)?,
            Origin::Generated => logits.le(0f32)?,
        };
        self.entries.push(Entry::Correct(origin));
        self.scalars.push(correct.to_dtype(DType::F32)?.sum_all()?);
        Ok(())
    }

    /// The values of the scalars from number `first` on.
    pub(super) fn read_from(&self, first: usize) -> Result<Vec<f32>> {
        let scalars: Vec<&Tensor> = self.scalars[first..].iter().collect();
        Ok(if scalars.is_empty() { Vec::new() } else { Tensor::stack(&scalars, 0)?.to_vec1()? })
    }

    /// In place of this rank's entries from number `first` on, those of all ranks. `values` are of each rank, whose entries are alike.
    pub(super) fn put_of_ranks(&mut self, first: usize, values: &[Vec<f32>]) -> Result<()> {
        let entries = self.entries.split_off(first);
        self.scalars.truncate(first);
        for (entry, value) in values.iter().flat_map(|values| entries.iter().zip(values)) {
            self.entries.push(*entry);
            self.scalars.push(Tensor::new(*value, &Device::Cpu)?);
        }
        Ok(())
    }

    /// The losses, of these values of the scalars, and how many real images the discriminator was right about.
    pub(super) fn losses(&self, values: &[f32]) -> (Losses, f32) {
        let (mut losses, mut real, mut generated) = (Losses::new(), 0.0, 0.0);
        for (entry, value) in self.entries.iter().zip(values) {
            match entry {
                Entry::Correct(Origin::Real) => real += value,
                Entry::Correct(Origin::Generated) => generated += value,
                Entry::Loss(term) => match losses.iter_mut().find(|(known, _)| *known == term.name()) {
                    Some((_, sum)) => *sum += value,
                    None => losses.push((term.name(), *value)),
                },
            }
        }
        losses.push((losses::D_ACCURACY, (real + generated) / (2.0 * self.images as f32)));
        losses.extend(self.augment.map(|p| (losses::AUGMENT, p as f32)));
        (losses, real)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_added_up() {
        let scalar = |value: f32| Tensor::new(value, &Device::Cpu).unwrap();
        let logits = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let mut tally = Tally::new(4, Some(0.25));
        for part in [[1.0, -1.0], [2.0, 3.0]] {
            tally.count(&logits(&part), Origin::Real).unwrap();
            tally.count(&logits(&part), Origin::Generated).unwrap();
            tally.add(Term::Real, &scalar(0.5));
        }
        tally.add(Term::Generator, &scalar(2.0));
        let values: Vec<f32> = tally.scalars.iter().map(|scalar| scalar.to_scalar().unwrap()).collect();
        // Right about three of the real ones and one of the generated ones.
        let expected = vec![("d_real", 1.0), ("g", 2.0), ("d_accuracy", 0.5), ("augment", 0.25)];
        assert_eq!(tally.losses(&values), (expected, 3.0));
    }
}
