//! Figures of two sets of features: see `cellforge-eval`.

use cellforge_eval::{Features, Result, frechet_distance};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::raise;
use crate::work::{OnSignal, run};

/// The bytes of numbers in this machine's order, which is that of NumPy's native types.
pub(crate) fn to_bytes<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u8> {
    values.into_iter().flat_map(|value| value.to_ne_bytes()).collect()
}

/// Numbers of the bytes of an array.
fn from_bytes(bytes: &Bound<'_, PyBytes>) -> Vec<f32> {
    bytes.as_bytes().as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
}

/// A figure of two arrays of `dims` numbers a row.
fn of<T: Send + 'static>(
    py: Python<'_>,
    [a, b]: [(&Bound<'_, PyBytes>, usize); 2],
    figure: impl FnOnce(Features<'_>, Features<'_>) -> Result<T> + Send + 'static,
) -> PyResult<T> {
    let (a, b) = ((from_bytes(a.0), a.1), (from_bytes(b.0), b.1));
    let work = move || figure(Features::new(&a.0, a.1)?, Features::new(&b.0, b.1)?);
    run(py, OnSignal::Leave, move |_| work())?.map_err(|error| raise(&error))
}

/// The Fréchet distance.
#[pyfunction]
#[pyo3(signature = (a, dims_a, b, dims_b))]
pub(crate) fn frechet(
    py: Python<'_>,
    a: &Bound<'_, PyBytes>,
    dims_a: usize,
    b: &Bound<'_, PyBytes>,
    dims_b: usize,
) -> PyResult<f64> {
    of(py, [(a, dims_a), (b, dims_b)], frechet_distance)
}

/// Precision, recall, density and coverage.
#[pyfunction]
#[pyo3(signature = (a, dims_a, b, dims_b, k))]
pub(crate) fn prdc(
    py: Python<'_>,
    a: &Bound<'_, PyBytes>,
    dims_a: usize,
    b: &Bound<'_, PyBytes>,
    dims_b: usize,
    k: usize,
) -> PyResult<(f64, f64, f64, f64)> {
    let found = of(py, [(a, dims_a), (b, dims_b)], move |a, b| cellforge_eval::prdc(a, b, k))?;
    Ok((found.precision, found.recall, found.density, found.coverage))
}

/// The mean and the standard deviation of the kernel distance over subsets.
#[pyfunction]
#[pyo3(signature = (a, dims_a, b, dims_b, subset, subsets, seed))]
#[expect(clippy::too_many_arguments, reason = "arrays cross the border as bytes with their shape")]
pub(crate) fn kid(
    py: Python<'_>,
    a: &Bound<'_, PyBytes>,
    dims_a: usize,
    b: &Bound<'_, PyBytes>,
    dims_b: usize,
    subset: usize,
    subsets: usize,
    seed: u64,
) -> PyResult<(f64, Option<f64>)> {
    let found = of(py, [(a, dims_a), (b, dims_b)], move |a, b| cellforge_eval::kid(a, b, subset, subsets, seed))?;
    Ok((found.mean, found.std))
}
