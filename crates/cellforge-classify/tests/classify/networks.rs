//! Layer tables, shapes, configuration, gradients, regularisation and the overfit of one batch.

use crate::distance::distance;
use crate::tape::assert_same_gradients;
use candle_core::{DType, Device, Result, Tensor};
use cellforge_classify::{Classifier, ClassifierConfig, CnnConfig, ImageSize, ResNetConfig};
use cellforge_nn::summary::ModelSummary;
use cellforge_nn::{
    Adam, AdamConfig, AnyOptimizer, Key, ParamStore, Precision, Sgd, SgdConfig, gradients, one_hot, ops,
};

/// Kind, output (channels first) and parameters of each layer of the study's small CNN.
const CNN: [(&str, &[usize], usize); 12] = [
    ("Conv2D", &[32, 62, 62], 896),
    ("Activation", &[32, 62, 62], 0),
    ("MaxPooling2D", &[32, 31, 31], 0),
    ("Conv2D", &[32, 29, 29], 9248),
    ("Activation", &[32, 29, 29], 0),
    ("MaxPooling2D", &[32, 14, 14], 0),
    ("Conv2D", &[64, 12, 12], 18_496),
    ("Activation", &[64, 12, 12], 0),
    ("MaxPooling2D", &[64, 6, 6], 0),
    ("Flatten", &[2304], 0),
    ("Dense", &[64], 147_520),
    ("Dense", &[2], 130),
];

fn cnn(image_size: usize, channels: usize, classes: usize, width: f64) -> ClassifierConfig {
    ClassifierConfig::Cnn(CnnConfig { image_size: image_size.into(), channels, classes, width, ..Default::default() })
}

fn resnet(image_size: usize, channels: usize, classes: usize, width: f64) -> ClassifierConfig {
    ClassifierConfig::Resnet(ResNetConfig {
        image_size: image_size.into(),
        channels,
        classes,
        width,
        ..Default::default()
    })
}

fn build(cfg: &ClassifierConfig) -> Result<(Classifier, ParamStore)> {
    let store = ParamStore::new(Key::new(1), &Device::Cpu);
    Ok((Classifier::new(cfg, store.vb())?, store))
}

/// What the table counts is what the store holds.
fn assert_counts(summary: &ModelSummary, store: &ParamStore) {
    assert_eq!(summary.params(), store.num_elements());
    let trainable: usize = store.trainable().iter().map(|(_, var)| var.elem_count()).sum();
    assert_eq!(summary.trainable(), trainable);
}

#[test]
fn the_default_cnn_is_the_study() -> Result<()> {
    let cfg = ClassifierConfig::study_cnn();
    let summary = cfg.summary();
    let rows: Vec<(&str, &[usize], usize)> = (summary.layers.iter())
        .map(|layer| (layer.kind.split(' ').next().unwrap(), layer.output.as_slice(), layer.params))
        .collect();
    assert_eq!(rows, CNN);
    assert_eq!((summary.params(), summary.trainable()), (176_290, 176_290));
    assert_counts(&summary, &build(&cfg)?.1);
    // Multiply-adds by hand: outputs of a layer times the inputs that each of them sees.
    let convs = 3 * 32 * 9 * 62 * 62 + 32 * 32 * 9 * 29 * 29 + 32 * 64 * 9 * 12 * 12;
    assert_eq!(summary.macs(), convs + 2304 * 64 + 64 * 2);
    Ok(())
}

