//! Networks and training on an NVIDIA GPU against the same on the CPU. `tests/cuda/check` runs these tests, on a GPU or on the simulator;
//! without either they say that they were skipped.

use anyhow::Result;
use cellforge::candle::{Device, Tensor, Var};
use cellforge::classify::{Classifier, ClassifierConfig, CnnConfig, ResNetConfig};
use cellforge::data::{Batch, Scale, View, phantom};
use cellforge::gan::loss::GanLoss;
use cellforge::gan::{Discriminator, DiscriminatorKind, GanConfig, Generator, GeneratorKind};
use cellforge::kernels::{Precision, cuda_device};
use cellforge::nn::{Key, ParamStore, gradients, one_hot};
use cellforge::train::{ClassifierStep, ClassifierTrainConfig, GanStep, GanTrainConfig, Step};

/// How far figures may be apart, relative to their size, where both devices compute in f32.
const TOLERANCE: f64 = 1e-3;
const STEPS: u64 = 20;
/// A low rate, for training enlarges differences: where a gradient is nearly zero, rounding decides which way Adam goes. At the studies' own
/// rates the CPU is as far from itself after twenty steps if weights began with other last digits.
const RATE: f64 = 1e-5;
const BATCH: usize = 8;

/// The GPU, or a visible line that there is none.
#[allow(clippy::print_stderr)]
fn gpu() -> Option<Device> {
    cuda_device(0).inspect_err(|error| eprintln!("skipped: no NVIDIA GPU can be opened ({error})")).ok()
}

fn cells(side: usize) -> View {
    phantom::render(&phantom::PhantomConfig { size: side.into(), images_per_class: 40, ..Default::default() })
        .expect("cells")
}

fn values(xs: &Tensor) -> Vec<f32> {
    xs.flatten_all().and_then(|xs| xs.to_vec1()).expect("f32")
}

fn length(xs: impl Iterator<Item = f64>) -> f64 {
    xs.map(|x| x * x).sum::<f64>().sqrt()
}

/// Fails unless the difference of two tensors is small beside the second, both taken as vectors, or beside `least`.
fn assert_close(what: &str, got: &Tensor, want: &Tensor, least: f64) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let (got, want) = (values(got), values(want));
    let size = length(want.iter().map(|&x| f64::from(x))).max(least);
    let error = length(got.iter().zip(&want).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    assert!(error <= TOLERANCE * size, "{what}: {error:e} beside {size:e}");
}

fn study_gan(side: usize) -> GanConfig {
    GanConfig { image_size: side.into(), width: 0.125, latent: 16, dropout: 0.25, ..GanConfig::default() }
}

fn best_gan(side: usize) -> GanConfig {
    let kinds = (GeneratorKind::Style, DiscriminatorKind::Residual);
    let mut config = GanConfig { classes: 2, ..study_gan(side) };
    (config.generator, config.discriminator) = kinds;
    config
}

fn residual_gan(side: usize) -> GanConfig {
    let kinds = (GeneratorKind::Residual, DiscriminatorKind::Residual);
    let mut config = GanConfig { spectral_norm: true, ..study_gan(side) };
    (config.generator, config.discriminator) = kinds;
    config
}

fn resnet() -> ClassifierConfig {
    ClassifierConfig::Resnet(ResNetConfig { image_size: 32.into(), width: 0.25, ..ResNetConfig::default() })
}

fn cnn() -> ClassifierConfig {
    ClassifierConfig::Cnn(CnnConfig { image_size: 32.into(), ..CnnConfig::default() })
}

/// What a network says and the gradient of every parameter, by name.
type Told = Vec<(String, Tensor)>;

fn told(store: &ParamStore, forward: impl FnOnce() -> cellforge::candle::Result<(Tensor, Tensor)>) -> Result<Told> {
    let mut output = None;
    let (loss, grads) = gradients(|| {
        let (said, loss) = forward()?;
        output = Some(said.detach());
        Ok(loss)
    })?;
    let mut told = vec![("loss".to_owned(), loss)];
    told.extend(output.map(|output| ("output".to_owned(), output)));
    for (name, var) in store.trainable() {
        let grad = grads.get(&var).unwrap_or_else(|| panic!("{name} has a gradient"));
        told.push((name, grad.clone()));
    }
    Ok(told)
}

fn assert_told(what: &str, gpu: &Told, cpu: &Told) {
    assert_eq!(gpu.len(), cpu.len());
    // A bias before batch norm has a gradient of zero, and what is computed is rounding.
    let largest =
        cpu.iter().skip(2).map(|(_, grad)| length(values(grad).iter().map(|&x| f64::from(x)))).fold(0., f64::max);
    for ((name, got), (_, want)) in gpu.iter().zip(cpu) {
        assert_close(&format!("{what}: {name}"), got, want, 1e-3 * largest);
    }
}

