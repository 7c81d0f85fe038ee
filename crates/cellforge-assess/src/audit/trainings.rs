//! Trains the target and the references, and asks the attackers about each.

use cellforge_data::{View, folder_name};
use cellforge_train::{GanTrainConfig, Mode, RunDir, SampleOptions, TrainedGan, pixel_features, train_gan};

use super::{
    AuditConfig, Statistics,
    coins::{Coins, Half},
    densities, place,
};
use crate::{Control, Error, Result, progress::ProgressBar};

/// Images that are drawn before it is looked whether to stop.
const PART: usize = 256;

/// One GAN to train: of one class, or of all.
struct Training<'a> {
    half: &'a Half,
    /// The class, where there is a GAN for each.
    class: Option<u32>,
    folder: RunDir,
}

/// The statistics under the target and under each reference.
pub(super) fn statistics(
    config: &AuditConfig,
    settings: &GanTrainConfig,
    images: &View,
    coins: &Coins,
    out: &RunDir,
    control: &Control,
) -> Result<Vec<Statistics>> {
    let classes = images.classes();
    let together = settings.conditional && classes.len() > 1;
    let per_half = if together { 1 } else { classes.len() };
    let mut found = Vec::new();
    for (number, half) in coins.halves.iter().enumerate() {
        let (mut draws, mut scores) = (vec![0.0; images.len()], vec![0.0; images.len()]);
        for part in 0..per_half {
            let class = (!together).then_some(part as u32);
            let name = match class {
                Some(class) if per_half > 1 => format!("{}/{}", half.name, folder_name(&classes[class as usize])),
                _ => half.name.clone(),
            };
            let training = Training { half, class, folder: out.audited_run(&name).mode(Mode::Resume) };
            let (at, all) = (number * per_half + part + 1, coins.halves.len() * per_half);
            let gan = train(settings, images, coins, &training, &format!("GAN {at} of {all}, {name}"), control)?;
            for label in class.map_or(0..classes.len() as u32, |class| class..class + 1) {
                let rows = images.class_indices(label);
                let (targets, class) = (images.part(&rows), &classes[label as usize]);
                let drawn = draw(config, &gan, half, class, control)?;
                place(&mut draws, &rows, &densities(config, &targets, &drawn)?);
                place(&mut scores, &rows, &gan.scores(class, &targets)?);
            }
        }
        found.push(Statistics { draws, discriminator: Some(scores) });
    }
    Ok(found)
}

/// A GAN that is trained to the end.
fn train(
    settings: &GanTrainConfig,
    images: &View,
    coins: &Coins,
    training: &Training<'_>,
    name: &str,
    control: &Control,
) -> Result<TrainedGan> {
    let all = coins.part(images, training.half);
    let images = training.class.map_or_else(|| all.clone(), |class| all.class(class));
    let mut own = settings.clone().for_images(images.size(), images.channels(), images.classes().len());
    own.seed = training.half.seed;
    own.class = training.class.map_or_else(String::new, |_| images.classes()[0].clone());
    own.monitor.every = 0;
    if control.progress {
        tracing::info!("audit: {name}, on {} images", images.len());
    }
    let outcome = train_gan(&own, &images, &training.folder, control, &mut [])?;
    if outcome.interrupted {
        return Err(Error::Interrupted);
    }
    Ok(TrainedGan::load_in(&outcome.checkpoint, &control.device, control.precision)?)
}

/// The pixels of what a GAN draws of a class, averaged, row by row.
fn draw(config: &AuditConfig, gan: &TrainedGan, half: &Half, class: &str, control: &Control) -> Result<Vec<f32>> {
    let bar = ProgressBar::new(control.progress, "audit", config.draws as u64);
    bar.name(format!("{}: drawing {} images of {class}", half.name, config.draws));
    let options = SampleOptions { seed: half.seed, ..SampleOptions::default() };
    let mut rows = Vec::new();
    for start in (0..config.draws).step_by(PART) {
        if control.stopped() {
            return Err(Error::Interrupted);
        }
        let drawn = gan.sample_with(&options, class, start..config.draws.min(start + PART))?;
        rows.extend(pixel_features(&drawn, config.size(&drawn))?.values);
        bar.advance(drawn.len() as u64);
    }
    bar.finish();
    Ok(rows)
}
