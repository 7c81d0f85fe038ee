//! One iteration of the recipe `best` agrees with PyTorch's to 1e-4: images, logits, losses, gradients, and the weights that it leaves.
//! `benches/torch/parity.py` writes the fixture and says what is in it.

use std::collections::BTreeMap;

use candle_core::safetensors::Load;
use candle_core::{Device, Result, Tensor};
use cellforge_data::Batch;
use cellforge_gan::{Discriminator, Generator};
use cellforge_nn::{Key, ParamStore, one_hot};
use cellforge_train::{GanStep, GanTrainConfig, Snapshot, Step};
use safetensors::SafeTensors;
use serde::Deserialize;

/// Largest difference that passes, relative to the reference.
const TOLERANCE: f64 = 1e-4;
/// A penalty is due.
const ITERATION: u64 = 8;

/// In what the networks and the training differ from the recipe's.
#[derive(Deserialize)]
struct Narrow {
    latent: usize,
    generator_filters: Vec<usize>,
    discriminator_filters: Vec<usize>,
    lr: f64,
}

struct Fixture {
    tensors: BTreeMap<String, Tensor>,
    narrow: Narrow,
    /// By the side of the images, how many parameters generator and discriminator have at full width.
    parameters: BTreeMap<usize, [usize; 2]>,
}

impl Fixture {
    fn read() -> Self {
        let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/best.safetensors")).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().as_ref().unwrap();
        let views = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = views.iter().map(|(name, view)| (name.to_owned(), view.load(&Device::Cpu).unwrap()));
        Self {
            tensors: tensors.collect(),
            narrow: serde_json::from_str(&metadata["narrow"]).unwrap(),
            parameters: serde_json::from_str(&metadata["parameters"]).unwrap(),
        }
    }

    /// The tensors whose names start with `prefix`, without it.
    fn under(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let named = self.tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
        named.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect()
    }

    fn labels(&self) -> Vec<u32> {
        self.tensors["labels"].to_vec1::<f32>().unwrap().into_iter().map(|label| label as u32).collect()
    }

    fn config(&self) -> GanTrainConfig {
        let Narrow { latent, generator_filters, discriminator_filters, lr } = &self.narrow;
        let mut config = GanTrainConfig::recipe("best").unwrap().for_images(32, 3, 2);
        (config.model.latent, config.lr, config.batch) = (*latent, *lr, self.labels().len());
        config.model.generator_filters = Some(generator_filters.clone());
        config.model.discriminator_filters = Some(discriminator_filters.clone());
        config
    }
}

#[test]
fn networks_agree_with_pytorch() -> Result<()> {
    let fixture = Fixture::read();
    let (config, reference) = (fixture.config().model, &fixture.tensors);
    let classes = one_hot(&fixture.labels(), 2, &Device::Cpu)?;
    let store = ParamStore::new(Key::new(0), &Device::Cpu);
    let generator = Generator::new(&config, store.vb())?;
    store.set(&fixture.under("g/"))?;
    let images = generator.forward_class_t(&reference["noise"], Some(&classes), true)?;
    close("images", &images, &reference["images"]);

    let store = ParamStore::new(Key::new(0), &Device::Cpu);
    let discriminator = Discriminator::new(&config, store.frozen_vb())?;
    store.set(&fixture.under("d/"))?;
    for (of, images) in [("real", &reference["real"]), ("fake", &reference["images"])] {
        let logits = discriminator.forward_class_t(images, Some(&classes), true, &Key::new(0))?;
        close(of, &logits, &reference[&format!("logits_{of}")]);
    }
    let gradient = discriminator.input_gradient(&reference["real"], Some(&classes))?;
    close("input_grad", gradient.values(), &reference["input_grad"]);
    Ok(())
}

