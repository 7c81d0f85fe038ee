//! Features and scores of whole networks, and networks read back.

use crate::common::{cnn, fresh, gan, images, split};
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use cellforge_classify::{ClassifierConfig, INCEPTION_FEATURES, Inception, ResNetConfig, inception_input};
use cellforge_data::{Batch, Scale};
use cellforge_nn::{Key, ParamStore, Precision};
use cellforge_train::{
    ClassifierTrainConfig, Control, Error, Orientation, TrainedClassifier, TrainedGan, inception_features,
    load_inception, oriented, train_classifier, train_for_steps, train_gan,
};
use std::collections::HashMap;

#[test]
fn a_classifiers_features_are_those_of_its_last_layer() {
    let (folder, images, device) = (tempfile::tempdir().unwrap(), images(), Device::Cpu);
    train_classifier(&cnn(1), &split().train, &split().val, &fresh(folder.path()), &Control::default(), &mut [])
        .unwrap();
    let trained = TrainedClassifier::load(folder.path()).unwrap();

    // More rows than fit a batch, in an order of their own.
    let indices: Vec<usize> = (0..70).map(|i| i * 7 % images.len()).collect();
    let all = trained.features(&images.part(&indices)).unwrap();
    assert_eq!(all.len(), 70);
    let batch = Batch::gather(&images, &indices[..3], Scale::Unit, None, &device).unwrap();
    let expected = trained.network().features(&batch.images).unwrap();
    assert!(!expected.track_op(), "nothing is kept for gradients");
    // The library's products of three rows and of 64 differ in the last digit.
    let rows = expected.to_vec2::<f32>().unwrap().concat();
    assert!(all.values.iter().zip(&rows).all(|(a, b)| (a - b).abs() < 1e-6), "{rows:?}");

    // An image's features do not depend on its place or on the images beside it: equal images have equal features, to the last digit.
    let alone = trained.features(&images.part(&indices[69..])).unwrap();
    assert_eq!(all.row(69), alone.row(0));
    for (i, index) in indices.iter().enumerate() {
        let first = indices.iter().position(|other| other == index).unwrap();
        assert_eq!(all.row(i), all.row(first), "image {index} at {i} and at {first}");
    }

    // A turned set gives the features of turned images, and turned back those of the images.
    let turned = oriented(&images.part(&indices), Orientation::Rotate90).unwrap();
    assert_ne!(trained.features(&turned).unwrap(), all);
    let back = oriented(&turned, Orientation::Rotate270).unwrap();
    assert_eq!(trained.features(&back).unwrap(), all);
    assert_eq!((back.label(1), back.group(1)), (images.label(indices[1]), images.group(indices[1])));

    assert!(trained.features(&images.part(&[])).unwrap_err().to_string().contains("none"));
}

#[test]
fn a_discriminator_is_read_back_and_scores_images() {
    let (folder, images, device) = (tempfile::tempdir().unwrap(), images(), Device::Cpu);
    let config = gan(3);
    train_gan(&config, &images.class(0), &fresh(folder.path()), &Control::default(), &mut []).unwrap();
    let gan = TrainedGan::load(folder.path()).unwrap();
    let (state, discriminator) = (gan.state().clone(), gan.discriminator().unwrap());
    assert_eq!((state.classes, state.config), (vec!["Parasitized".to_owned()], config));

    let scores = gan.scores("Parasitized", &images.part(&[5, 3, 5])).unwrap();
    assert!(scores[0] == scores[2] && scores[0] != scores[1] && scores.iter().all(|score| score.is_finite()));
    // Pixels as in training, and neither dropout nor the batch's own statistics.
    let batch = Batch::gather(&images, &[5], Scale::SignedUnit, None, &device).unwrap();
    let logit = discriminator.forward_t(&batch.images, false, &Key::new(1)).unwrap();
    assert_eq!(scores[0], f64::from(logit.to_vec2::<f32>().unwrap()[0][0]));

    // Its weights are the checkpoint's, and not the generator's.
    let path = folder.path().join("last/discriminator.safetensors");
    let saved = candle_core::safetensors::load(&path, &device).unwrap();
    assert!(saved.contains_key("body.0.conv.weight"), "{:?}", saved.keys());
    std::fs::remove_file(&path).unwrap();
    let error = TrainedGan::load(folder.path()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("discriminator.safetensors"), "{error}");

    let other = tempfile::tempdir().unwrap();
    train_classifier(&cnn(1), &split().train, &split().val, &fresh(other.path()), &Control::default(), &mut [])
        .unwrap();
    assert!(matches!(TrainedGan::load(other.path()).map(|_| ()), Err(Error::Unsuitable { .. })));
}

