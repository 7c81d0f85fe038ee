//! What a GAN's discriminator gives away of the images that it was trained on: how well its score tells them from images of other patients.
//!
//! ```sh
//! cargo run --release --example discriminator_leak -- built-in TRAINING.zip HELD_OUT.zip
//! cargo run --release --example discriminator_leak -- runs/gan TRAINING.zip HELD_OUT.zip
//! ```
//!
//! An area under the ROC curve of 0.5 is chance, 1 tells every training image. Intervals are by bootstrap over patients (LOGAN, Hayes et al. 2019).

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use anyhow::{Context, Result, ensure};
use cellforge::{
    data::View,
    eval::{
        BootstrapOptions,
        two_sample::{Scored, separation},
    },
    study::nih,
    train::TrainedGan,
};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [gan, training, held_out] = &arguments[..] else {
        anyhow::bail!(
            "name a GAN (`built-in`, or the folder of one), its training images, and images of other patients"
        )
    };
    let gan = if gan == "built-in" { TrainedGan::builtin()? } else { TrainedGan::load(gan)? };
    let classes = gan.classes().to_vec();
    let mut scored = Vec::new();
    for (path, second) in [(held_out, false), (training, true)] {
        let images = View::open(path, &nih::open_options(gan.image_size(), gan.channels()))?;
        ensure!(images.classes() == classes, "{path} has the classes {:?}, the GAN {classes:?}", images.classes());
        let units = images.units();
        for (class, name) in classes.iter().enumerate() {
            let rows: Vec<usize> = (0..images.len()).filter(|&i| images.label(i) as usize == class).collect();
            let scores = gan.scores(name, &images.part(&rows)).context("the GAN cannot score these images")?;
            scored.extend(rows.iter().zip(scores).map(|(&i, score)| Scored {
                score,
                second,
                class,
                network: 0,
                unit: units[i],
            }));
        }
        println!("{path}: {} images", images.len());
    }
    let found = separation(&scored, classes.len(), &BootstrapOptions::default())?;
    let all = std::iter::once(("all", &found.auc));
    for (name, auc) in all.chain(classes.iter().map(String::as_str).zip(&found.per_class)) {
        println!("{name}: AUC {:.3} ({:.3} to {:.3})", auc.value, auc.low, auc.high);
    }
    Ok(())
}
