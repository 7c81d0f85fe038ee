//! Evaluation of synthetic images: do they look real, do they cover what is real, can a model be trained on them, do they leak a patient?
//!
//! [`evaluate`] compares three sets: the real images that the generators learned from, real images of other patients that no generator saw
//! (the holdout), and the synthetic images. Every figure has an interval, every distance stands beside the same distance between real
//! images, and the verdicts are drawn from the intervals alone. The figures themselves come from `cellforge-eval`.

mod config;
mod controls;
mod datasheet;
mod equivalence;
mod features;
mod fidelity;
mod inputs;
mod memory;
mod outcome;
pub(crate) mod pairs;
mod privacy;
mod scatter;
mod self_supervised;
mod sets;
mod two_sample;
mod utility;
mod verdicts;

use std::{collections::BTreeMap, path::Path, time::Instant};

use cellforge_data::{View, derive_seed};
use cellforge_train::{FeatureMatrix, Orientation, RunDir};

pub use config::{EvaluationConfig, Measure};
pub(crate) use controls::Controls;
pub use datasheet::datasheet;
pub use equivalence::{Comparison, Equivalence, LEAST_IMAGES, LEAST_PATIENTS, MARGINS, Margin};
pub use features::image_features;
pub use inputs::{EvaluationInputs, FeatureSource, Notice, Part, Provenance, Words};
pub use outcome::{
    Answer, EVALUATION_SCHEMA, Evaluation, FeatureFamily, FeatureInfo, FidelityPart, FidelityScope, FloorDraw,
    FloorInfo, OtherFeatures, PairImage, PrivacyPart, Scatter, ScoredImage, SetInfo, SetsInfo, UtilityPart, Verdict,
};
pub use self_supervised::EncoderConfig;
pub(crate) use sets::{pick, rank};
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
    Prepared::new(config, inputs, control)?.run(out)
}

/// An evaluation that can begin: its images fit together, and its networks are loaded.
///
/// A program that writes something of its own beside the figures does so once this is made, and never for inputs that are refused.
pub struct Prepared<'a> {
    config: &'a EvaluationConfig,
    inputs: &'a EvaluationInputs,
    control: &'a Control,
    real: SetImages,
    holdout: Option<SetImages>,
    synthetic: SetImages,
    /// What tells identical images.
    keys: copies::AllKeys,
    extractor: Extractor,
    /// What makes the features that fidelity is measured by too, and copies are looked for in.
    others: Vec<Extractor>,
    /// What is compared for fidelity, or why nothing is; `None` where it was not asked for.
    compared: Option<Result<fidelity::Choice>>,
    /// Why privacy is not measured.
    no_privacy: Option<String>,
    discriminators: Vec<privacy::Network>,
}

impl<'a> Prepared<'a> {
    /// Checks the images and loads the networks. Nothing is written.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn new(config: &'a EvaluationConfig, inputs: &'a EvaluationInputs, control: &'a Control) -> Result<Self> {
        config.validate()?;
        let classes = &sets::compared_classes(&inputs.real.images, &inputs.synthetic.images)?;
        let size = (inputs.real.images.size(), inputs.real.images.channels());
        let images = |name, part: &Part| {
            SetImages::new(name, part, classes, size, config.max_images, derive_seed(config.seed, "choice"))
        };
        let real = images("real", &inputs.real)?;
        let holdout = inputs.holdout.as_ref().map(|part| images("holdout", part)).transpose()?;
        let synthetic = images("synthetic", &inputs.synthetic)?;
        let (mut extractor, mut others) = extractors(config, inputs, &real, control)?;
        let sets = [("real", Some(&real)), ("holdout", holdout.as_ref()), ("synthetic", Some(&synthetic))];
        let sets: Vec<_> = sets.into_iter().filter_map(|(name, images)| Some((name, images?))).collect();
        for extractor in std::iter::once(&mut extractor).chain(&mut others) {
            sets.iter().try_for_each(|(name, images)| extractor.check(name, images))?;
            extractor.note_seen(&sets);
        }

        let keys = copies::AllKeys::new(&real.whole, holdout.as_ref().map(|holdout| &holdout.whole), &synthetic.view)?;

