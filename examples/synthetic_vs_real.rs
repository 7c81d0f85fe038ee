//! The study's question in small: how many cells of each class does a classifier recognise, real ones and others?
//!
//! ```sh
//! cargo run --release --example synthetic_vs_real         # about half a minute
//! cargo run --release --example synthetic_vs_real -- 1    # one epoch instead of 4
//! ```
//!
//! A small CNN learns one phantom, and is asked about held-out patients of it and about a second phantom with other
//! patients, which takes the place of a generator's images. Expect high rates on both, each with its Wilson interval.

use anyhow::Result;
use cellforge::classify::{ClassifierConfig, CnnConfig};
use cellforge::data::phantom::{self, PhantomConfig};
use cellforge::data::{SplitOptions, SplitRule, split};
use cellforge::eval::{predictions, recognition};
use cellforge::train::{ClassifierTrainConfig, Control, Mode, RunDir, TrainedClassifier, train_classifier};

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    cellforge::kernels::keep_freed_memory();
    let epochs = std::env::args().nth(1).map_or(Ok(4), |n| n.parse())?;
    let cells = PhantomConfig { size: 32.into(), images_per_class: 600, ..PhantomConfig::default() };
    let set = phantom::render(&cells)?;
    let sides =
        split(&set, &SplitOptions { by: SplitRule::Group, val: 0.1, test: 0.2, seed: 0, ..SplitOptions::default() })?;
    let mut config = ClassifierTrainConfig::recipe("cnn-1").unwrap();
    config.model = ClassifierConfig::Cnn(CnnConfig { image_size: 32.into(), ..CnnConfig::default() });
    config.epochs = epochs;
    let control = Control { progress: true, ..Control::default() };
    let dir = RunDir::new("runs/examples/cnn").mode(Mode::Overwrite);
    let (train, val) = (set.part(&sides.train), set.part(&sides.val));
    let outcome = train_classifier(&config, &train, &val, &dir, &control, &mut [])?;
    let classifier = TrainedClassifier::load(&outcome.checkpoint)?;

    let others = phantom::render(&PhantomConfig { seed: 1, images_per_class: 200, ..cells })?;
    for (what, images) in [("held-out patients", set.part(&sides.test)), ("another phantom", others)] {
        for (class, name) in images.classes().iter().enumerate() {
            let of_class = images.class(class as u32);
            let predicted = predictions(&classifier.predict(&of_class)?, images.classes().len())?;
            let rate = recognition(class as u32, &predicted)?;
            println!(
                "{what:>18}, {name:>11}: {:>3} of {:>3} recognised, {:.1}% ({:.1} to {:.1}%)",
                rate.successes,
                rate.total,
                100.0 * rate.rate,
                100.0 * rate.low,
                100.0 * rate.high
            );
        }
    }
    Ok(())
}
