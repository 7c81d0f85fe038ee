//! Networks beyond the study's: every kind, with and without classes, at every size.

use crate::distance::distance;
use crate::gan::{assert_counts, build};
use crate::tape::assert_same_gradients;
use candle_core::{DType, Device, Result, Tensor};
use cellforge_gan::{AugmentConfig, Discriminator, DiscriminatorKind, GanConfig, GeneratorKind, loss};
use cellforge_nn::{Key, ParamStore, Precision, gradients, one_hot};

const LATENT: usize = 10;
const WIDTH: f64 = 1.0 / 16.0;

/// Every pair of networks that goes together: kinds, classes and spectral normalisation.
fn pairs() -> Vec<GanConfig> {
    let mut all = Vec::new();
    for generator in [GeneratorKind::Study, GeneratorKind::Residual, GeneratorKind::Style] {
        for discriminator in [DiscriminatorKind::Study, DiscriminatorKind::Residual] {
            for (classes, spectral_norm) in [(1, false), (1, true), (2, false), (2, true)] {
                let cfg = GanConfig { latent: LATENT, width: WIDTH, ..Default::default() };
                let cfg = GanConfig { generator, discriminator, classes, spectral_norm, ..cfg };
                all.extend(cfg.validate().is_ok().then_some(cfg));
            }
        }
    }
    all
}

/// Gives every parameter another value, so that nothing is zero or alike any more as at the start.
fn shake(store: &ParamStore) -> Result<()> {
    for (name, var) in store.trainable() {
        let noise = Key::new(9).with(&name).normal(var.shape(), &Device::Cpu)?;
        var.set(&(var.as_detached_tensor() + (noise * 0.1)?)?)?;
    }
    Ok(())
}

fn rows(labels: &[u32], cfg: &GanConfig) -> Result<Option<Tensor>> {
    (cfg.classes > 1).then(|| one_hot(labels, cfg.classes, &Device::Cpu)).transpose()
}

fn values(xs: &Tensor) -> Result<Vec<f32>> {
    xs.contiguous()?.flatten_all()?.to_vec1()
}

#[test]
fn there_is_a_pair_of_each_kind() {
    // With the study's discriminator three generators, with the residual one the study's with and without spectral normalisation, and
    // two that know of classes, in four ways.
    assert_eq!(pairs().len(), 3 + 2 + 2 * 4);
}

#[test]
fn shapes_ranges_and_counts() -> Result<()> {
    for (image_size, channels) in [(32, 1), (32, 3), (64, 1), (64, 3), (128, 1), (128, 3)] {
        for cfg in pairs() {
            let cfg = GanConfig { image_size: image_size.into(), channels, ..cfg };
            let gan = build(&cfg)?;
            let classes = rows(&[1, 0], &cfg)?;
            let noise = Key::new(2).normal((2, LATENT), &Device::Cpu)?;
            for train in [true, false] {
                let images = gan.generator.forward_class_t(&noise, classes.as_ref(), train)?;
                assert_eq!(images.dims(), [2, channels, image_size, image_size], "{cfg:?}");
                let [least, most] = [images.flatten_all()?.min(0)?, images.flatten_all()?.max(0)?];
                let (least, most) = (least.to_scalar::<f32>()?, most.to_scalar::<f32>()?);
                assert!(-1.0 <= least && least < most && most <= 1.0, "from {least} to {most}: {cfg:?}");
                let logits = gan.discriminator.forward_class_t(&images, classes.as_ref(), train, &Key::new(3))?;
                assert_eq!(logits.dims(), [2, 1]);
                assert!(values(&logits)?.iter().all(|z| z.abs() < 100.0), "{cfg:?}: {logits}");
            }
            let (g, d) = (cfg.generator_summary(), cfg.discriminator_summary());
            assert_counts(&g, &gan.g_store);
            assert_counts(&d, &gan.d_store);
            assert_eq!(g.layers.last().map(|layer| &layer.output[..]), Some(&[channels, image_size, image_size][..]));
            assert_eq!(d.layers.iter().rfind(|layer| layer.macs > 0).map(|layer| &layer.output[..]), Some(&[1][..]));
        }
    }
    Ok(())
}

