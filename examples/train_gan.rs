//! Trains a narrow GAN on the phantom's parasitized cells and keeps its checkpoint and sample grids.
//!
//! ```sh
//! cargo run --release --example train_gan            # writes runs/examples/gan
//! cargo run --release --example train_gan -- 20      # that many iterations instead of 150
//! ```
//!
//! Expect about half a minute on two cores: the losses of both networks, and in `runs/examples/gan/grids` a grid of blots
//! that have begun to be round. The study's networks are four times as wide and train a hundred times as long.

use anyhow::Result;
use cellforge::data::phantom::{self, PhantomConfig};
use cellforge::gan::GanConfig;
use cellforge::train::{Control, GanTrainConfig, Mode, RunDir, train_gan};

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    cellforge::kernels::keep_freed_memory();
    let iterations = std::env::args().nth(1).map_or(Ok(150), |n| n.parse())?;
    let set = phantom::render(&PhantomConfig { size: 32.into(), images_per_class: 300, ..PhantomConfig::default() })?;
    let config = GanTrainConfig {
        model: GanConfig { image_size: 32.into(), width: 0.25, ..GanConfig::default() },
        iterations,
        lr: 4e-4,
        grid_at: vec![1, iterations / 2, iterations],
        ..GanTrainConfig::default()
    };
    let control = Control { progress: true, ..Control::default() };
    let dir = RunDir::new("runs/examples/gan").mode(Mode::Overwrite);
    let outcome = train_gan(&config, &set.class(0), &dir, &control, &mut [])?;
    println!("{} iterations of the phantom's {}", outcome.iterations, set.classes()[0]);
    println!("checkpoint: {}", outcome.checkpoint.display());
    for (iteration, grid) in &outcome.grids {
        println!("after {iteration}: {}", grid.display());
    }
    Ok(())
}
