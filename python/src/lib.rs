//! The native module of the Python package `cellforge`, on which `package/cellforge` builds.
//!
//! Arrays cross the border as bytes with their shape: images as `u8`, features as `f32`. The package makes arrays of them, checks types and shapes, and
//! has the documentation that users read. Everything here runs in a thread of its own without Python's lock (`work`), and every error becomes an
//! exception (`errors`).

mod errors;
mod evaluation;
mod images;
mod metrics;
mod networks;
mod work;

use pyo3::prelude::*;

/// The module `cellforge._native`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<images::Images>()?;
    module.add_class::<networks::Generator>()?;
    module.add_class::<networks::Classifier>()?;
    module.add_function(wrap_pyfunction!(evaluation::evaluate, module)?)?;
    module.add_function(wrap_pyfunction!(evaluation::features, module)?)?;
    module.add_function(wrap_pyfunction!(evaluation::write_private, module)?)?;
    module.add_function(wrap_pyfunction!(metrics::frechet, module)?)?;
    module.add_function(wrap_pyfunction!(metrics::prdc, module)?)?;
    module.add_function(wrap_pyfunction!(metrics::kid, module)?)?;
    Ok(())
}
