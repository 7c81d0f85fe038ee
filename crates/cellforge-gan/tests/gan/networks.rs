//! Layer tables, shapes, configuration, gradients, and one training step of the GAN.

use crate::gan::{assert_counts, build};
use crate::tape::assert_same_gradients;
use candle_core::{Device, Result, Tensor};
use cellforge_gan::{Discriminator, DiscriminatorKind, GanConfig, GeneratorKind, loss};
use cellforge_nn::summary::ModelSummary;
use cellforge_nn::{Adam, AdamConfig, AnyOptimizer, Key, ParamStore};

/// Kind, output (height, width, channels, as Keras writes it, or features) and parameters of each layer.
type Row = (&'static str, &'static [usize], usize);

/// The study's table of 2,043,011 parameters, which its text prints under "Discriminator".
const GENERATOR: [Row; 20] = [
    ("Dense", &[4096], 413_696),
    ("Reshape", &[4, 4, 256], 0),
    ("UpSampling2D", &[8, 8, 256], 0),
    ("Conv2D", &[8, 8, 256], 590_080),
    ("BatchNormalization", &[8, 8, 256], 1024),
    ("Activation", &[8, 8, 256], 0),
    ("UpSampling2D", &[16, 16, 256], 0),
    ("Conv2D", &[16, 16, 256], 590_080),
    ("BatchNormalization", &[16, 16, 256], 1024),
    ("Activation", &[16, 16, 256], 0),
    ("UpSampling2D", &[32, 32, 256], 0),
    ("Conv2D", &[32, 32, 128], 295_040),
    ("BatchNormalization", &[32, 32, 128], 512),
    ("Activation", &[32, 32, 128], 0),
    ("UpSampling2D", &[64, 64, 128], 0),
    ("Conv2D", &[64, 64, 128], 147_584),
    ("BatchNormalization", &[64, 64, 128], 512),
    ("Activation", &[64, 64, 128], 0),
    ("Conv2D", &[64, 64, 3], 3459),
    ("Activation", &[64, 64, 3], 0),
];

/// The study's table of 1,613,889 parameters, which its text prints under "Generator".
const DISCRIMINATOR: [Row; 22] = [
    ("Conv2D", &[32, 32, 32], 896),
    ("LeakyReLU", &[32, 32, 32], 0),
    ("Dropout", &[32, 32, 32], 0),
    ("Conv2D", &[16, 16, 64], 18_496),
    ("ZeroPadding2D", &[17, 17, 64], 0),
    ("BatchNormalization", &[17, 17, 64], 256),
    ("LeakyReLU", &[17, 17, 64], 0),
    ("Dropout", &[17, 17, 64], 0),
    ("Conv2D", &[9, 9, 128], 73_856),
    ("BatchNormalization", &[9, 9, 128], 512),
    ("LeakyReLU", &[9, 9, 128], 0),
    ("Dropout", &[9, 9, 128], 0),
    ("Conv2D", &[9, 9, 256], 295_168),
    ("BatchNormalization", &[9, 9, 256], 1024),
    ("LeakyReLU", &[9, 9, 256], 0),
    ("Dropout", &[9, 9, 256], 0),
    ("Conv2D", &[9, 9, 512], 1_180_160),
    ("BatchNormalization", &[9, 9, 512], 2048),
    ("LeakyReLU", &[9, 9, 512], 0),
    ("Dropout", &[9, 9, 512], 0),
    ("Flatten", &[41_472], 0),
    ("Dense", &[1], 41_473),
];

fn assert_table(summary: &ModelSummary, expected: &[Row]) {
    assert_eq!(summary.layers.len(), expected.len());
    for (layer, &(kind, output, params)) in summary.layers.iter().zip(expected) {
        assert_eq!(layer.kind.split(' ').next(), Some(kind), "{}", layer.name);
        let output = match *output {
            [h, w, c] => vec![c, h, w],
            _ => output.to_vec(),
        };
        assert_eq!((&layer.output, layer.params), (&output, params), "{}", layer.name);
    }
}