/// Every layer of a table that has parameters goes by the name that they have in a checkpoint.
#[test]
fn tables_have_the_names_of_checkpoints() -> Result<()> {
    for cfg in pairs() {
        let cfg = GanConfig { image_size: 32.into(), ..cfg };
        let gan = build(&cfg)?;
        for (summary, store) in [(cfg.generator_summary(), gan.g_store), (cfg.discriminator_summary(), gan.d_store)] {
            let names: Vec<String> = store.all().into_iter().map(|(name, _)| name).collect();
            for layer in summary.layers.iter().filter(|layer| layer.trainable > 0) {
                let parts = ["weight", "bias", "conv.weight"].map(|part| format!("{}.{part}", layer.name));
                assert!(parts.iter().any(|part| names.contains(part)), "{} is none of {names:?}", layer.name);
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_candles_graph() -> Result<()> {
    let augment = AugmentConfig { flips: true, translation: 0.2, cutout: 0.3, colour: 0.2, ..AugmentConfig::default() };
    for (image_size, channels) in [(32, 3), (64, 1), (128, 3)] {
        for cfg in pairs() {
            let cfg = GanConfig { image_size: image_size.into(), channels, dropout: 0.0, ..cfg };
            let gan = build(&cfg)?;
            shake(&gan.g_store)?;
            shake(&gan.d_store)?;
            let (key, classes) = (Key::new(5), rows(&[0, 1, 1], &cfg)?);
            let classes = classes.as_ref();
            let reals = key.with("reals").uniform(-1.0, 1.0, (3, channels, image_size, image_size), &Device::Cpu)?;
            let noise = key.with("noise").normal((3, LATENT), &Device::Cpu)?;
            assert_same_gradients(&gan.d_store.trainable(), || {
                let augmented = augment.apply(&reals, 1.0, &key)?;
                // Without a step of power iteration, which would change the network from one call to the next.
                loss::discriminator_real(&gan.discriminator.forward_class_t(&augmented, classes, false, &key)?)
            })?;
            let frozen = Discriminator::new(&cfg, gan.d_store.frozen_vb())?;
            assert_same_gradients(&gan.g_store.trainable(), || {
                let images = gan.generator.forward_class_t(&noise, classes, true)?;
                let augmented = augment.apply(&images, 1.0, &key)?;
                loss::generator(&frozen.forward_class_t(&augmented, classes, false, &key)?)
            })?;
        }
    }
    Ok(())
}

#[test]
fn every_class_and_every_noise_is_another_image() -> Result<()> {
    for cfg in pairs() {
        let cfg = GanConfig { image_size: 32.into(), ..cfg };
        let gan = build(&cfg)?;
        shake(&gan.g_store)?;
        let noise = Key::new(2).normal((1, LATENT), &Device::Cpu)?;
        let image = |noise: &Tensor, label: u32| -> Result<Vec<f32>> {
            values(&gan.generator.forward_class_t(noise, rows(&[label], &cfg)?.as_ref(), false)?)
        };
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-3);
        let own = image(&noise, 0)?;
        assert_eq!(own, image(&noise, 0)?);
        assert!(apart(&own, &image(&Key::new(3).normal((1, LATENT), &Device::Cpu)?, 0)?), "{cfg:?}");
        let judge = |label: u32| -> Result<Vec<f32>> {
            let xs = Tensor::from_slice(&own, (1, 3, 32, 32), &Device::Cpu)?;
            values(&gan.discriminator.forward_class_t(&xs, rows(&[label], &cfg)?.as_ref(), false, &Key::new(1))?)
        };
        if cfg.classes > 1 {
            assert!(apart(&own, &image(&noise, 1)?), "{cfg:?}");
            assert_ne!(judge(0)?, judge(1)?, "{cfg:?}");
        }
    }
    Ok(())
}

/// At inference an image depends on neither the other images of the batch nor their classes.
#[test]
fn images_do_not_mix() -> Result<()> {
    for cfg in pairs().into_iter().filter(|cfg| cfg.classes > 1) {
        let cfg = GanConfig { image_size: 32.into(), ..cfg };
        let gan = build(&cfg)?;
        shake(&gan.g_store)?;
        let noise = Key::new(2).normal((3, LATENT), &Device::Cpu)?;
        let key = Key::new(1);
        let classes = rows(&[1, 0, 1], &cfg)?.expect("two classes");
        let images = gan.generator.forward_class_t(&noise, Some(&classes), false)?.contiguous()?;
        let logits = gan.discriminator.forward_class_t(&images, Some(&classes), false, &key)?;
        for i in 0..3 {
            let class = classes.narrow(0, i, 1)?;
            let image = gan.generator.forward_class_t(&noise.narrow(0, i, 1)?, Some(&class), false)?;
            let logit = gan.discriminator.forward_class_t(&image, Some(&class), false, &key)?;
            for (alone, beside) in [(&image, images.narrow(0, i, 1)?), (&logit, logits.narrow(0, i, 1)?)] {
                let (alone, beside) = (values(alone)?, values(&beside)?);
                let most = alone.iter().zip(beside).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
                // Products of one row and of three are added up in other orders.
                assert!(most < 1e-3, "{most}: {cfg:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn classes_that_do_not_fit_are_errors_that_say_so() -> Result<()> {
    let of = |classes: usize| {
        let (generator, discriminator) = (GeneratorKind::Style, DiscriminatorKind::Residual);
        let cfg = GanConfig { image_size: 32.into(), latent: LATENT, width: WIDTH, ..Default::default() };
        build(&GanConfig { generator, discriminator, classes, ..cfg })
    };
    let (noise, images) =
        (Key::new(1).normal((2, LATENT), &Device::Cpu)?, Key::new(1).normal((2, 3, 32, 32), &Device::Cpu)?);
    let messages = |classes: usize, rows: Option<&Tensor>| -> Result<Vec<String>> {
        let gan = of(classes)?;
        let errors = [
            gan.generator.forward_class_t(&noise, rows, false).map(drop),
            gan.discriminator.forward_class_t(&images, rows, false, &Key::new(1)).map(drop),
            gan.discriminator.input_gradient(&images, rows).map(drop),
        ];
        Ok(errors.into_iter().map(|error| error.unwrap_err().to_string()).collect())
    };
    let rows = one_hot(&[0, 1], 2, &Device::Cpu)?;
    let (short, wide) = (one_hot(&[0], 2, &Device::Cpu)?, one_hot(&[0, 1], 3, &Device::Cpu)?);
    for (classes, rows, words) in [
        (2, None, "is of 2 classes: say of which each image is, in rows of shape (2, 2)"),
        (1, Some(&rows), "knows of no classes, and was given some"),
        (2, Some(&short), "takes classes of shape (2, 2), not [1, 2]"),
        (2, Some(&wide), "takes classes of shape (2, 2), not [2, 3]"),
    ] {
        let messages = messages(classes, rows)?;
        for (message, network) in messages.iter().zip(["generator", "discriminator", "discriminator"]) {
            assert!(message.contains(&format!("the {network} {words}")), "{message}");
        }
    }
    // Those that take no classes say so of a network that needs them.
    let gan = of(2)?;
    assert!(gan.generator.forward_t(&noise, false).unwrap_err().to_string().contains("say of which"));
    assert!(
        gan.discriminator.forward_t(&images, false, &Key::new(1)).unwrap_err().to_string().contains("say of which")
    );
    Ok(())
}

/// The style generator starts with outputs of about unit variance in every layer, so that its images are neither grey nor saturated;
/// and the residual discriminator's logits are of the size of one.
#[test]
fn the_start_is_neither_flat_nor_saturated() -> Result<()> {
    let (generator, discriminator) = (GeneratorKind::Style, DiscriminatorKind::Residual);
    let cfg =
        GanConfig { image_size: 64.into(), latent: 64, width: 0.25, generator, discriminator, ..Default::default() };
    let gan = build(&cfg)?;
    let spread = |xs: &Tensor| -> Result<f64> {
        let xs = values(xs)?;
        Ok((xs.iter().map(|x| f64::from(x * x)).sum::<f64>() / xs.len() as f64).sqrt())
    };
    let images = gan.generator.forward_t(&Key::new(2).normal((8, 64), &Device::Cpu)?, false)?;
    assert!((0.3..0.9).contains(&spread(&images)?), "{}", spread(&images)?);
    let logits = gan.discriminator.forward_t(&images, false, &Key::new(1))?;
    assert!((0.05..5.0).contains(&spread(&logits)?), "{}", spread(&logits)?);
    Ok(())
}

/// Images, logits and the gradients of both networks together, in this precision.
fn computed_in(precision: Precision, cfg: &GanConfig) -> Result<[Vec<f32>; 3]> {
    let built = build(&GanConfig { precision, ..cfg.clone() })?;
    shake(&built.g_store)?;
    shake(&built.d_store)?;
    let zs = Key::new(3).normal((6, LATENT), &Device::Cpu)?;
    let classes = rows(&[0, 1, 0, 1, 1, 0], cfg)?;
    let (mut images, mut logits) = (None, None);
    let (_, grads) = gradients(|| {
        let made = built.generator.forward_class_t(&zs, classes.as_ref(), true)?;
        let judged = built.discriminator.forward_class_t(&made, classes.as_ref(), true, &Key::new(4))?;
        (images, logits) = (Some(made.detach()), Some(judged.detach()));
        loss::generator(&judged)
    })?;
    let mut all = Vec::new();
    for (_, var) in [built.g_store.trainable(), built.d_store.trainable()].concat() {
        let grad = grads.get(&var).expect("every parameter has a gradient");
        assert_eq!(grad.dtype(), DType::F32);
        all.extend(values(grad)?);
    }
    let [images, logits] = [images, logits].map(|made| made.expect("both networks ran"));
    assert!(images.dtype() == DType::F32 && logits.dtype() == DType::F32);
    Ok([values(&images)?, values(&logits)?, all])
}

/// In `bf16` networks take and give `f32`, near what they do in `f32`. Each of some 25 layers rounds a result and a factor, by half of 1/256 in the
/// root mean square: sqrt(50) / 512 is 1.4%, and three times that is not passed by images. Logits are differences of larger numbers, and
/// gradients pass kinks, which turn the slope of those numbers that rounding moves past them.
#[test]
fn networks_of_bf16_are_near_those_of_f32() -> Result<()> {
    for cfg in pairs().into_iter().filter(|cfg| !cfg.spectral_norm) {
        let cfg = GanConfig { image_size: 32.into(), dropout: 0., ..cfg };
        let (single, lower) = (computed_in(Precision::F32, &cfg)?, computed_in(Precision::EmulatedBf16, &cfg)?);
        for (i, most) in [0.042, 0.1, 0.3].into_iter().enumerate() {
            let distance = distance(&lower[i], &single[i]);
            assert!(distance > 0. && distance < most, "number {i} of {cfg:?}: {distance}");
        }
    }
    Ok(())
}
