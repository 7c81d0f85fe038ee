//! Features and scores of whole networks, and networks read back.

use crate::common::{cnn, fresh, gan, images, split};
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use cellforge_classify::{
    ClassifierConfig, DinoV2Config, INCEPTION_FEATURES, Inception, ResNetConfig, dinov2_input, inception_input,
};
use cellforge_data::{Batch, Scale};
use cellforge_nn::{Key, ParamStore, Precision};
use cellforge_train::{
    ClassifierTrainConfig, Control, Error, Orientation, TrainedClassifier, TrainedGan, dinov2_features,
    inception_features, load_dinov2, load_inception, oriented, train_classifier, train_for_steps, train_gan,
};
use std::collections::HashMap;
use std::path::Path;

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

    // As PyTorch saves it.
    let pth = folder.path().join("pt_inception.pth");
    save_as_pytorch(&tensors, &pth)?;
    let loaded = load_inception(&pth, &device, Precision::F32).unwrap();
    assert_eq!(inception_features(&loaded, &images.part(&[1, 20]), &device).unwrap(), features);

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

    std::fs::write(&pth, b"weights").unwrap();
    let error = load_inception(&pth, &device, Precision::F32).unwrap_err().to_string();
    assert!(error.contains("pt_inception.pth") && error.contains("neither a whole safetensors file"), "{error}");
    Ok(())
}