#[test]
fn the_default_resnet_is_the_study() -> Result<()> {
    let cfg = ClassifierConfig::study_resnet();
    let summary = cfg.summary();
    assert_eq!((summary.params(), summary.trainable()), (2_164_174, 2_150_472));
    assert_counts(&summary, &build(&cfg)?.1);
    let layer = |name: &str| {
        let layer = summary.layers.iter().find(|layer| layer.name == name).unwrap_or_else(|| panic!("no layer {name}"));
        (layer.kind.as_str(), layer.output.as_slice(), layer.params)
    };
    // No convolution has a bias: 5 * 5 * 3 * 64 for the stem, and so on.
    assert_eq!(layer("stem"), ("Conv2D 5x5", &[64, 64, 64][..], 4800));
    assert_eq!(layer("pool.0"), ("ZeroPadding2D", &[64, 66, 66][..], 0));
    assert_eq!(layer("pool.1"), ("MaxPooling2D 3x3/2", &[64, 32, 32][..], 0));
    assert_eq!(layer("blocks.0.shortcut"), ("Conv2D 1x1", &[128, 32, 32][..], 8192));
    assert_eq!(layer("blocks.2.add"), ("Add", &[128, 32, 32][..], 0));
    assert_eq!(layer("blocks.3.conv2.1"), ("Conv2D 3x3/2", &[64, 16, 16][..], 36_864));
    assert_eq!(layer("blocks.3.shortcut"), ("Conv2D 1x1/2", &[256, 16, 16][..], 32_768));
    assert_eq!(layer("blocks.6.add"), ("Add", &[256, 16, 16][..], 0));
    assert_eq!(layer("blocks.12.add"), ("Add", &[512, 8, 8][..], 0));
    assert_eq!(layer("average"), ("AveragePooling2D 8x8", &[512, 1, 1][..], 0));
    assert_eq!(layer("fc"), ("Dense", &[2][..], 1026));
    // Multiply-adds by hand, stage by stage: in the first block of a stage the 1x1 before the stride works at the
    // larger side.
    let stage1 = 32 * 32 * (64 * 32 + 64 * 128 + 2 * 128 * 32 + 3 * (32 * 32 * 9 + 32 * 128));
    let stage2 = 32 * 32 * 128 * 64 + 16 * 16 * (128 * 256 + 3 * 256 * 64 + 4 * (64 * 64 * 9 + 64 * 256));
    let stage3 = 16 * 16 * 256 * 128 + 8 * 8 * (256 * 512 + 5 * 512 * 128 + 6 * (128 * 128 * 9 + 128 * 512));
    assert_eq!(summary.macs(), 64 * 64 * 4800 + stage1 + stage2 + stage3 + 1024);
    Ok(())
}

#[test]
fn shapes_and_counts_at_every_side_channel_and_class_count() -> Result<()> {
    for image_size in [32, 64, 128] {
        for (channels, classes) in [(1, 2), (3, 5)] {
            for cfg in [cnn(image_size, channels, classes, 0.25), resnet(image_size, channels, classes, 0.125)] {
                let (classifier, store) = build(&cfg)?;
                let shape = (2, channels, image_size, image_size);
                let images = Key::new(2).uniform(0.0, 1.0, shape, &Device::Cpu)?;
                assert_eq!(classifier.forward_t(&images, false)?.dims(), [2, classes], "{cfg:?}");
                let features = if matches!(cfg, ClassifierConfig::Cnn(_)) { 16 } else { 64 };
                assert_eq!(classifier.features(&images)?.dims(), [2, features], "{cfg:?}");
                assert_counts(&cfg.summary(), &store);
            }
        }
    }
    Ok(())
}

#[test]
fn depth_is_configuration() -> Result<()> {
    let deep = CnnConfig { filters: vec![32, 32, 64, 64], width: 0.25, ..Default::default() };
    let shallow = ResNetConfig { stages: vec![1, 1], filters: vec![16, 32, 64], width: 0.5, ..Default::default() };
    for cfg in [ClassifierConfig::Cnn(deep), ClassifierConfig::Resnet(shallow)] {
        let (classifier, store) = build(&cfg)?;
        let images = Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?;
        assert_eq!(classifier.forward_t(&images, false)?.dims(), [1, 2]);
        assert_counts(&cfg.summary(), &store);
    }
    Ok(())
}

#[test]
fn features_are_those_of_inference_and_change_no_statistics() -> Result<()> {
    let (classifier, store) = build(&resnet(32, 3, 2, 0.125))?;
    let images = Key::new(3).uniform(0.0, 1.0, (4, 3, 32, 32), &Device::Cpu)?;
    let mean = || -> Result<Vec<f32>> { store.tensors()["bn0.running_mean"].to_vec1() };
    let before = mean()?;
    let all = classifier.features(&images)?;
    let alone = classifier.features(&images.narrow(0, 0, 1)?)?;
    let difference = (all.narrow(0, 0, 1)? - alone)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    assert!(difference < 1e-5, "one image's features depend on the others by {difference}");
    assert_eq!(mean()?, before);
    classifier.forward_t(&images, true)?;
    assert_ne!(mean()?, before);
    Ok(())
}

#[test]
fn gradients_are_those_of_candles_graph() -> Result<()> {
    let images = Key::new(5).uniform(0.0, 1.0, (4, 3, 32, 32), &Device::Cpu)?;
    let labels = Tensor::new(&[0u32, 1, 1, 0], &Device::Cpu)?;
    for cfg in [cnn(32, 3, 2, 0.25), resnet(32, 3, 2, 0.125)] {
        let (classifier, store) = build(&cfg)?;
        for loss in [ops::cross_entropy, ops::softmax_bce] {
            assert_same_gradients(&store.trainable(), || loss(&classifier.forward_t(&images, true)?, &labels))?;
        }
    }
    Ok(())
}