fn gan_gradients(config: &GanConfig, device: &Device) -> Result<Told> {
    let key = Key::new(7);
    let (makers, judges) = (ParamStore::new(key.with("g"), device), ParamStore::new(key.with("d"), device));
    let (generator, discriminator) = (Generator::new(config, makers.vb())?, Discriminator::new(config, judges.vb())?);
    let z = key.with("z").normal((BATCH, config.latent), device)?;
    let classes = match config.classes {
        1 => None,
        n => Some(one_hot(&(0..BATCH as u32).map(|i| i % n as u32).collect::<Vec<_>>(), n, device)?),
    };
    let images = generator.forward_class_t(&z, classes.as_ref(), true)?.detach();
    let mut all = told(&judges, || {
        let logits = discriminator.forward_class_t(&images, classes.as_ref(), true, &key.with("dropout"))?;
        let loss = GanLoss::default().on_reals(&logits, 0.1)?;
        Ok((logits, loss))
    })?;
    all.extend(told(&makers, || {
        let images = generator.forward_class_t(&z, classes.as_ref(), true)?;
        let logits = discriminator.forward_class_t(&images, classes.as_ref(), true, &key.with("dropout"))?;
        Ok((images, GanLoss::default().on_reals(&logits, 0.0)?))
    })?);
    Ok(all)
}

fn classifier_gradients(config: &ClassifierConfig, device: &Device) -> Result<Told> {
    let store = ParamStore::new(Key::new(7), device);
    let classifier = Classifier::new(config, store.vb())?;
    let set = cells(config.image_size());
    let batch = Batch::gather(&set, &(0..BATCH).map(|i| i * 9).collect::<Vec<_>>(), Scale::Unit, None, device)?;
    told(&store, || {
        let logits = classifier.forward_t(&batch.images, true)?;
        let loss = ClassifierTrainConfig::default().loss.of(&logits, &batch.labels)?;
        Ok((logits, loss))
    })
}

#[test]
fn networks_and_their_gradients() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    for (name, config) in [("study", study_gan(32)), ("best", best_gan(32)), ("residual", residual_gan(32))] {
        assert_told(name, &gan_gradients(&config, &gpu)?, &gan_gradients(&config, &Device::Cpu)?);
    }
    for (name, config) in [("resnet", resnet()), ("cnn", cnn())] {
        assert_told(name, &classifier_gradients(&config, &gpu)?, &classifier_gradients(&config, &Device::Cpu)?);
    }
    Ok(())
}

/// What a training came to: the losses of each step, and all weights after the last.
struct Trained {
    losses: Vec<cellforge::train::Losses>,
    weights: Vec<(String, Tensor)>,
}

fn trained<S: Step<Batch = Batch>>(
    mut step: S,
    set: &View,
    (scale, batch): (Scale, usize),
    device: &Device,
) -> Result<Trained> {
    let mut losses = Vec::new();
    for iteration in 1..=STEPS {
        let indices: Vec<usize> = (0..batch).map(|i| (iteration as usize * 13 + i * 7) % set.len()).collect();
        losses.push(step.step(&Batch::gather(set, &indices, scale, None, device)?, iteration)?);
    }
    let files = step.snapshot()?.files;
    let tensors = files
        .into_iter()
        .flat_map(|(file, tensors)| tensors.into_iter().map(move |(name, tensor)| (format!("{file}/{name}"), tensor)));
    // Moments of Adam are small numbers of all sizes; what they make of the weights is what counts.
    Ok(Trained { losses, weights: tensors.filter(|(name, _)| !name.starts_with("optimiser/")).collect() })
}

/// Fails unless a GPU trains as the CPU does, and to the same bytes when it does so again.
fn assert_trains_alike<S: Step<Batch = Batch>>(
    what: &str,
    gpu: &Device,
    set: &View,
    (scale, batch): (Scale, usize),
    new: impl Fn(&Device) -> Result<S>,
) -> Result<()> {
    let run = |device: &Device| trained(new(device)?, set, (scale, batch), device);
    let (on_gpu, on_cpu) = (run(gpu)?, run(&Device::Cpu)?);
    for (step, (got, want)) in on_gpu.losses.iter().zip(&on_cpu.losses).enumerate() {
        // A count of images turns over at once.
        for ((name, got), (_, want)) in got.iter().zip(want).filter(|((name, _), _)| !name.ends_with("accuracy")) {
            let error = f64::from((got - want).abs());
            assert!(error <= TOLERANCE * f64::from(want.abs()), "{what}, step {step}: {name} {got} and {want}");
        }
    }
    // All weights as one vector, for those whose gradient is zero but for rounding go their own ways.
    let [got, want] = [&on_gpu, &on_cpu].map(|trained| trained.weights.iter().flat_map(|(_, tensor)| values(tensor)));
    let [got, want] = [got.collect::<Vec<_>>(), want.collect()].map(|all| Tensor::new(all, &Device::Cpu));
    assert_close(&format!("{what}: the weights"), &got?, &want?, 0.);
    let again = run(gpu)?;
    assert!(again.losses == on_gpu.losses, "{what}: other losses when trained again");
    let same = |a: &Tensor, b: &Tensor| values(a).iter().zip(values(b)).all(|(a, b)| a.to_bits() == b.to_bits());
    let pairs = again.weights.iter().zip(&on_gpu.weights);
    for ((name, a), (_, b)) in pairs {
        assert!(same(a, b), "{what}: {name} is not the same when trained again");
    }
    Ok(())
}

