//! Weights divided by an estimate of their largest singular value.

use crate::check::{f32_only, slice, vector};
use crate::composed;
use crate::device::on_device;
use crate::gather::with_slice;
use crate::tape::{apply1, contiguous};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// `weight / sigma` with `sigma = u^T W v`, where `W` is `weight` as a matrix of `weight.dim(0)` rows: spectral normalisation with
/// the singular vectors `u` `(rows)` and `v` `(columns)` as power iteration has them (Miyato et al. 2018). The vectors are constants
/// and `sigma` is not: its part in the gradient is taken into account.
pub fn spectral_normalised(weight: &Tensor, u: &Tensor, v: &Tensor) -> Result<Tensor> {
    let op = "spectral_normalised";
    f32_only(op, &[("weight", weight), ("u", u), ("v", v)])?;
    let rows = match weight.dims() {
        [rows, ..] if weight.rank() > 1 && weight.elem_count() > 0 => *rows,
        dims => bail!("{op}: weight has shape {dims:?}, expected a non-empty matrix or kernels"),
    };
    vector(op, "u", u, rows)?;
    vector(op, "v", v, weight.elem_count() / rows)?;
    on_device!(
        weight.device(),
        cpu = {
            let (u, v) = (u.detach().to_vec1::<f32>()?, v.detach().to_vec1::<f32>()?);
            apply1(&contiguous(weight)?, Spectral { u, v })
        },
        cuda = crate::cuda::spectral_normalised(weight, u, v),
        composed = composed::spectral_normalised(weight, u, v),
    )
}

struct Spectral {
    u: Vec<f32>,
    v: Vec<f32>,
}

impl Spectral {
    fn sigma(&self, weight: &[f32]) -> f64 {
        let row = |(u, row): (&f32, &[f32])| {
            let dot: f64 = row.iter().zip(&self.v).map(|(w, v)| f64::from(*w) * f64::from(*v)).sum();
            f64::from(*u) * dot
        };
        self.u.iter().zip(weight.chunks_exact(self.v.len())).map(row).sum()
    }
}

impl CustomOp1 for Spectral {
    fn name(&self) -> &'static str {
        "spectral_normalised"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let weight = slice(self.name(), storage, layout)?;
        let factor = (1. / self.sigma(weight)) as f32;
        Ok((CpuStorage::F32(weight.iter().map(|w| w * factor).collect()), layout.shape().clone()))
    }

    fn bwd(&self, weight: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let name = self.name();
        let values = with_slice(name, weight, |w| {
            with_slice(name, ys, |ys: &[f32]| {
                with_slice(name, grad, |g: &[f32]| {
                    let factor = (1. / self.sigma(w)) as f32;
                    let along: f64 = g.iter().zip(ys).map(|(g, y)| f64::from(*g) * f64::from(*y)).sum();
                    let along = along as f32;
                    let outer = self.u.iter().flat_map(|u| self.v.iter().map(move |v| u * v));
                    Ok(g.iter().zip(outer).map(|(g, uv)| (g - along * uv) * factor).collect::<Vec<f32>>())
                })
            })
        })?;
        Ok(Some(Tensor::from_vec(values, weight.shape(), weight.device())?))
    }
}