#[test]
fn the_default_is_the_study() -> Result<()> {
    let cfg = GanConfig::default();
    let (g, d) = (cfg.generator_summary(), cfg.discriminator_summary());
    assert_table(&g, &GENERATOR);
    assert_table(&d, &DISCRIMINATOR);
    assert_eq!((g.params(), g.trainable()), (2_043_011, 2_041_475));
    assert_eq!((d.params(), d.trainable()), (1_613_889, 1_611_969));
    let gan = build(&cfg)?;
    assert_counts(&g, &gan.g_store);
    assert_counts(&d, &gan.d_store);
    // Multiply-adds by hand: outputs of a layer times the inputs that each of them sees.
    let up = 256 * 256 * 9 * 8 * 8 + 256 * 256 * 9 * 16 * 16 + 256 * 128 * 9 * 32 * 32 + 128 * 128 * 9 * 64 * 64;
    assert_eq!(g.macs(), 100 * 4096 + up + 128 * 3 * 9 * 64 * 64);
    let strided = 3 * 32 * 9 * 32 * 32 + 32 * 64 * 9 * 16 * 16 + 64 * 128 * 9 * 81;
    assert_eq!(d.macs(), strided + (128 * 256 + 256 * 512) * 9 * 81 + 41_472);
    Ok(())
}

#[test]
fn shapes_and_counts_at_every_side_and_channel_count() -> Result<()> {
    let key = Key::new(2);
    for side in [32, 64, 128] {
        for channels in [1, 3] {
            let cfg =
                GanConfig { image_size: side.into(), channels, latent: 10, width: 1.0 / 16.0, ..Default::default() };
            let gan = build(&cfg)?;
            let images = gan.generator.forward_t(&key.normal((2, 10), &Device::Cpu)?, false)?;
            assert_eq!(images.dims(), [2, channels, side, side]);
            let extreme = images.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            assert!(extreme <= 1.0, "{extreme} is outside of [-1, 1]");
            assert_eq!(gan.discriminator.forward_t(&images, false, &key)?.dims(), [2, 1]);
            assert_counts(&cfg.generator_summary(), &gan.g_store);
            assert_counts(&cfg.discriminator_summary(), &gan.d_store);
            assert_eq!(cfg.generator_summary().layers.last().unwrap().output, [channels, side, side]);
        }
    }
    Ok(())
}

#[test]
fn dropout_acts_in_training_alone() -> Result<()> {
    // Batch norm is the other thing that tells the modes apart, so both outputs compared are of the same mode.
    let cfg = GanConfig { image_size: 32.into(), width: 0.125, ..Default::default() };
    let gan = build(&cfg)?;
    let images = Key::new(3).uniform(-1.0, 1.0, (4, 3, 32, 32), &Device::Cpu)?;
    let logits = |train, key: u64| -> Result<Vec<f32>> {
        gan.discriminator.forward_t(&images, train, &Key::new(key))?.flatten_all()?.to_vec1()
    };
    assert_eq!(logits(false, 0)?, logits(false, 1)?);
    assert_ne!(logits(true, 0)?, logits(true, 1)?);
    assert_eq!(logits(true, 0)?, logits(true, 0)?);
    Ok(())
}

