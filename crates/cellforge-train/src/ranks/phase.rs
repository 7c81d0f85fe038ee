//! One update of one network from the parts of a batch, wherever they are.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use cellforge_nn::{DeferredStatistics, accumulate, defer_statistics};

use super::Ranks;
use crate::Result;

/// The gradients of the parts of a batch, on their way to their sum, and the running statistics that the parts move.
///
/// A process that is alone adds gradients up as they come, and statistics move as it goes. Over ranks both are kept until [`Phase::finish`],
/// where every rank does the same with those of all, in the order of the parts.
pub(crate) struct Phase {
    ranks: Ranks,
    vars: Vec<(String, Var)>,
    /// The gradients of the parts so far; over ranks, of the last part, which the sum takes the place of.
    total: Option<GradStore>,
    /// Over ranks: the gradients of each part as one list of numbers, in the order of `vars`.
    flat: Vec<Vec<f32>>,
    /// Over ranks: the statistics that the part under way has moved so far.
    moved: Vec<DeferredStatistics>,
    /// Over ranks: those that a part moves, and what all parts so far move them by.
    statistics: (Vec<DeferredStatistics>, Vec<f32>),
}

impl Phase {
    /// Of the variables `vars`, in the order of which gradients are sent.
    pub(crate) fn new(ranks: &Ranks, vars: Vec<(String, Var)>) -> Self {
        Self {
            ranks: ranks.clone(),
            vars,
            total: None,
            flat: Vec::new(),
            moved: Vec::new(),
            statistics: Default::default(),
        }
    }

    /// Runs something of a part that may move running statistics.
    pub(crate) fn run<T>(&mut self, forward: impl FnOnce() -> T) -> T {
        if self.ranks.is_alone() {
            return forward();
        }
        let (made, moved) = defer_statistics(forward);
        self.moved.extend(moved);
        made
    }

    /// Ends a part, whose gradients these are.
    pub(crate) fn add(&mut self, grads: GradStore) -> Result<()> {
        if self.ranks.is_alone() {
            return Ok(accumulate(&mut self.total, grads, &self.vars)?);
        }
        let mut flat = Vec::new();
        for (_, var) in &self.vars {
            if let Some(grad) = grads.get(var) {
                flat.extend(grad.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        self.flat.push(flat);
        for moved in &self.moved {
            self.statistics.1.extend(moved.batch().to_vec1::<f32>()?);
        }
        self.stand_in(grads);
        Ok(())
    }

    /// Ends a part that does not count: a rank without a part has gone through one all the same, to know of what there are gradients and
    /// statistics.
    pub(crate) fn stand_in(&mut self, grads: GradStore) {
        self.statistics.0 = std::mem::take(&mut self.moved);
        self.total = Some(grads);
    }

    /// The gradients of all parts of all ranks, added up, and the `scalars` of each rank. Moves the running statistics.
    pub(crate) fn finish(self, scalars: &[f32], device: &Device) -> Result<(Option<GradStore>, Vec<Vec<f32>>)> {
        let Self { ranks, vars, mut total, flat, statistics: (moved, mut others), .. } = self;
        if ranks.is_alone() {
            return Ok((total, vec![scalars.to_vec()]));
        }
        others.extend(scalars);
        let combined = ranks.combine(&flat, &others)?;
        let of_part: usize = moved.iter().map(|moved| moved.batch().elem_count()).sum();
        let mut scalars = Vec::with_capacity(combined.others.len());
        for (others, parts) in combined.others.iter().zip(&combined.parts) {
            let (batches, rest) = others.split_at(parts * of_part);
            let mut batches = batches;
            for moved in (0..*parts).flat_map(|_| &moved) {
                let (batch, later) = batches.split_at(moved.batch().elem_count());
                moved.apply(&Tensor::from_slice(batch, batch.len(), device)?)?;
                batches = later;
            }
            scalars.push(rest.to_vec());
        }
        if let Some(total) = &mut total {
            let mut rest = combined.sum.as_slice();
            for (_, var) in &vars {
                if total.get(var).is_some() {
                    let (own, later) = rest.split_at(var.elem_count());
                    total.insert(var, Tensor::from_slice(own, var.shape(), device)?);
                    rest = later;
                }
            }
        }
        Ok((total, scalars))
    }
}