        let many = &inputs.words.many;
        let no_privacy = match &holdout {
            _ if !config.measures(Measure::Privacy) => Some("it was not asked for".to_owned()),
            None if real.info.patients.is_some() => Some(format!("it needs held-out {many} of other patients")),
            None => Some(format!("it needs held-out {many}")),
            Some(holdout) if sets::shared_patients(&real, holdout).is_some_and(|shared| shared > 0) => {
                Some(format!("some patients have both training {many} and held-out {many}"))
            }
            Some(_) => None,
        };
        let discriminators = if no_privacy.is_some() || inputs.discriminators.is_empty() {
            Vec::new()
        } else {
            privacy::load(&inputs.discriminators, &real, inputs.real.images.classes(), control)?
        };
        let mut compared =
            config.measures(Measure::Fidelity).then(|| fidelity::choose(config, &real, holdout.as_ref(), &synthetic));
        if no_privacy.is_some() && !matches!(compared, Some(Ok(_))) {
            // The only parts that are left: what they lack is what the whole lacks.
            if config.measures(Measure::Utility) && !(classes.len() == 1 && config.measures(Measure::TwoSample)) {
                let sets = (&real, holdout.as_ref(), &synthetic);
                utility::check(&config.utility_config(), sets, &inputs.words)?;
            } else if let Some(too_few) = compared.take() {
                too_few?;
            }
        }
        Ok(Self {
            config,
            inputs,
            control,
            real,
            holdout,
            synthetic,
            keys,
            extractor,
            others,
            compared,
            no_privacy,
            discriminators,
        })
    }

    /// The sets whose images are not those of `before`: `real`, `holdout` and `synthetic`.
    #[must_use]
    pub fn changed(&self, before: &Evaluation) -> Vec<&'static str> {
        let print = |info: &SetInfo| info.fingerprint.clone();
        let (sets, holdout) = (&before.sets, self.holdout.as_ref());
        let same = [
            ("real", print(&self.real.info) == print(&sets.real)),
            ("holdout", holdout.map(|images| print(&images.info)) == sets.holdout.as_ref().map(print)),
            ("synthetic", print(&self.synthetic.info) == print(&sets.synthetic)),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }

    /// Measures, and writes `evaluation.json` into the folder `out`.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn run(self, out: &Path) -> Result<Evaluation> {
        let Self { config, inputs, control, real, holdout, synthetic, keys, extractor, others, .. } = self;
        let mut clock = Clock::new(control);
        let dir = RunDir::new(out);
        let kept = dir.features();
        let rows = |extractor: &Extractor| -> Result<(FeatureMatrix, Option<FeatureMatrix>, FeatureMatrix)> {
            let of = |set, images| extractor.rows(set, images, Orientation::Identity, &kept, control);
            let holdout = holdout.as_ref().map(|holdout| of("holdout", holdout)).transpose()?;
            Ok((of("real", &real)?, holdout, of("synthetic", &synthetic)?))
        };
        let near = config.copies.near && config.measures(Measure::Privacy);
        let settings = copies::CopyConfig { near, ..config.copies.clone() };
        clock.start("features");
        let (real_rows, holdout_rows, synthetic_rows) = rows(&extractor)?;
        let networks: Vec<&Extractor> =
            std::iter::once(&extractor).chain(&others).filter(|one| near && !one.is_pixels()).collect();
        let all_there = [Some(&real), holdout.as_ref()].into_iter().flatten().all(SetImages::is_whole);
        let spaces = if all_there {
            let mut spaces = Vec::new();
            for network in networks {
                let (mut real, holdout, synthetic) = rows(network)?;
                real.values.extend(holdout.into_iter().flat_map(|holdout| holdout.values));
                let (name, id) = (network.info.name.clone(), network.id().to_owned());
                let make = Box::new(|images: &View| network.of(images, control));
                spaces.push(copies::Space { name, id, real, synthetic, make });
            }
            Ok(spaces)
        } else {
            Err(format!("only some of the real {} have features", inputs.words.many))
        };
        clock.start("copies");
        let search = copies::Search {
            config: &settings,
            alpha: (1.0 - config.level) / 2.0,
            seed: derive_seed(config.seed, "copies"),
            spaces: spaces.as_deref().map_err(String::clone),
            folder: &kept,
            control,
        };
        let copies = search.run_by(&keys, known(&real), holdout.as_ref().map(known), &synthetic.view)?;
        drop(spaces);
        let measured_real = Measured { images: &real, rows: &real_rows };
        let measured_synthetic = Measured { images: &synthetic, rows: &synthetic_rows };
        let measured_holdout =
            holdout.as_ref().zip(holdout_rows.as_ref()).map(|(images, rows)| Measured { images, rows });

        let words = &inputs.words;
        let mut not_measured = BTreeMap::new();
        let mut missing = |part: &str, reason: &str| {
            not_measured.insert(part.to_owned(), reason.to_owned());
        };
        let mut too_few = None;
        let mut fidelity_part = None;
        let mut other_features = Vec::new();
        if let Some(compared) = self.compared {
            clock.start("fidelity");
            // Too few images are too few by any features.
            if let Some(choice) = if_enough("fidelity", compared, &mut missing, &mut too_few)? {
                let measure = |real: Measured<'_>, holdout: Option<Measured<'_>>, synthetic: Measured<'_>| {
                    fidelity::measure(config, &choice, real, holdout, synthetic, control)
                };
                fidelity_part = Some(measure(measured_real, measured_holdout, measured_synthetic)?);
                for other in others {
                    clock.start("features");
                    let (real_rows, holdout_rows, synthetic_rows) = rows(&other)?;
                    clock.start("fidelity");
                    let fidelity = measure(
                        Measured { images: &real, rows: &real_rows },
                        holdout.as_ref().zip(holdout_rows.as_ref()).map(|(images, rows)| Measured { images, rows }),
                        Measured { images: &synthetic, rows: &synthetic_rows },
                    )?;
                    other_features.push(OtherFeatures { features: other.info, fidelity });
                }
            }
        } else {
            missing("fidelity", "it was not asked for");
        }
        let mut two_sample_part = None;
        if config.measures(Measure::TwoSample) {
            clock.start("two_sample");
            let settings = config.two_sample_config();
            let found = two_sample::measure(&settings, &real, holdout.as_ref(), &synthetic, words, out, control)?;
            two_sample_part = Some(found);
        } else {
            missing("two_sample", "it was not asked for");
        }
        let mut privacy_part = None;
        match (self.no_privacy, &holdout) {
            (Some(reason), _) => missing("privacy", &reason),
            (None, None) => {}
            (None, Some(holdout)) => {
                clock.start("privacy");
                let pixels = Extractor::pixels(&real.view, config.pixel_side);
                let both = [&pixels, &extractor];
                let extractors = if extractor.is_pixels() { &both[..1] } else { &both[..] };
                let sets = privacy::Trio { real: &real, holdout, synthetic: &synthetic };
                if self.discriminators.is_empty() {
                    missing("discriminator", "no discriminator was given");
                }
                let linked = match privacy::reidentify(config, sets, control)? {
                    Ok(linked) => Some(linked),
                    Err(reason) => {
                        missing("reidentification", &reason);
                        None
                    }
                };
                let found = privacy::measure(config, extractors, sets, &self.discriminators, linked, &kept, control)?;
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
            let found = utility::measure(&settings, (&real, holdout.as_ref(), &synthetic), words, out, control);
            utility_part = if_enough("utility", found, &mut missing, &mut too_few)?;
        } else {
            missing("utility", "it was not asked for");
        }
        let seconds = clock.finish();
        let measured =
            fidelity_part.is_some() || two_sample_part.is_some() || privacy_part.is_some() || utility_part.is_some();
        if let (false, Some(error)) = (measured, too_few) {
            return Err(error);
        }

        fn part<'a, T>(
            found: &'a Option<T>,
            name: &str,
            reasons: &'a BTreeMap<String, String>,
        ) -> std::result::Result<&'a T, &'a str> {
            found.as_ref().ok_or_else(|| reasons.get(name).map_or("", String::as_str))
        }
        let sets = SetsInfo {
            side: real.view.size(),
            channels: real.view.channels(),
            pseudonym_key: sets::pseudonym_key(&real.view),
            own_names: sets::own_names(&real, holdout.as_ref(), &synthetic.view),
            shared_patients: holdout.as_ref().and_then(|holdout| sets::shared_patients(&real, holdout)),
            real: real.info,
            holdout: holdout.map(|holdout| holdout.info),
            synthetic: synthetic.info,
        };
        let main = part(&fidelity_part, "fidelity", &not_measured).map(|part| (&extractor.info, part));
        let by_features = main.map(|main| {
            let others = other_features.iter().map(|other| (&other.features, &other.fidelity));
            std::iter::once(main).chain(others).collect::<Vec<_>>()
        });
        let verdicts = verdicts::verdicts(
            by_features.as_deref().map_err(|reason| *reason),
            two_sample_part.as_ref(),
            part(&utility_part, "utility", &not_measured),
            (&copies, synthetic.view.len()),
            part(&privacy_part, "privacy", &not_measured),
            words,
        );
        let evaluation = Evaluation {
            schema_version: EVALUATION_SCHEMA,
            verdicts,
            features: extractor.info,
            classes: real.view.classes().to_vec(),
            sets,
            copies,
            fidelity: fidelity_part,
            other_features,
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
}

