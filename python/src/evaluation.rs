//! Evaluations: the code of `cellforge evaluate`, on arrays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cellforge_assess::evaluation::{EvaluationInputs, FeatureSource, Part, Prepared, Words, datasheet, image_features};
use cellforge_assess::files::write_atomic;
use cellforge_assess::{Control, EvaluationConfig, Result, report};
use cellforge_settings::{Layer, assemble, assignment, check_image};
use cellforge_train::RunDir;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::errors::raise;
use crate::images::Images;
use crate::metrics::to_bytes;
use crate::work::{OnSignal, run};

/// The settings that may be given, under the names that they have everywhere.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Of an evaluation.
    evaluate: EvaluationConfig,
}

/// Evaluates synthetic images, and gives the text of `evaluation.json`. Each of `settings` is `KEY=VALUE`.
///
/// `out` is an empty folder. With `keep` it is the user's, who gets the report and the data sheet too; without, it is removed afterwards.
#[pyfunction]
#[pyo3(signature = (real, holdout, synthetic, features, settings, seed, level, noun, out, keep))]
#[expect(clippy::too_many_arguments, reason = "the package gives them names, defaults and meanings")]
pub(crate) fn evaluate(
    py: Python<'_>,
    real: &Images,
    holdout: Option<&Images>,
    synthetic: &Images,
    features: Vec<String>,
    settings: Vec<String>,
    seed: u64,
    level: f64,
    noun: &str,
    out: PathBuf,
    keep: bool,
) -> PyResult<String> {
    let mut config = config(&settings).map_err(|error| raise(&error))?;
    (config.seed, config.level) = (seed, level);
    if !keep {
        // Nobody would see the pictures, which show real images.
        config.privacy.pairs = 0;
    }
    config.validate().map_err(|error| raise(&error))?;
    let features = features.iter().map(|text| text.parse()).collect::<Result<Vec<FeatureSource>>>();
    let features = features.map_err(|error| raise(&error))?;
    let (size, channels) = (real.view.size(), real.view.channels());
    check_image(size, channels).map_err(|problem| PyValueError::new_err(format!("real images: {problem}")))?;
    let words = Words::from_noun(noun);
    let bad_noun = || format!("noun is {noun:?}: give a word, or its singular and plural as one/many");
    let part = |images: &Images| Part::new(images.view.clone(), "arrays");
    let inputs = EvaluationInputs {
        holdout: holdout.map(part),
        words: words.ok_or_else(|| PyValueError::new_err(bad_noun()))?,
        features,
        ..EvaluationInputs::new(part(real), part(synthetic), FeatureSource::Pixels)
    };
    let work = move |stop: &Arc<_>| -> Result<String> {
        let control = Control { stop: Arc::clone(stop), ..Control::default() };
        let ready = Prepared::new(&config, &inputs, &control)?;
        let dir = RunDir::new(&out);
        let _lock = dir.lock()?;
        let found = ready.run(&out)?;
        if keep {
            write_atomic(&dir.report(), report::render(&found, &out)?.as_bytes())?;
            write_atomic(&dir.datasheet(), datasheet(&found).as_bytes())?;
        }
        cellforge_assess::files::json(&dir.evaluation(), &found)
    };
    run(py, OnSignal::Wait, work)?.map_err(|error| raise(&error))
}

/// The features of images as `f32`, and how many there are of each.
#[pyfunction]
#[pyo3(signature = (images, features))]
pub(crate) fn features<'py>(
    py: Python<'py>,
    images: &Images,
    features: &str,
) -> PyResult<(Bound<'py, PyByteArray>, usize)> {
    let source: FeatureSource = features.parse().map_err(|error: cellforge_assess::Error| raise(&error))?;
    let view = images.view.clone();
    let work = move |stop: &Arc<_>| {
        let control = Control { stop: Arc::clone(stop), ..Control::default() };
        image_features(&source, &view, &EvaluationConfig::default(), &control)
    };
    let found = run(py, OnSignal::Wait, work)?.map_err(|error| raise(&error))?;
    Ok((PyByteArray::new(py, &to_bytes(&found.values)), found.dims))
}

/// Writes a text so that it is whole or as it was before, for its owner alone to read.
#[pyfunction]
pub(crate) fn write_private(py: Python<'_>, path: PathBuf, text: String) -> PyResult<()> {
    py.detach(|| cellforge_data::write_atomic(Path::new(&path), text.as_bytes())).map_err(|error| raise(&error))
}

fn config(settings: &[String]) -> std::result::Result<EvaluationConfig, cellforge_settings::Error> {
    let layer = |text: &String| Ok(Layer::new("settings", assignment(text)?));
    let layers = settings.iter().map(layer).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(assemble::<Settings>(&layers, &[])?.evaluate)
}
