//! Training a classifier for a number of updates, in memory.

use candle_core::{Device, Tensor};
use cellforge_data::{Batch, Scale, View, epoch_order};

use crate::classifier::KIND;
use crate::classifier_start::ClassifierStart;
use crate::observers::check_finite;
use crate::ranks::OwnRows;
use crate::run::{self, Control};
use crate::{
    ClassifierStep, ClassifierTrainConfig, Error, FitPlan, Observer, Position, Result, State, Step, TrainedClassifier,
    check_classes, fit,
};

/// Trains a classifier on the images `train` for exactly `steps` updates and returns it as it is after the last one, or
/// nothing if `control.stop` ended the run early. No file is written, and nothing is kept of a run that was stopped.
///
/// Runs on sets of different sizes are alike in all but the images: each update sees `config.batch` of them, taken from pass after pass
/// over the images, each pass in an order of its own, so that a batch may begin in one pass and end in the next, and no image is used
/// more than once oftener than another. The schedule runs over the updates, as if each were an epoch: [`Schedule::Linear`](crate::Schedule::Linear)
/// goes from the base rate down to 1/`steps` of it.
///
/// Of `config`, the number of epochs, `patience`, `checkpoint_every` and `log_every` are not looked at; of `control`, only `stop`,
/// `device` and `precision` are. Observers see no epochs.
///
/// # Errors
/// [`Error::Invalid`] naming a setting; [`Error::Diverged`] for a loss or weights that are not finite; what an observer fails with.
///
/// ```
/// use cellforge_classify::ClassifierConfig;
/// use cellforge_data::phantom::{self, PhantomConfig};
/// use cellforge_train::{ClassifierTrainConfig, Control, train_for_steps};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let images = phantom::render(&PhantomConfig { size: 32.into(), images_per_class: 3, ..PhantomConfig::default() })?;
/// let mut config = ClassifierTrainConfig::recipe("cnn-1")?;
/// if let ClassifierConfig::Cnn(cnn) = &mut config.model {
///     (cnn.image_size, cnn.width) = (32.into(), 0.25);
/// }
/// let control = Control::default();
/// let classifier = train_for_steps(&config, 2, &images.part(&[0, 1, 3, 4]), &control, &mut [])?.expect("nobody stopped it");
/// assert_eq!(classifier.predict(&images.part(&[2, 5]))?.len(), 2);
/// # Ok(())
/// # }
/// ```
pub fn train_for_steps(
    config: &ClassifierTrainConfig,
    steps: u64,
    train: &View,
    control: &Control,
    observers: &mut [&mut dyn Observer<ClassifierStep>],
) -> Result<Option<TrainedClassifier>> {
    let control = &control.alone();
    let precision = control.precision_of_run(config.model.precision())?;
    let model = config.model.clone().in_precision(precision);
    let config = ClassifierTrainConfig { model, epochs: steps, patience: None, ..config.clone() };
    if steps == 0 {
        return Err(Error::Invalid { field: "steps", reason: "is 0: at least 1 is needed".to_owned() });
    }
    config.validate()?;
    run::check_images(train, config.model.image_size(), config.model.channels())?;
    check_classes(&config.model, train)?;
    let step = ClassifierStep::new(&config, 1, &control.device)?;
    let mut step = step.weighted(config.balance.weights(train));
    let start = ClassifierStart::of(&config, &control.device)?;
    if let Some(start) = &start {
        step.start_from(start, &config.model, train.classes())?;
    }
    let plan = FitPlan::new(&Position::default(), steps, control);
    let outcome = fit(&mut step, stream(&config, train, &control.device), plan, observers)?;
    if outcome.interrupted {
        return Ok(None);
    }
    check_finite(&step.snapshot()?, steps)?;
    let data = run::data_fingerprint(&[train]);
    let mut state = State::new(KIND, config.seed, train.classes().to_vec(), data, config);
    state.position = outcome.position;
    Ok(Some(TrainedClassifier::new(step.classifier().clone(), state, &control.device)))
}

/// The batch of each iteration: the next `config.batch` images of pass after pass, or a balanced draw, scaled to [0, 1], augmented if that is asked for.
fn stream(
    config: &ClassifierTrainConfig,
    train: &View,
    device: &Device,
) -> impl FnMut(u64) -> Result<Batch> + Send + use<> {
    let (train, device) = (train.clone(), device.clone());
    let all: Vec<usize> = (0..train.len()).collect();
    let (seed, size, augment) = (config.seed, config.batch as u64, config.augment.clone());
    let draws = config.balance.draws(&train);
    let mut shuffled: Option<(u64, Vec<usize>)> = None;
    move |iteration| {
        if let Some(draws) = &draws {
            return draws.batch(&train, (seed, iteration, size as usize), &OwnRows::all(), &augment, &device);
        }
        let length = train.len() as u64;
        let (mut next, end) = ((iteration - 1) * size, iteration * size);
        let mut parts = Vec::new();
        while next < end {
            let pass = next / length;
            let order = match shuffled.take() {
                Some((at, order)) if at == pass => order,
                _ => epoch_order(&all, seed, pass),
            };
            let stop = end.min((pass + 1) * length);
            let chosen = &order[(next - pass * length) as usize..(stop - pass * length) as usize];
            let augment = augment.is_on().then_some((&augment, seed, pass));
            parts.push(Batch::gather(&train, chosen, Scale::Unit, augment, &device)?);
            shuffled = Some((pass, order));
            next = stop;
        }
        joined(parts)
    }
}

fn joined(mut parts: Vec<Batch>) -> Result<Batch> {
    if parts.len() == 1 {
        return Ok(parts.remove(0));
    }
    let (images, labels): (Vec<_>, Vec<_>) = parts.iter().map(|part| (&part.images, &part.labels)).unzip();
    Ok(Batch {
        images: Tensor::cat(&images, 0)?,
        labels: Tensor::cat(&labels, 0)?,
        indices: parts.iter().flat_map(|part| part.indices.iter().copied()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellforge_data::Augment;
    use cellforge_data::phantom::{self, PhantomConfig};

    #[test]
    fn batches_are_full_and_use_every_image_as_often() {
        let set = phantom::render(&PhantomConfig { size: 16.into(), images_per_class: 4, ..PhantomConfig::default() })
            .unwrap();
        let config = ClassifierTrainConfig {
            batch: 8,
            augment: Augment::FLIPS,
            ..ClassifierTrainConfig::recipe("cnn-1").unwrap()
        };
        // Three images in batches of eight: two passes and a part of the third, which the next batch goes on with.
        let train = [1, 4, 6];
        let mut make = stream(&config, &set.part(&train), &Device::Cpu);
        let mut again = stream(&config, &set.part(&train), &Device::Cpu);
        let mut seen = Vec::new();
        for iteration in 1..=3 {
            let batch = make(iteration).unwrap();
            assert_eq!((batch.images.dims(), batch.labels.dims()), (&[8, 3, 16, 16][..], &[8][..]));
            let labels: Vec<u32> = batch.indices.iter().map(|&i| set.label(i)).collect();
            assert_eq!(batch.labels.to_vec1::<u32>().unwrap(), labels);
            seen.extend(batch.indices);
        }
        assert_eq!(train.map(|image| seen.iter().filter(|&&i| i == image).count()), [8, 8, 8]);
        for pass in seen.chunks(3) {
            let mut pass = pass.to_vec();
            pass.sort_unstable();
            assert_eq!(pass, train);
        }
        // Asked for the third batch at once, it is the same.
        assert_eq!(again(3).unwrap().indices, seen[16..]);
    }
}