/// Writes floating-point tensors as PyTorch before 1.6 does: one storage each, described by a pickle.
fn save_as_pytorch(tensors: &HashMap<String, Tensor>, path: &Path) -> Result<()> {
    let text = |text: &str| [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let whole = |n: usize| [b"J".as_slice(), &(n as i32).to_le_bytes()].concat();
    let tuple = |dims: &[usize]| [b"(".to_vec(), dims.iter().flat_map(|&n| whole(n)).collect(), b"t".to_vec()].concat();
    let (mut state, mut keys, mut numbers) = (b"}(".to_vec(), b"](".to_vec(), Vec::new());
    for (key, (name, tensor)) in tensors.iter().filter(|(_, tensor)| tensor.dtype().is_float()).enumerate() {
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let class = b"ctorch\nFloatStorage\n".to_vec();
        let storage = [
            b"(".to_vec(),
            text("storage"),
            class,
            text(&key.to_string()),
            text("cpu"),
            whole(values.len()),
            b"tQ".to_vec(),
        ];
        let shape = tensor.dims();
        let stride = tensor.contiguous()?.stride().to_vec();
        let call = b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec();
        state.extend(
            [text(name), call, storage.concat(), whole(0), tuple(shape), tuple(&stride), b"tR".to_vec()].concat(),
        );
        keys.extend(text(&key.to_string()));
        numbers.extend((values.len() as u64).to_le_bytes());
        numbers.extend(values.into_iter().flat_map(f32::to_le_bytes));
    }
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.M\xe9\x03.".to_vec();
    let system = [b"}".to_vec(), text("little_endian"), b"\x88s.".to_vec()].concat();
    let file = [magic, system, state, b"u.".to_vec(), keys, b"e.".to_vec(), numbers].concat();
    std::fs::write(path, file).map_err(candle_core::Error::wrap)
}

/// A DINOv2 of one layer, under Hugging Face's names.
fn dinov2() -> Result<HashMap<String, Tensor>> {
    let (d, mlp, mut tensors) = (64, 128, HashMap::new());
    let mut add = |name: &str, shape: &[usize]| -> Result<()> {
        let tensor = (Key::new(3).with(name).normal(shape, &Device::Cpu)? * 0.1)?;
        tensors.insert(name.to_owned(), tensor);
        Ok(())
    };
    add("embeddings.cls_token", &[1, 1, d])?;
    add("embeddings.mask_token", &[1, d])?;
    add("embeddings.position_embeddings", &[1, 1 + 16 * 16, d])?;
    add("embeddings.patch_embeddings.projection.weight", &[d, 3, 14, 14])?;
    add("embeddings.patch_embeddings.projection.bias", &[d])?;
    for (part, shape) in [
        ("norm1", [0, d]),
        ("attention.attention.query", [d, d]),
        ("attention.attention.key", [d, d]),
        ("attention.attention.value", [d, d]),
        ("attention.output.dense", [d, d]),
        ("norm2", [0, d]),
        ("mlp.fc1", [mlp, d]),
        ("mlp.fc2", [d, mlp]),
    ] {
        let is_norm = shape[0] == 0;
        add(&format!("encoder.layer.0.{part}.weight"), if is_norm { &shape[1..] } else { &shape })?;
        add(&format!("encoder.layer.0.{part}.bias"), if is_norm { &shape[1..] } else { &shape[..1] })?;
    }
    for name in ["encoder.layer.0.layer_scale1.lambda1", "encoder.layer.0.layer_scale2.lambda1"] {
        add(name, &[d])?;
    }
    add("layernorm.weight", &[d])?;
    add("layernorm.bias", &[d])?;
    Ok(tensors)
}

#[test]
fn dinov2_is_read_under_both_names_and_from_both_kinds_of_file() -> Result<()> {
    let (folder, images, device) = (tempfile::tempdir().unwrap(), images(), Device::Cpu);
    let tensors = dinov2()?;
    let safetensors = folder.path().join("model.safetensors");
    let save = |tensors: &HashMap<String, Tensor>| candle_core::safetensors::save(tensors, &safetensors);
    save(&tensors)?;
    let network = load_dinov2(&safetensors, &device).unwrap();
    let expected = DinoV2Config { hidden: 64, layers: 1, heads: 1, patch: 14, grid: 16, mlp: 128, registers: 0 };
    assert_eq!(*network.config(), expected);
    let features = dinov2_features(&network, &images.part(&[1, 20]), &device).unwrap();
    let input = dinov2_input(&[images.image(1), images.image(20)], 32, 3, &device)?;
    assert_eq!(features.values, network.features(&input)?.flatten_all()?.to_vec1::<f32>()?);
    assert!(features.values.iter().all(|x| x.is_finite()) && features.row(0) != features.row(1));

    // The names of the authors' own file.
    let mut theirs = HashMap::new();
    for part in ["weight", "bias"] {
        for (name, now) in [
            ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
            ("blocks.0.norm1", "encoder.layer.0.norm1"),
            ("blocks.0.attn.proj", "encoder.layer.0.attention.output.dense"),
            ("blocks.0.norm2", "encoder.layer.0.norm2"),
            ("blocks.0.mlp.fc1", "encoder.layer.0.mlp.fc1"),
            ("blocks.0.mlp.fc2", "encoder.layer.0.mlp.fc2"),
            ("norm", "layernorm"),
        ] {
            theirs.insert(format!("{name}.{part}"), tensors[&format!("{now}.{part}")].clone());
        }
        let of = |name: &str| &tensors[&format!("encoder.layer.0.attention.attention.{name}.{part}")];
        theirs.insert(format!("blocks.0.attn.qkv.{part}"), Tensor::cat(&[of("query"), of("key"), of("value")], 0)?);
    }
    for (name, now) in [
        ("cls_token", "embeddings.cls_token"),
        ("mask_token", "embeddings.mask_token"),
        ("pos_embed", "embeddings.position_embeddings"),
        ("blocks.0.ls1.gamma", "encoder.layer.0.layer_scale1.lambda1"),
        ("blocks.0.ls2.gamma", "encoder.layer.0.layer_scale2.lambda1"),
    ] {
        theirs.insert(name.to_owned(), tensors[now].clone());
    }
    let pth = folder.path().join("dinov2_pretrain.pth");
    save_as_pytorch(&theirs, &pth)?;
    let loaded = load_dinov2(&pth, &device).unwrap();
    assert_eq!(dinov2_features(&loaded, &images.part(&[1, 20]), &device).unwrap(), features);

    // The names in the memory of version 5 of transformers.
    let mut renamed = HashMap::new();
    for (name, tensor) in &tensors {
        let mut name = name.replace("attention.output.dense", "attention.o_proj");
        for part in ["query", "key", "value"] {
            name = name.replace(&format!("attention.attention.{part}"), &format!("attention.{}_proj", &part[..1]));
        }
        renamed.insert(name, tensor.clone());
    }
    assert!(renamed.contains_key("encoder.layer.0.attention.q_proj.bias"));
    save_as_pytorch(&renamed, &pth)?;
    let loaded = load_dinov2(&pth, &device).unwrap();
    assert_eq!(dinov2_features(&loaded, &images.part(&[1, 20]), &device).unwrap(), features);

    for name in ["embeddings.cls_token", "encoder.layer.0.layer_scale2.lambda1", "layernorm.bias"] {
        let mut without = tensors.clone();
        without.remove(name);
        save(&without)?;
        let error = load_dinov2(&safetensors, &device).unwrap_err().to_string();
        assert!(error.contains("model.safetensors") && error.contains(name), "{error}");
    }
    Ok(())
}

#[test]
fn equal_images_have_equal_features_in_the_resnet_too() {
    let images = images();
    let model =
        ClassifierConfig::Resnet(ResNetConfig { image_size: 32.into(), width: 0.25, ..ResNetConfig::default() });
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