#[test]
fn inception_is_read_from_a_file_that_the_user_brings() -> Result<()> {
    let (folder, images, device) = (tempfile::tempdir().unwrap(), images(), Device::Cpu);
    let store = ParamStore::new(Key::new(1), &device);
    Inception::new(Precision::F32, store.vb())?;
    // In half precision, with what the published file has besides.
    let mut tensors = HashMap::new();
    for (name, tensor) in store.tensors() {
        tensors.insert(name, tensor.to_dtype(DType::F16)?);
    }
    let network = Inception::new(Precision::F32, VarBuilder::from_tensors(tensors.clone(), DType::F32, &device))?;
    let path = folder.path().join("inception.safetensors");
    let save = |tensors: &HashMap<String, Tensor>| candle_core::safetensors::save(tensors, &path);
    tensors.insert("fc.bias".into(), Tensor::zeros(1008, DType::F32, &device)?);
    tensors.insert("Conv2d_1a_3x3.bn.num_batches_tracked".into(), Tensor::new(0i64, &device)?);
    save(&tensors)?;
    let loaded = load_inception(&path, &device, Precision::F32).unwrap();

    let features = inception_features(&loaded, &images.part(&[1, 20]), &device).unwrap();
    assert_eq!((features.len(), features.dims), (2, INCEPTION_FEATURES));
    let expected = network.features(&inception_input(&[images.image(1), images.image(20)], 32, 3, &device)?)?;
    assert_eq!(features.values, expected.flatten_all()?.to_vec1::<f32>()?);
    assert!(features.values.iter().all(|x| x.is_finite()) && features.row(0) != features.row(1));

    let last = tensors.remove("Mixed_7c.branch_pool.bn.running_var").expect("a parameter");
    save(&tensors)?;
    let error = load_inception(&path, &device, Precision::F32).unwrap_err().to_string();
    assert!(
        error.contains("inception.safetensors") && error.contains("Mixed_7c.branch_pool.bn.running_var"),
        "{error}"
    );
    tensors.insert("Mixed_7c.branch_pool.bn.running_var".into(), last.narrow(0, 0, 3)?);
    save(&tensors)?;
    let error = load_inception(&path, &device, Precision::F32).unwrap_err().to_string();
    assert!(error.contains("Mixed_7c.branch_pool.bn.running_var") && error.contains("[3]"), "{error}");
    tensors.insert("fc.bias".into(), Tensor::zeros(1000, DType::F32, &device)?);
    save(&tensors)?;
    assert!(load_inception(&path, &device, Precision::F32).unwrap_err().to_string().contains("ImageNet"));
    Ok(())
}

#[test]
fn equal_images_have_equal_features_in_the_resnet_too() {
    let images = images();
    let model = ClassifierConfig::Resnet(ResNetConfig { image_size: 32, width: 0.25, ..ResNetConfig::default() });
    let config = ClassifierTrainConfig { model, batch: 4, ..ClassifierTrainConfig::default() };
    let resnet =
        train_for_steps(&config, 1, &images, &Control::default(), &mut []).unwrap().expect("nobody stopped it");
    let indices: Vec<usize> = (0..70).map(|i| i * 7 % 9).collect();
    let all = resnet.features(&images.part(&indices)).unwrap();
    for (i, index) in indices.iter().enumerate().skip(9) {
        assert_eq!(all.row(i), all.row(i - 9), "image {index} at {i}");
    }
    assert_ne!(all.row(0), all.row(1));
}
