//! Loads cells, splits them by patient and makes a batch: the first page of the tutorial.
//!
//! ```sh
//! cargo run --release --example load_cells                       # phantom cells, drawn in a second
//! cargo run --release --example load_cells -- cell_images.zip    # any folder or zip of cells
//! ```
//!
//! Expect the classes with their counts, the number of patients, the sides of a split that keeps each patient on one
//! side, and the shape of a batch of 32 augmented cells.

use anyhow::Result;
use cellforge::candle::Device;
use cellforge::data::phantom::{self, PhantomConfig};
use cellforge::data::{Augment, Batch, Scale, SplitOptions, SplitRule, View, epoch_order, split};
use cellforge::study::nih;

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    let set = match std::env::args().nth(1) {
        Some(path) => View::open(path, &nih::open_options(64, 3))?,
        None => phantom::render(&PhantomConfig::default())?,
    };
    for (class, count) in set.classes().iter().zip(set.class_counts()) {
        println!("{count:>6} cells of class {class}");
    }
    println!("{:>6} patients", set.group_names().len());

    let by = SplitRule::Auto.settled(&set);
    let sides = split(&set, &SplitOptions { by, val: 0.1, test: 0.2, seed: 0, ..SplitOptions::default() })?;
    println!("split {by:?}: {} train, {} val, {} test", sides.train.len(), sides.val.len(), sides.test.len());

    // The order and each cell's change are functions of the seed, the epoch and the cell: nothing else is remembered.
    let (seed, epoch) = (0, 0);
    let order = epoch_order(&sides.train, seed, epoch);
    let augment = Augment::default();
    let chosen = &order[..order.len().min(32)];
    let batch = Batch::gather(&set, chosen, Scale::Unit, Some((&augment, seed, epoch)), &Device::Cpu)?;
    println!("first batch: images {:?}, labels {:?}", batch.images.shape(), batch.labels.shape());
    Ok(())
}
