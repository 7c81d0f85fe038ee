//! What a project of someone else might do: hold an untrained generator's images against real cells with a rule of its own.
//!
//! It reads a folder or zip of cells (or renders the phantom), splits it by patient, learns the mean redness of each class on the
//! training cells, and asks how often that rule is right on the test cells and what it says of generated images. The generator has
//! random weights here; load a checkpoint's `weights.safetensors` into the `VarMap` to ask about a trained one.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use cellforge_data::{OpenOptions, Scale, SplitOptions, View, phantom, split};
use cellforge_eval::{BootstrapOptions, classifier_report, recognition};
use cellforge_gan::{GanConfig, Generator};

const SIDE: usize = 32;

fn main() -> Result<()> {
    let cells = match std::env::args().nth(1) {
        Some(path) => View::open(&path, &OpenOptions::new(SIDE, 3)).with_context(|| format!("cannot use {path}"))?,
        None => {
            println!("rendering the phantom; name a folder or zip to use other cells");
            phantom::render(&phantom::PhantomConfig { size: SIDE.into(), images_per_class: 200, ..Default::default() })?
        }
    };
    ensure!(cells.classes().len() == 2, "this example needs two classes");
    let parts = split(&cells, &SplitOptions { seed: 1, ..SplitOptions::default() })?;
    let (train, test) = (cells.part(&parts.train), cells.part(&parts.test));

    // The rule: nearer to which class's mean redness?
    let mean_of = |class: u32| {
        let of_class = train.class(class);
        let values: Vec<f32> = (0..of_class.len()).map(|i| redness(of_class.image(i))).collect();
        values.iter().sum::<f32>() / values.len().max(1) as f32
    };
    let means = [mean_of(0), mean_of(1)];
    let judge = |image: &[u8]| {
        let distance = means.map(|mean| (redness(image) - mean).abs() + 1e-6);
        let sum = distance[0] + distance[1];
        vec![distance[1] / sum, distance[0] / sum]
    };

    let scores: Vec<Vec<f32>> = (0..test.len()).map(|i| judge(test.image(i))).collect();
    let options = BootstrapOptions { resamples: 200, seed: 1, level: 0.95 };
    let report = classifier_report(&test.labels(), &scores, cells.classes(), test.groups().as_deref(), &options)?;
    let interval = &report.accuracy_interval;
    println!(
        "on {} test cells: accuracy {:.3} ({:.3} to {:.3})",
        report.total, report.accuracy, interval.low, interval.high
    );

    let config = GanConfig { image_size: SIDE.into(), width: 0.25, ..GanConfig::default() };
    let weights = VarMap::new();
    let generator = Generator::new(&config, VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu))?;
    let noise = Tensor::randn(0f32, 1f32, (16, config.latent), &Device::Cpu)?;
    let images = generator.forward_t(&noise, false)?; // (16, 3, side, side) in [-1, 1]
    let made = View::from_tensor(&images, Scale::SignedUnit)?;
    let predicted: Vec<u32> = (0..made.len())
        .map(|i| {
            let scores = judge(made.image(i));
            u32::from(scores[1] > scores[0])
        })
        .collect();
    let taken = recognition(0, &predicted)?;
    println!("{} of {} untrained images are taken for {}", taken.successes, taken.total, cells.classes()[0]);
    Ok(())
}

/// Mean of red minus blue over the pixels that are not black.
fn redness(image: &[u8]) -> f32 {
    let lit = image.chunks_exact(3).filter(|p| p.iter().any(|v| *v > 10));
    let (sum, n) = lit.fold((0f32, 0f32), |(sum, n), p| (sum + f32::from(p[0]) - f32::from(p[2]), n + 1.0));
    sum / n.max(1.0)
}
