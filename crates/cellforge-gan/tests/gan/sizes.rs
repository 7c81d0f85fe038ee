//! Every network at sizes that are no power of two, and at rectangles: shapes, counts, first maps, and a step of training by gradients that
//! are held against Candle's.

use crate::gan::{Gan, assert_counts, build};
use crate::tape::assert_same_gradients;
use candle_core::{Device, Result};
use cellforge_gan::{DiscriminatorKind, GanConfig, GeneratorKind, ImageSize, loss};
use cellforge_nn::{Adam, AdamConfig, AnyOptimizer, Key, ParamStore, gradients};

/// Sizes, with those of the first map by hand: halved as long as both sides stay whole and at least 4.
const SIZES: [(ImageSize, ImageSize); 8] = [
    (ImageSize::square(24), ImageSize::square(6)),
    (ImageSize::square(28), ImageSize::square(7)),
    (ImageSize::square(48), ImageSize::square(6)),
    (ImageSize::square(96), ImageSize::square(6)),
    (ImageSize::square(224), ImageSize::square(7)),
    (ImageSize::new(240, 320), ImageSize::new(15, 20)),
    (ImageSize::new(28, 40), ImageSize::new(7, 10)),
    (ImageSize::square(256), ImageSize::square(4)),
];

fn config(image_size: ImageSize, generator: GeneratorKind, discriminator: DiscriminatorKind) -> GanConfig {
    // A width at which every layer has the fewest filters.
    GanConfig { image_size, channels: 1, latent: 4, width: 1e-3, generator, discriminator, ..GanConfig::default() }
}

/// One step of Adam on each network; the losses are finite before and after.
fn step(cfg: &GanConfig, gan: &Gan) -> Result<()> {
    let ImageSize { height, width } = cfg.image_size;
    let key = Key::new(5);
    let reals = key.with("reals").uniform(-1.0, 1.0, (2, 1, height, width), &Device::Cpu)?;
    let noise = key.with("noise").normal((2, cfg.latent), &Device::Cpu)?;
    let optimizer = |store: &ParamStore| -> Result<AnyOptimizer> {
        Ok(AnyOptimizer::Adam(Adam::named(store.trainable(), AdamConfig { lr: 1e-3, ..Default::default() })?))
    };
    let (mut g, mut d) = (optimizer(&gan.g_store)?, optimizer(&gan.d_store)?);
    for _ in 0..2 {
        let (value, grads) = gradients(|| loss::discriminator_real(&gan.discriminator.forward_t(&reals, true, &key)?))?;
        assert!(value.to_scalar::<f32>()?.is_finite(), "{cfg:?}");
        d.step(&grads)?;
        let (value, grads) = gradients(|| {
            let images = gan.generator.forward_t(&noise, true)?;
            assert_eq!(images.dims(), [2, 1, height, width], "{cfg:?}");
            loss::generator(&gan.discriminator.forward_t(&images, true, &key)?)
        })?;
        assert!(value.to_scalar::<f32>()?.is_finite(), "{cfg:?}");
        g.step(&grads)?;
    }
    Ok(())
}

#[test]
fn every_pair_is_built_and_trained_at_every_size() -> Result<()> {
    let pairs = [
        (GeneratorKind::Study, DiscriminatorKind::Study),
        (GeneratorKind::Residual, DiscriminatorKind::Residual),
        (GeneratorKind::Style, DiscriminatorKind::Residual),
    ];
    for (size, seed) in SIZES {
        for (generator, discriminator) in pairs {
            let cfg = config(size, generator, discriminator);
            let gan = build(&cfg)?;
            let (g, d) = (cfg.generator_summary(), cfg.discriminator_summary());
            assert_counts(&g, &gan.g_store);
            assert_counts(&d, &gan.d_store);
            let first = g.layers.iter().find(|layer| layer.kind == "Reshape").expect("a first map");
            assert_eq!(first.output[1..], [seed.height, seed.width], "{cfg:?}");
            assert_eq!(g.layers.last().expect("layers").output, [1, size.height, size.width]);
            step(&cfg, &gan)?;
        }
    }
    Ok(())
}

#[test]
fn gradients_at_odd_shapes_are_those_of_candles_graph() -> Result<()> {
    for size in [ImageSize::new(28, 40), ImageSize::new(56, 24)] {
        for (generator, discriminator) in
            [(GeneratorKind::Study, DiscriminatorKind::Study), (GeneratorKind::Style, DiscriminatorKind::Residual)]
        {
            let cfg = GanConfig { dropout: 0.0, ..config(size, generator, discriminator) };
            let (gan, key) = (build(&cfg)?, Key::new(7));
            let noise = key.normal((3, cfg.latent), &Device::Cpu)?;
            let vars = [gan.g_store.trainable(), gan.d_store.trainable()].concat();
            assert_same_gradients(&vars, || {
                let images = gan.generator.forward_t(&noise, true)?;
                loss::generator(&gan.discriminator.forward_t(&images, true, &key)?)
            })?;
        }
    }
    Ok(())
}

#[test]
fn filters_go_by_the_size_of_maps() {
    let counts = |size: ImageSize, generator, discriminator| {
        let cfg = GanConfig { image_size: size, generator, discriminator, ..GanConfig::default() };
        let of = |layers: Vec<cellforge_nn::summary::LayerSummary>, ending: &str| -> Vec<usize> {
            layers.iter().filter(|layer| layer.name.ends_with(ending)).map(|layer| layer.output[0]).collect()
        };
        (of(cfg.generator_summary().layers, "conv2"), of(cfg.discriminator_summary().layers, "conv2"))
    };
    let best = |size| counts(size, GeneratorKind::Style, DiscriminatorKind::Residual);
    // As they always were.
    assert_eq!(best(ImageSize::square(32)), (vec![192, 128, 64], vec![96, 192, 192]));
    assert_eq!(best(ImageSize::square(64)), (vec![192, 128, 64, 32], vec![48, 96, 192, 192]));
    assert_eq!(best(ImageSize::square(128)), (vec![192, 128, 64, 32, 16], vec![24, 48, 96, 192, 192]));
    // 14 and 28 pixels a side are between 8 and 15 and between 16 and 31.
    assert_eq!(best(ImageSize::square(28)), (vec![192, 128], vec![192, 192]));
    // 30x40, 60x80, 120x160 and 240x320 have the areas of 34, 69, 138 and 277 pixels a side; 15x20 that of 17.
    assert_eq!(best(ImageSize::new(240, 320)), (vec![64, 32, 16, 16], vec![12, 24, 48, 96]));
    assert_eq!(best(ImageSize::square(512)).0, [192, 128, 64, 32, 16, 16, 8]);
}