/// The recipe's augmentation starts at a probability of 0, and its turned images are left out: they are a random choice.
#[test]
fn an_iteration_agrees_with_pytorch() {
    let fixture = Fixture::read();
    let (config, reference) = (fixture.config(), &fixture.tensors);
    let labels = fixture.labels();
    let noise = Key::new(0).with("gan").with("").with("z").at(ITERATION);
    let noise = noise.normal((labels.len(), config.model.latent), &Device::Cpu).unwrap();
    assert!(
        difference(&noise, &reference["noise"]) < 1e-6,
        "NOISE in parity.py is not what GanStep draws: {:?}",
        noise.to_vec2::<f32>().unwrap()
    );

    let mut step = GanStep::new(&config, &Device::Cpu).unwrap();
    let mut start = step.snapshot().unwrap();
    let names = |of: &Snapshot, file: &str| of.file(file).unwrap().keys().cloned().collect::<Vec<_>>();
    for (file, prefix) in [("weights", "g/"), ("generator", "g/"), ("discriminator", "d/")] {
        let weights = fixture.under(prefix);
        assert_eq!(names(&start, file), weights.keys().cloned().collect::<Vec<_>>(), "parameters of {file}");
        start.files.insert(file.to_owned(), weights);
    }
    step.restore(&start).unwrap();
    let batch = Batch {
        images: reference["real"].clone(),
        indices: (0..labels.len()).collect(),
        labels: Tensor::new(labels, &Device::Cpu).unwrap(),
    };
    let losses = step.step(&batch, ITERATION).unwrap();
    for (name, expected) in fixture.under("loss/") {
        let loss = losses.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no loss {name}")).1;
        close(&name, &Tensor::new(loss, &Device::Cpu).unwrap(), &expected);
    }

    let end = step.snapshot().unwrap();
    let optimizers = end.file("optimiser").unwrap();
    for (name, norm) in fixture.under("grad_norm/") {
        // With a beta 1 of 0 the mean of the gradients is the last one.
        assert_eq!(config.beta1, 0.0);
        let (network, parameter) = name.split_once('.').unwrap();
        let gradient = &optimizers[&format!("{network}.m.{parameter}")];
        let expected = f64::from(norm.to_scalar::<f32>().unwrap());
        assert!((l2(gradient) - expected).abs() <= TOLERANCE * expected, "norm of {name}: {} {expected}", l2(gradient));
        let typical = expected / (gradient.elem_count() as f64).sqrt();
        head_close(&format!("gradient of {name}"), gradient, &reference[&format!("grad_head/{name}")], typical);
    }
    for (prefix, files) in [("after_head/", ["generator", "discriminator"]), ("average_head/", ["weights"; 2])] {
        for (name, expected) in fixture.under(prefix) {
            let (network, parameter) = name.split_once('.').unwrap();
            let weights = &end.file(files[usize::from(network == "d")]).unwrap()[parameter];
            head_close(&format!("{prefix}{name}"), weights, &expected, 0.0);
        }
    }
}

#[test]
fn networks_of_full_width_have_as_many_parameters() {
    let fixture = Fixture::read();
    assert_eq!(fixture.parameters.len(), 3);
    for (&side, &expected) in &fixture.parameters {
        let model = GanTrainConfig::recipe("best").unwrap().for_images(side, 3, 2).model;
        let found = [model.generator_summary().params(), model.discriminator_summary().params()];
        assert_eq!(found, expected, "at {side} pixels a side");
    }
}

/// Element by element, relative to the largest element of the reference.
fn close(what: &str, ours: &Tensor, reference: &Tensor) {
    let relative = difference(ours, reference) / max_abs(reference);
    assert!(relative <= TOLERANCE, "{what} differs from PyTorch's by {relative:.2e} of its size");
}

/// The same of the first elements, relative to the largest of them or to `least`.
fn head_close(what: &str, ours: &Tensor, reference: &Tensor, least: f64) {
    let head = ours.flatten_all().and_then(|ours| ours.narrow(0, 0, reference.elem_count())).unwrap();
    let relative = difference(&head, reference) / max_abs(reference).max(least);
    assert!(relative <= TOLERANCE, "{what} differs from PyTorch's by {relative:.2e} of its size");
}

fn difference(ours: &Tensor, reference: &Tensor) -> f64 {
    assert_eq!(ours.dims(), reference.dims());
    max_abs(&(ours - reference).unwrap())
}

fn max_abs(xs: &Tensor) -> f64 {
    f64::from(xs.flatten_all().and_then(|xs| xs.abs()?.max(0)?.to_scalar::<f32>()).unwrap())
}

/// The norm, summed in double precision.
fn l2(xs: &Tensor) -> f64 {
    let values = xs.flatten_all().and_then(|xs| xs.to_vec1::<f32>()).unwrap();
    values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}