/// Real images and their patients, as the search for copies takes them.
fn known(images: &SetImages) -> copies::Known<'_> {
    copies::Known { view: &images.whole, patients: images.whole_patients.as_deref() }
}

/// What makes the main features, and what makes the others.
fn extractors(
    config: &EvaluationConfig,
    inputs: &EvaluationInputs,
    real: &SetImages,
    control: &Control,
) -> Result<(Extractor, Vec<Extractor>)> {
    let fail = |problem: String| Err(Error::Setting { setting: features::SETTING, problem });
    let Some((main, others)) = inputs.features.split_first() else {
        return fail("names none: name what images are compared by".to_owned());
    };
    if !others.is_empty() && !config.measures(Measure::Fidelity) && !config.measures(Measure::Privacy) {
        return fail(
            "names several, of which only fidelity and the search for copies use more than the first: measure one of \
             these, or name one"
                .to_owned(),
        );
    }
    let load = |source| Extractor::new(source, &real.view, config, control);
    let main = load(main)?;
    let mut names = vec![main.info.name.clone()];
    let mut loaded = Vec::new();
    for source in others {
        let other = load(source)?;
        if names.contains(&other.info.name) {
            return fail(format!("names two sources of features called {}: name one of them", other.info.name));
        }
        names.push(other.info.name.clone());
        loaded.push(other);
    }
    Ok((main, loaded))
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
            // A part that comes again goes on.
            *self.seconds.entry(part.to_owned()).or_default() += since.elapsed().as_secs_f64();
        }
    }

    fn finish(mut self) -> BTreeMap<String, f64> {
        self.stop();
        self.seconds
    }
}
