//! Evaluation of synthetic images: do they look real, do they cover what is real, can a model be trained on them, do they leak a patient?
//!
//! [`evaluate`] compares three sets: the real images that the generators learned from, real images of other patients that no generator saw
//! (the holdout), and the synthetic images. Every figure has an interval, every distance stands beside the same distance between real
//! images, and the verdicts are drawn from the intervals alone. The figures themselves come from `cellforge-eval`.

mod config;
mod controls;
mod datasheet;
mod features;
mod fidelity;
mod inputs;
mod outcome;
pub(crate) mod pairs;
mod privacy;
mod scatter;
mod sets;
mod two_sample;
mod utility;
mod verdicts;

use std::{collections::BTreeMap, path::Path, time::Instant};

use cellforge_data::derive_seed;
use cellforge_train::{Orientation, RunDir};

pub use config::{EvaluationConfig, Measure};
pub(crate) use controls::Controls;
pub use datasheet::datasheet;
pub use inputs::{EvaluationInputs, FeatureSource, Notice, Part, Provenance, Words};
pub use outcome::{
    Answer, EVALUATION_SCHEMA, Evaluation, FeatureInfo, FidelityPart, FidelityScope, PairImage, PrivacyPart, Scatter,
    SetInfo, SetsInfo, UtilityPart, Verdict,
};
pub(crate) use verdicts::digits;

use crate::{Control, Error, Result, Versions, copies, device_name, files::write_json};
use features::Extractor;
use fidelity::Measured;
use sets::SetImages;

