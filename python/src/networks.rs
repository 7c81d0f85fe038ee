//! Generators and classifiers that were trained.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use candle_core::Device;
use cellforge_assess::Control;
use cellforge_data::same_name;
use cellforge_train::{SampleOptions, TrainedClassifier, TrainedGan};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

use crate::errors::raise;
use crate::images::Images;
use crate::metrics::to_bytes;
use crate::work::{OnSignal, run};

/// Images made between two looks at whether to stop. A multiple of the batches in which they are made.
const PART: usize = 256;

/// A trained generator.
#[pyclass(frozen, module = "cellforge._native")]
pub(crate) struct Generator {
    gan: Arc<TrainedGan>,
}

#[pymethods]
impl Generator {
    /// The one that is built in.
    #[staticmethod]
    fn built_in(py: Python<'_>) -> PyResult<Self> {
        // As the program does on the CPU, whatever it was trained in.
        let loaded = run(py, OnSignal::Leave, |_| TrainedGan::builtin_in(&Device::Cpu, Control::default().precision))?;
        Ok(Self { gan: Arc::new(loaded.map_err(|error| raise(&error))?) })
    }

    /// That of a run's or a checkpoint's folder.
    #[staticmethod]
    fn load(py: Python<'_>, path: String) -> PyResult<Self> {
        let load = move |_: &_| TrainedGan::load_in(path, &Device::Cpu, Control::default().precision);
        Ok(Self { gan: Arc::new(run(py, OnSignal::Leave, load)?.map_err(|error| raise(&error))?) })
    }

    #[getter]
    fn classes(&self) -> Vec<String> {
        self.gan.classes().to_vec()
    }

    /// Height and width.
    #[getter]
    fn image_size(&self) -> (usize, usize) {
        let size = self.gan.image_size();
        (size.height, size.width)
    }

    #[getter]
    fn channels(&self) -> usize {
        self.gan.channels()
    }

    /// The bytes of `count` images from number `first` on, of one class or of each in turn.
    #[pyo3(signature = (count, class_name, seed, first, truncation, keep))]
    #[expect(clippy::too_many_arguments, reason = "the package gives them names, defaults and meanings")]
    fn sample<'py>(
        &self,
        py: Python<'py>,
        count: usize,
        class_name: Option<String>,
        seed: u64,
        first: usize,
        truncation: Option<f64>,
        keep: Option<f64>,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let options = SampleOptions { seed, truncation, keep };
        options.validate().map_err(|error| raise(&error))?;
        let classes = match class_name {
            None => self.classes(),
            Some(name) => {
                let known = self.gan.classes().iter().find(|class| same_name(class, &name));
                let unknown = || format!("there is no class {name:?}: the generator has {}", self.classes().join(", "));
                vec![known.ok_or_else(|| PyValueError::new_err(unknown()))?.clone()]
            }
        };
        let image = self.gan.image_size().area() * self.gan.channels();
        let last = first.checked_add(count).filter(|last| last.checked_add(PART).is_some());
        let bytes = count.checked_mul(classes.len()).and_then(|images| images.checked_mul(image));
        let (Some(last), Some(bytes)) = (last, bytes) else {
            return Err(PyValueError::new_err(format!(
                "count is {count} and first is {first}: there are no numbers that high"
            )));
        };
        let mut pixels: Vec<u8> = Vec::new();
        let reserved = pixels.try_reserve_exact(bytes);
        reserved.map_err(|_| PyMemoryError::new_err(format!("{count} images a class take {bytes} bytes of memory")))?;
        let candidates = options.candidates().map_err(|error| raise(&error))?;
        let (part, gan) = ((PART / candidates).max(1), Arc::clone(&self.gan));
        let made = run(py, OnSignal::Wait, move |stop| {
            for class in &classes {
                for start in (first..last).step_by(part) {
                    if stop.load(Ordering::SeqCst) {
                        return Ok(pixels);
                    }
                    let images = gan.sample_with(&options, class, start..last.min(start + part))?;
                    (0..images.len()).for_each(|i| pixels.extend_from_slice(images.image(i)));
                }
            }
            Ok::<_, cellforge_train::Error>(pixels)
        })?;
        Ok(PyByteArray::new(py, &made.map_err(|error| raise(&error))?))
    }
}

/// A trained classifier.
#[pyclass(frozen, module = "cellforge._native")]
pub(crate) struct Classifier {
    network: Arc<TrainedClassifier>,
}

#[pymethods]
impl Classifier {
    /// That of a run's or a checkpoint's folder.
    #[staticmethod]
    fn load(py: Python<'_>, path: String) -> PyResult<Self> {
        let load = move |_: &_| TrainedClassifier::load_in(path, &Device::Cpu, Control::default().precision);
        Ok(Self { network: Arc::new(run(py, OnSignal::Leave, load)?.map_err(|error| raise(&error))?) })
    }

    #[getter]
    fn classes(&self) -> Vec<String> {
        self.network.classes().to_vec()
    }

    /// Height and width.
    #[getter]
    fn image_size(&self) -> (usize, usize) {
        let size = self.network.image_size();
        (size.height, size.width)
    }

    #[getter]
    fn channels(&self) -> usize {
        self.network.channels()
    }

    /// The bytes of the probabilities, `(images, classes)` of `f32`.
    fn predict<'py>(&self, py: Python<'py>, images: &Images) -> PyResult<Bound<'py, PyByteArray>> {
        let (network, view) = (Arc::clone(&self.network), images.view.clone());
        let wanted = (network.image_size(), network.channels());
        if wanted != (view.size(), view.channels()) {
            return Err(PyValueError::new_err(format!(
                "the classifier takes images of {:#} pixels and {} channels, and these have {:#} and {}",
                wanted.0,
                wanted.1,
                view.size(),
                view.channels()
            )));
        }
        let found = run(py, OnSignal::Leave, move |_| network.predict(&view))?.map_err(|error| raise(&error))?;
        Ok(PyByteArray::new(py, &to_bytes(found.iter().flatten())))
    }
}