#[test]
fn both_overfit_one_batch() -> Result<()> {
    let images = Key::new(4).uniform(0.0, 1.0, (8, 3, 32, 32), &Device::Cpu)?;
    let labels = Tensor::new(&[0u32, 1, 1, 0, 1, 0, 0, 1], &Device::Cpu)?;
    for (cfg, lr) in [(cnn(32, 3, 2, 0.5), 0.05), (resnet(32, 3, 2, 0.125), 0.05)] {
        let (classifier, store) = build(&cfg)?;
        let sgd = SgdConfig { lr, momentum: 0.9, nesterov: false };
        let mut optimizer = AnyOptimizer::Sgd(Sgd::named(store.trainable(), sgd, cfg.keras_l2())?);
        let loss = || ops::cross_entropy(&classifier.forward_t(&images, true)?, &labels);
        let start = loss()?.to_scalar::<f32>()?;
        for _ in 0..80 {
            optimizer.step(&loss()?.backward()?)?;
        }
        let end = loss()?.to_scalar::<f32>()?;
        assert!(end < 0.1 * start, "{cfg:?}: the loss went from {start} to {end}");
    }
    Ok(())
}

#[test]
fn l2_is_on_the_kernels_that_keras_has_it_on() -> Result<()> {
    assert!(ClassifierConfig::study_cnn().keras_l2().is_empty());
    let cfg = ClassifierConfig::study_resnet();
    let (l2, (_, store)) = (cfg.keras_l2(), build(&cfg)?);
    // Kernels are the weights of more than one dimension; batch norm's have one.
    for (name, var) in store.trainable() {
        let expected = match (name.as_str(), var.rank()) {
            ("stem.weight" | "fc.weight", _) => Some(5e-4),
            (_, 4) => Some(1e-4),
            _ => None,
        };
        assert_eq!(l2.get(&name).copied(), expected, "{name}");
    }
    // 13 blocks of 3 convolutions, 3 shortcuts, the stem and the dense layer.
    assert_eq!(l2.len(), 13 * 3 + 3 + 2);
    Ok(())
}

#[test]
fn configurations_read_with_defaults_and_refuse_what_they_do_not_know() {
    let cfg: ClassifierConfig = toml::from_str("kind = 'resnet'\nimage_size = 32\nwidth = 0.5").unwrap();
    assert_eq!(cfg, resnet(32, 3, 2, 0.5));
    for cfg in [ClassifierConfig::study_cnn(), ClassifierConfig::study_resnet()] {
        assert_eq!(toml::from_str::<ClassifierConfig>(&toml::to_string(&cfg).unwrap()).unwrap(), cfg);
    }
    let unknown = toml::from_str::<ClassifierConfig>("kind = 'cnn'\nstages = [1]").unwrap_err();
    assert!(unknown.to_string().contains("stages"), "{unknown}");
}

#[test]
fn bad_configurations_and_inputs_name_the_field_or_the_shape() -> Result<()> {
    let small = CnnConfig::default;
    let study = ResNetConfig::default;
    for (cfg, field) in [
        (cnn(50, 3, 2, 1.0), "image_size is 50"),
        (resnet(64, 2, 2, 1.0), "channels is 2"),
        (cnn(64, 3, 1, 1.0), "classes is 1"),
        (resnet(64, 3, 2, 0.0), "width is 0"),
        (ClassifierConfig::Cnn(CnnConfig { filters: vec![], ..small() }), "filters is []"),
        (ClassifierConfig::Cnn(CnnConfig { filters: vec![8; 7], ..small() }), "filters has 7 counts"),
        (ClassifierConfig::Cnn(CnnConfig { dense: 0, ..small() }), "dense is 0"),
        (ClassifierConfig::Resnet(ResNetConfig { stages: vec![3, 0, 1], ..study() }), "stages[1] is 0"),
        (ClassifierConfig::Resnet(ResNetConfig { stages: vec![3, 4], ..study() }), "filters has 4 counts for 2 stages"),
        (
            ClassifierConfig::Resnet(ResNetConfig { stages: vec![1; 7], filters: vec![8; 8], ..study() }),
            "stages has 7 counts",
        ),
        (ClassifierConfig::Resnet(ResNetConfig { bn_momentum: 2.0, ..study() }), "bn_momentum is 2"),
        (ClassifierConfig::Resnet(ResNetConfig { bn_eps: -1.0, ..study() }), "bn_eps is -1"),
    ] {
        let error = cfg.validate().unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
        assert!(build(&cfg).is_err());
    }
    let (classifier, _) = build(&cnn(32, 3, 2, 0.25))?;
    let error = classifier.forward_t(&Tensor::zeros((2, 1, 32, 32), DType::F32, &Device::Cpu)?, false).unwrap_err();
    assert!(error.to_string().contains("(batch, 3, 32, 32)"), "{error}");
    Ok(())
}