/// Evaluates synthetic images and writes `evaluation.json` into the folder `out`, which is made if need be.
///
/// Features and trained networks are kept in `out` while the evaluation is under way, so that one that was stopped goes on from there with
/// the same result; features are removed at the end. Keep other processes out of the folder meanwhile (see
/// [`RunDir::lock`](cellforge_train::RunDir::lock)).
///
/// # Errors
/// [`Error::Setting`]; [`Error::EvaluationImages`] for images that do not fit together or are too few; [`Error::Discriminator`];
/// [`Error::Interrupted`] when `control.stop` was raised; and what reading networks and computing figures can fail with.
pub fn evaluate(
    config: &EvaluationConfig,
    inputs: &EvaluationInputs,
    out: &Path,
    control: &Control,
) -> Result<Evaluation> {
    config.validate()?;
    let classes = inputs.real.images.classes();
    let size = (inputs.real.images.side(), inputs.real.images.channels());
    let images = |name, part: &Part| {
        SetImages::new(name, part, classes, size, config.max_images, derive_seed(config.seed, "choice"))
    };
    let real = images("real", &inputs.real)?;
    let holdout = inputs.holdout.as_ref().map(|part| images("holdout", part)).transpose()?;
    let synthetic = images("synthetic", &inputs.synthetic)?;
    let extractor = Extractor::new(&inputs.features, &real.view, config.pixel_side, control)?;

    let mut clock = Clock::new(control);
    let dir = RunDir::new(out);
    let kept = dir.features();
    clock.start("copies");
    let copies = {
        fn known(images: &SetImages) -> copies::Known<'_> {
            copies::Known { view: &images.view, patients: images.groups() }
        }
        let near = config.copies.near && config.measures(Measure::Privacy);
        let settings = copies::CopyConfig { near, ..config.copies.clone() };
        let search = copies::Search {
            config: &settings,
            alpha: (1.0 - config.level) / 2.0,
            seed: derive_seed(config.seed, "copies"),
            folder: &kept,
            control,
        };
        search.run(known(&real), holdout.as_ref().map(known), &synthetic.view)?
    };
    let rows = |set, images| extractor.rows(set, images, Orientation::Identity, &kept, control);
    clock.start("features");
    let real_rows = rows("real", &real)?;
    let holdout_rows = holdout.as_ref().map(|holdout| rows("holdout", holdout)).transpose()?;
    let synthetic_rows = rows("synthetic", &synthetic)?;
    let measured_real = Measured { images: &real, rows: &real_rows };
    let measured_synthetic = Measured { images: &synthetic, rows: &synthetic_rows };
    let measured_holdout = holdout.as_ref().zip(holdout_rows.as_ref()).map(|(images, rows)| Measured { images, rows });

    let words = &inputs.words;
    let mut not_measured = BTreeMap::new();
    let mut missing = |part: &str, reason: &str| {
        not_measured.insert(part.to_owned(), reason.to_owned());
    };
    let mut too_few = None;
    let mut fidelity_part = None;
    if config.measures(Measure::Fidelity) {
        clock.start("fidelity");
        let found = fidelity::measure(config, measured_real, measured_holdout, measured_synthetic, control);
        fidelity_part = if_enough("fidelity", found, &mut missing, &mut too_few)?;
    } else {
        missing("fidelity", "it was not asked for");
    }
    let mut two_sample_part = None;
    if config.measures(Measure::TwoSample) {
        clock.start("two_sample");
        let settings = config.two_sample_config();
        two_sample_part =
            Some(two_sample::measure(&settings, &real, holdout.as_ref(), &synthetic, words, out, control)?);
    } else {
        missing("two_sample", "it was not asked for");
    }
    let mut privacy_part = None;
    match &holdout {
        _ if !config.measures(Measure::Privacy) => missing("privacy", "it was not asked for"),
        None => missing("privacy", &format!("it needs held-out {} of other patients", words.many)),
        Some(holdout) if sets::shared_patients(&real, holdout).is_some_and(|shared| shared > 0) => {
            let many = &words.many;
            missing("privacy", &format!("some patients have both training {many} and held-out {many}"));
        }
        Some(holdout) => {
            clock.start("privacy");
            let pixels = Extractor::pixels(&real.view, config.pixel_side);
            let both = [&pixels, &extractor];
            let extractors = if extractor.is_pixels() { &both[1..] } else { &both[..] };
            let sets = privacy::Trio { real: &real, holdout, synthetic: &synthetic };
            if inputs.discriminators.is_empty() {
                missing("discriminator", "no discriminator was given");
            }
            let found = privacy::measure(config, extractors, sets, &inputs.discriminators, &kept, control)?;
            privacy_part = Some(found);
        }
    }
    clock.start("pictures");
    let scatter =
        scatter::scatter(measured_real, measured_holdout, measured_synthetic, derive_seed(config.seed, "scatter"));
    let pairs = pairs::save(config.privacy.pairs, &copies, privacy_part.as_ref(), &real, &synthetic, out)?;
    let mut utility_part = None;
    if config.measures(Measure::Utility) {
        clock.start("utility");
        let settings = config.utility_config();
        let found = utility::measure(&settings, &real, holdout.as_ref(), &synthetic, words, out, control);
        utility_part = if_enough("utility", found, &mut missing, &mut too_few)?;
    } else {
        missing("utility", "it was not asked for");
    }
    let seconds = clock.finish();
    if let (None, None, None, Some(error)) = (&fidelity_part, &privacy_part, &utility_part, too_few) {
        return Err(error);
    }

    fn part<'a, T>(
        found: &'a Option<T>,
        name: &str,
        reasons: &'a BTreeMap<String, String>,
    ) -> std::result::Result<&'a T, &'a str> {
        found.as_ref().ok_or_else(|| reasons.get(name).map_or("", String::as_str))
    }
    let verdicts = verdicts::verdicts(
        part(&fidelity_part, "fidelity", &not_measured),
        part(&utility_part, "utility", &not_measured),
        (&copies, synthetic.view.len()),
        part(&privacy_part, "privacy", &not_measured),
        &extractor.info.metric,
        words,
    );
    let evaluation = Evaluation {
        schema_version: EVALUATION_SCHEMA,
        verdicts,
        features: extractor.info,
        classes: classes.to_vec(),
        sets: SetsInfo {
            side: size.0,
            channels: size.1,
            shared_patients: holdout.as_ref().and_then(|holdout| sets::shared_patients(&real, holdout)),
            real: real.info,
            holdout: holdout.map(|holdout| holdout.info),
            synthetic: synthetic.info,
        },
        copies,
        fidelity: fidelity_part,
        two_sample: two_sample_part,
        privacy: privacy_part,
        utility: utility_part,
        not_measured,
        scatter,
        pairs,
        words: words.clone(),
        provenance: inputs.provenance.clone(),
        settings: config.clone(),
        versions: Versions::here(device_name(&control.device, control.precision)),
        seconds,
    };
    write_json(&dir.evaluation(), &evaluation)?;
    if kept.is_dir() {
        std::fs::remove_dir_all(&kept).map_err(Error::io("remove the folder", &kept))?;
    }
    Ok(evaluation)
}

/// What was measured. Where a part has too few images, the others are measured all the same: the error is kept as the reason.
fn if_enough<T>(
    part: &str,
    found: Result<T>,
    missing: &mut impl FnMut(&str, &str),
    too_few: &mut Option<Error>,
) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error @ (Error::EvaluationImages { .. } | Error::UtilityImages { .. })) => {
            tracing::warn!("{error}");
            missing(part, &error.to_string());
            *too_few = Some(error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Logs which part is under way, and keeps the time of each.
struct Clock<'a> {
    control: &'a Control,
    seconds: BTreeMap<String, f64>,
    running: Option<(&'static str, Instant)>,
}

impl<'a> Clock<'a> {
    fn new(control: &'a Control) -> Self {
        Self { control, seconds: BTreeMap::new(), running: None }
    }

    fn start(&mut self, part: &'static str) {
        self.stop();
        if self.control.progress {
            tracing::info!("evaluation: {part}");
        }
        self.running = Some((part, Instant::now()));
    }

    fn stop(&mut self) {
        if let Some((part, since)) = self.running.take() {
            self.seconds.insert(part.to_owned(), since.elapsed().as_secs_f64());
        }
    }

    fn finish(mut self) -> BTreeMap<String, f64> {
        self.stop();
        self.seconds
    }
}