#[test]
fn a_step_of_each_network_lowers_its_loss() -> Result<()> {
    let cfg = GanConfig { image_size: 32.into(), width: 0.125, latent: 16, dropout: 0.0, ..Default::default() };
    let gan = build(&cfg)?;
    let key = Key::new(4);
    let reals = key.with("reals").uniform(-1.0, 1.0, (8, 3, 32, 32), &Device::Cpu)?;
    let noise = key.with("noise").normal((8, 16), &Device::Cpu)?;
    let fakes = gan.generator.forward_t(&noise, false)?.detach();
    let adam = AdamConfig { lr: 1e-3, beta1: 0.5, ..Default::default() };
    let mut d_opt = AnyOptimizer::Adam(Adam::named(gan.d_store.trainable(), adam)?);
    let mut g_opt = AnyOptimizer::Adam(Adam::named(gan.g_store.trainable(), adam)?);

    let d_loss = || -> Result<Tensor> {
        let judge = |images: &Tensor| gan.discriminator.forward_t(images, true, &key);
        loss::discriminator_real(&judge(&reals)?)? + loss::discriminator_fake(&judge(&fakes)?)?
    };
    let before = d_loss()?;
    d_opt.step(&before.backward()?)?;
    assert!(d_loss()?.to_scalar::<f32>()? < before.to_scalar::<f32>()?);

    let judged = gan.d_store.tensors();
    let g_loss =
        || loss::generator(&gan.discriminator.forward_t(&gan.generator.forward_t(&noise, true)?, true, &key)?);
    let (before, weights) = (g_loss()?, gan.g_store.tensors());
    g_opt.step(&before.backward()?)?;
    assert!(g_loss()?.to_scalar::<f32>()? < before.to_scalar::<f32>()?);
    let change = |store: &ParamStore, old: &std::collections::BTreeMap<String, Tensor>, name: &str| -> Result<f32> {
        (&store.tensors()[name] - &old[name])?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()
    };
    for (name, _) in gan.g_store.trainable().iter().filter(|(name, _)| name.ends_with("weight")) {
        assert!(change(&gan.g_store, &weights, name)? > 0.0, "{name} did not move");
    }
    for (name, _) in gan.d_store.trainable() {
        assert_eq!(change(&gan.d_store, &judged, &name)?, 0.0, "{name} moved in the generator's step");
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_candles_graph() -> Result<()> {
    let cfg = GanConfig { image_size: 32.into(), width: 0.125, latent: 16, ..Default::default() };
    let gan = build(&cfg)?;
    let key = Key::new(5);
    let reals = key.with("reals").uniform(-1.0, 1.0, (4, 3, 32, 32), &Device::Cpu)?;
    let noise = key.with("noise").normal((4, 16), &Device::Cpu)?;
    let (g_vars, d_vars) = (gan.g_store.trainable(), gan.d_store.trainable());
    assert_same_gradients(&d_vars, || loss::discriminator_real(&gan.discriminator.forward_t(&reals, true, &key)?))?;
    // As in training, where the discriminator takes no gradient, and with all parameters of both.
    let frozen = Discriminator::new(&cfg, gan.d_store.frozen_vb())?;
    let both = [g_vars.clone(), d_vars].concat();
    for (discriminator, vars) in [(&frozen, g_vars), (&gan.discriminator, both)] {
        assert_same_gradients(&vars, || {
            let images = gan.generator.forward_t(&noise, true)?;
            loss::generator(&discriminator.forward_t(&images, true, &key)?)
        })?;
    }
    Ok(())
}

#[test]
fn losses_by_hand() -> Result<()> {
    // Logits 0 and 2: -log sigmoid is ln 2 = 0.693147 and ln(1 + e^-2) = 0.126928, their mean 0.410038;
    // -log (1 - sigmoid) adds the logit to each, so its mean is 1 more.
    let logits = Tensor::new(&[[0f32], [2.0]], &Device::Cpu)?;
    let near = |loss: Tensor, expected: f32| -> Result<bool> { Ok((loss.to_scalar::<f32>()? - expected).abs() < 1e-6) };
    assert!(near(loss::discriminator_real(&logits)?, 0.410_038)?);
    assert!(near(loss::generator(&logits)?, 0.410_038)?);
    assert!(near(loss::discriminator_fake(&logits)?, 1.410_038)?);
    Ok(())
}

/// Logits 0 and 2 of one kind, -1 and 0.5 of the other.
/// Hinge, as reals: max(0, 1 - z) is 1 and 0, mean 0.5; -1 and 0.5 as fakes: max(0, 1 + z) is 0 and 1.5, mean 0.75. The generator
/// pays minus the mean of its logits, 0.25.
/// Relativistic: differences 1 and 1.5; ln(1 + e^-1) = 0.313262 and ln(1 + e^-1.5) = 0.201413, mean 0.257337; the generator pays
/// ln(1 + e^1) = 1.313262 and ln(1 + e^1.5) = 1.701413, mean 1.507337.
/// Logistic with 0.1 of smoothing on logits 0 and 2: the target 0.9 adds 0.1 times the logit, so 0.410038 + 0.1.
#[test]
fn other_losses_by_hand() -> Result<()> {
    use loss::GanLoss::{Hinge, Logistic, Relativistic};
    let [reals, fakes] =
        [[[0f32], [2.0]], [[-1.0], [0.5]]].map(|rows| Tensor::new(&rows, &Device::Cpu).expect("a matrix"));
    let near = |loss: Tensor, expected: f32| {
        let got = loss.to_scalar::<f32>().expect("a scalar");
        assert!((got - expected).abs() < 1e-6, "{got}, expected {expected}");
    };
    near(Hinge.on_reals(&reals, 0.0)?, 0.5);
    near(Hinge.on_fakes(&fakes)?, 0.75);
    near(Hinge.discriminator(&reals, &fakes, 0.0)?, 1.25);
    near(Hinge.generator(&fakes, None)?, 0.25);
    near(Relativistic.discriminator(&reals, &fakes, 0.0)?, 0.257_337);
    near(Relativistic.generator(&fakes, Some(&reals))?, 1.507_337);
    near(Logistic.on_reals(&reals, 0.0)?, 0.410_038);
    near(Logistic.on_reals(&reals, 0.1)?, 0.510_038);
    near(Logistic.on_fakes(&reals)?, 1.410_038);
    near(Logistic.discriminator(&reals, &reals, 0.1)?, 0.510_038 + 1.410_038);
    near(Logistic.generator(&reals, None)?, 0.410_038);

    let message = |loss: Result<Tensor>| loss.unwrap_err().to_string();
    assert!(message(Relativistic.on_reals(&reals, 0.0)).contains("no part of the real images alone"));
    assert!(message(Relativistic.on_fakes(&fakes)).contains("no part of the generated images alone"));
    assert!(message(Relativistic.generator(&fakes, None)).contains("needs the logits of real images"));
    Ok(())
}

#[test]
fn configurations_read_with_defaults_and_refuse_what_they_do_not_know() {
    let cfg: GanConfig = toml::from_str("image_size = 32\nwidth = 0.5").unwrap();
    assert_eq!(cfg, GanConfig { image_size: 32.into(), width: 0.5, ..Default::default() });
    let written = toml::to_string(&GanConfig::default()).unwrap();
    assert_eq!(toml::from_str::<GanConfig>(&written).unwrap(), GanConfig::default());
    for option in ["generator", "discriminator", "classes", "spectral_norm"] {
        assert!(written.contains(&format!("{option} =")), "every setting is named: {written}");
    }
    // What checkpoints of earlier versions left out has its default.
    let old = "image_size = 64\nlatent = 100\nwidth = 1.0\ndropout = 0.25";
    assert_eq!(toml::from_str::<GanConfig>(old).unwrap(), GanConfig::default());
    let conditional = GanConfig {
        generator: GeneratorKind::Style,
        discriminator: DiscriminatorKind::Residual,
        classes: 2,
        spectral_norm: true,
        ..Default::default()
    };
    let written = toml::to_string(&conditional).unwrap();
    assert!(written.contains("generator = \"style\"") && written.contains("discriminator = \"residual\""), "{written}");
    assert_eq!(toml::from_str::<GanConfig>(&written).unwrap(), conditional);
    let unknown = toml::from_str::<GanConfig>("image_side = 32").unwrap_err();
    assert!(unknown.to_string().contains("image_side"), "{unknown}");
}

#[test]
fn bad_configurations_and_inputs_name_the_field_or_the_shape() -> Result<()> {
    let study = GanConfig::default;
    for (cfg, field) in [
        (GanConfig { image_size: 50.into(), ..study() }, "image_size is 50"),
        (GanConfig { channels: 4, ..study() }, "channels is 4"),
        (GanConfig { latent: 0, ..study() }, "latent is 0"),
        (GanConfig { width: f64::NAN, ..study() }, "model.width is not finite"),
        (GanConfig { generator_filters: Some(vec![64, 64]), ..study() }, "generator_filters is [64, 64]"),
        (GanConfig { discriminator_filters: Some(vec![32]), ..study() }, "discriminator_filters is [32]"),
        (GanConfig { dropout: 1.0, ..study() }, "dropout is 1"),
        (GanConfig { negative_slope: -0.1, ..study() }, "negative_slope is -0.1"),
        (GanConfig { bn_momentum: 0.0, ..study() }, "bn_momentum is 0"),
        (GanConfig { bn_eps: 0.0, ..study() }, "bn_eps is 0"),
        (GanConfig { classes: 0, ..study() }, "classes is 0"),
        (GanConfig { classes: 2000, ..study() }, "classes is 2000: a GAN is of 1 to 1024 classes"),
        (GanConfig { classes: 2, ..study() }, "classes is 2: the study's networks know of no classes; take generator"),
        (
            GanConfig { classes: 2, generator: GeneratorKind::Style, ..study() },
            "classes is 2: the study's networks know of no classes",
        ),
        (
            GanConfig { classes: 2, discriminator: DiscriminatorKind::Residual, ..study() },
            "classes is 2: the study's networks know of no classes",
        ),
        (
            GanConfig { spectral_norm: true, ..study() },
            "spectral_norm is true: the study's discriminator has none; take discriminator \"residual\"",
        ),
        (
            GanConfig {
                discriminator: DiscriminatorKind::Residual,
                discriminator_filters: Some(vec![8; 4]),
                ..study()
            },
            "discriminator_filters is [8, 8, 8, 8]: give exactly 5 counts",
        ),
    ] {
        let error = cfg.validate().unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
        assert!(build(&cfg).is_err());
    }
    let gan = build(&GanConfig { image_size: 32.into(), width: 0.125, ..study() })?;
    let zeros = Tensor::zeros((2, 3, 64, 64), candle_core::DType::F32, &Device::Cpu)?;
    let error = gan.discriminator.forward_t(&zeros, false, &Key::new(0)).unwrap_err().to_string();
    assert!(error.contains("(batch, 3, 32, 32)"), "{error}");
    let error = gan.generator.forward_t(&zeros, false).unwrap_err().to_string();
    assert!(error.contains("(batch, 100)"), "{error}");
    Ok(())
}