#[test]
fn both_are_built_and_trained_at_every_size() -> Result<()> {
    let sizes = [(24, 24), (28, 28), (48, 48), (96, 96), (224, 224), (240, 320), (28, 40)];
    for (height, width) in sizes {
        let image_size = ImageSize::new(height, width);
        let cnn = CnnConfig { image_size, channels: 1, width: 1e-3, ..Default::default() };
        let resnet = ResNetConfig { image_size, channels: 1, width: 1e-3, ..Default::default() };
        for cfg in [ClassifierConfig::Cnn(cnn), ClassifierConfig::Resnet(resnet)] {
            let (classifier, store) = build(&cfg)?;
            assert_counts(&cfg.summary(), &store);
            let images = Key::new(2).uniform(0.0, 1.0, (2, 1, height, width), &Device::Cpu)?;
            let labels = one_hot(&[0, 1], 2, &Device::Cpu)?;
            let adam = AdamConfig { lr: 1e-3, ..Default::default() };
            let mut optimizer = AnyOptimizer::Adam(Adam::named(store.trainable(), adam)?);
            for _ in 0..2 {
                let (loss, grads) = gradients(|| ops::mse(&classifier.forward_t(&images, true)?, &labels))?;
                assert!(loss.to_scalar::<f32>()?.is_finite(), "{cfg:?}");
                optimizer.step(&grads)?;
            }
            let logits = classifier.forward_t(&images, false)?;
            assert_eq!(logits.dims(), [2, 2], "{cfg:?}");
            assert!(logits.flatten_all()?.to_vec1::<f32>()?.iter().all(|value| value.is_finite()), "{cfg:?}");
        }
    }
    Ok(())
}

/// Features in inference mode, and the gradients of all parameters, in this precision.
fn computed_in(precision: Precision, cfg: &ClassifierConfig) -> Result<[Vec<f32>; 2]> {
    let (classifier, store) = build(&cfg.clone().in_precision(precision))?;
    let images = Key::new(2).uniform(0.0, 1.0, (6, 3, 32, 32), &Device::Cpu)?;
    let targets = Tensor::new(&[0u32, 1, 0, 1, 1, 0], &Device::Cpu)?;
    let (_, grads) = gradients(|| ops::cross_entropy(&classifier.forward_t(&images, true)?, &targets))?;
    let mut all = Vec::new();
    for (_, var) in store.trainable() {
        all.extend(grads.get(&var).expect("every parameter has a gradient").flatten_all()?.to_vec1::<f32>()?);
    }
    Ok([classifier.features(&images)?.flatten_all()?.to_vec1()?, all])
}

/// In `bf16` classifiers take and give `f32`, near what they do in `f32`. Each of up to 40 layers rounds a result and a factor, by half of 1/256 in
/// the root mean square: sqrt(80) / 512 is 1.7%, and three times that is not passed by features.
///
/// Gradients pass kinks, of activations and maxima, which turn the slope of those numbers that rounding moves past them. Their share is about that
/// of the rounding, 0.4%, of which the root is 6% of a gradient. The small CNN's seven make 16%, which two and a half times are not passed.
#[test]
fn classifiers_of_bf16_are_near_those_of_f32() -> Result<()> {
    for (cfg, bounds) in [(cnn(32, 3, 2, 0.25), &[0.052, 0.4][..]), (resnet(32, 3, 2, 0.125), &[0.052][..])] {
        let (single, lower) = (computed_in(Precision::F32, &cfg)?, computed_in(Precision::EmulatedBf16, &cfg)?);
        for (i, most) in bounds.iter().enumerate() {
            let distance = distance(&lower[i], &single[i]);
            assert!(distance > 0. && distance < *most, "number {i} of {cfg:?}: {distance}");
        }
    }
    Ok(())
}
