//! Trains a narrow ResNet on phantom cells and reports on patients it has never seen.
//!
//! ```sh
//! cargo run --release --example train_resnet          # writes runs/examples/resnet
//! cargo run --release --example train_resnet -- 1     # one epoch instead of 4
//! ```
//!
//! Expect under a minute on two cores, and an accuracy with an interval that is far above one half. The cells are drawings:
//! the figure says nothing about malaria.

use anyhow::Result;
use cellforge::classify::{ClassifierConfig, ResNetConfig};
use cellforge::data::phantom::{self, PhantomConfig};
use cellforge::data::{SplitOptions, SplitRule, split};
use cellforge::eval::{BootstrapOptions, classifier_report};
use cellforge::train::{
    ClassifierTrainConfig, Control, Mode, OptimizerConfig, RunDir, TrainedClassifier, train_classifier,
};

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    cellforge::kernels::keep_freed_memory();
    let epochs = std::env::args().nth(1).map_or(Ok(4), |n| n.parse())?;
    let set = phantom::render(&PhantomConfig { size: 32.into(), images_per_class: 600, ..PhantomConfig::default() })?;
    let sides =
        split(&set, &SplitOptions { by: SplitRule::Group, val: 0.1, test: 0.2, seed: 0, ..SplitOptions::default() })?;
    let config = ClassifierTrainConfig {
        model: ClassifierConfig::Resnet(ResNetConfig { image_size: 32.into(), width: 0.25, ..ResNetConfig::default() }),
        epochs,
        optimizer: OptimizerConfig::Sgd { lr: 0.05, momentum: 0.9, nesterov: false },
        ..ClassifierTrainConfig::default()
    };
    let control = Control { progress: true, ..Control::default() };
    let dir = RunDir::new("runs/examples/resnet").mode(Mode::Overwrite);
    let (train, val) = (set.part(&sides.train), set.part(&sides.val));
    let outcome = train_classifier(&config, &train, &val, &dir, &control, &mut [])?;

    let classifier = TrainedClassifier::load(&outcome.checkpoint)?;
    let test = set.part(&sides.test);
    let probabilities = classifier.predict(&test)?;
    let truth = test.labels();
    let options = BootstrapOptions::default();
    let report = classifier_report(&truth, &probabilities, set.classes(), test.groups().as_deref(), &options)?;
    let interval = report.accuracy_interval;
    println!("{} phantom cells of patients that were not trained on:", truth.len());
    println!("accuracy {:.3} (95% interval {:.3} to {:.3})", report.accuracy, interval.low, interval.high);
    println!("checkpoint: {}", outcome.checkpoint.display());
    Ok(())
}