#[test]
fn gans_train_alike() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let set = cells(32);
    let study = GanTrainConfig { model: study_gan(32), batch: BATCH, seed: 3, lr: RATE, ..GanTrainConfig::default() };
    let best = GanTrainConfig {
        model: best_gan(32),
        batch: BATCH,
        seed: 3,
        penalty_every: 4,
        lr: RATE,
        ..GanTrainConfig::recipe("best").unwrap().for_images(64, 3, 2)
    };
    let residual = GanTrainConfig {
        model: residual_gan(32),
        loss: GanLoss::Hinge,
        accumulation_steps: 2,
        r2: 0.1,
        ..best.clone()
    };
    for (name, config) in [("study", study), ("best", best), ("residual", residual)] {
        assert_trains_alike(name, &gpu, &set, (Scale::SignedUnit, BATCH), |device| Ok(GanStep::new(&config, device)?))?;
    }
    Ok(())
}

#[test]
fn classifiers_train_alike() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let set = cells(32);
    let resnet = ClassifierTrainConfig { model: resnet(), ..ClassifierTrainConfig::default() };
    let resnet = ClassifierTrainConfig {
        optimizer: cellforge::train::OptimizerConfig::Sgd { lr: RATE, momentum: 0.9, nesterov: false },
        ..resnet
    };
    let optimizer = cellforge::train::OptimizerConfig::Adam { lr: RATE };
    let cnn = ClassifierTrainConfig { model: cnn(), optimizer, ..ClassifierTrainConfig::recipe("cnn-3").unwrap() };
    for (name, config) in [("resnet", resnet), ("cnn", cnn)] {
        assert_trains_alike(name, &gpu, &set, (Scale::Unit, 3 * BATCH), |device| {
            Ok(ClassifierStep::new(&config, config.epochs * 10, device)?)
        })?;
    }
    Ok(())
}

/// Lower precisions are near: products of bf16 are off by a few thousandths.
#[test]
fn lower_precisions_are_near() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let config = resnet();
    let of = |precision| classifier_gradients(&config.clone().in_precision(precision), &gpu);
    let exact = of(Precision::F32)?;
    for (precision, most) in [(Precision::Tf32, 0.02), (Precision::Bf16, 0.1)] {
        let loss = |told: &Told| values(&told[0].1)[0];
        let got = of(precision)?;
        assert!((loss(&got) - loss(&exact)).abs() <= most * loss(&exact), "{precision:?}: {}", loss(&got));
    }
    Ok(())
}

/// Masks of dropout are drawn on the device, to the same bits as on the host.
#[test]
fn dropout_is_the_same() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    // More than one stream of the generator, and a last block that is not whole.
    for shape in [vec![1, 3], vec![7, 5, 31, 33], vec![50_001]] {
        let dropped = |device: &Device| -> Result<Vec<f32>> {
            let xs = Var::ones(shape.as_slice(), cellforge::candle::DType::F32, device)?;
            Ok(values(&cellforge::nn::Dropout::new(0.3).forward_t(&xs, true, &Key::new(5))?))
        };
        assert_eq!(dropped(&gpu)?, dropped(&Device::Cpu)?);
    }
    Ok(())
}

/// The whole program, from cells to report.
#[test]
fn the_study_runs_on_it() -> Result<()> {
    let Some(_) = gpu() else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("study");
    let told = std::process::Command::new(env!("CARGO_BIN_EXE_cellforge"))
        .args(["reproduce", "--preset", "smoke", "--device", "cuda", "--out"])
        .arg(&out)
        .output()?;
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(std::fs::read_to_string(out.join("results.json"))?.contains("cuda:0 (tf32)"));
    Ok(())
}

/// Within ten more iterations, losses are copied to the host once, and for adaptive augmentation after every fourth; nothing else is. Only
/// the simulator tells.
#[test]
#[allow(clippy::print_stderr)]
fn a_step_reads_nothing_back() -> Result<()> {
    let Some(_) = gpu() else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let reads = |recipe: &str, iterations: &str| -> Result<usize> {
        let told = std::process::Command::new(env!("CARGO_BIN_EXE_cellforge"))
            .args(["train", "gan", "--device", "cuda", "--recipe", recipe, "--iterations", iterations])
            .args(["--side", "32", "--width", "0.05", "--batch", "4", "--grid-at", "1", "--out"])
            .arg(folder.path().join(format!("{recipe}-{iterations}")))
            .args(if recipe == "study" { &["--class", "Uninfected"][..] } else { &[] })
            .env("SIMULATOR_READS", "1")
            .output()?;
        let said = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success(), "{said}");
        Ok(said.lines().filter(|line| line.ends_with("bytes read")).count())
    };
    for (recipe, most) in [("study", 1), ("best", 4)] {
        let (few, more) = (reads(recipe, "11")?, reads(recipe, "21")?);
        if few == 0 {
            eprintln!("skipped: this is no simulator");
            return Ok(());
        }
        assert_eq!(more - few, most, "{recipe}");
    }
    Ok(())
}
