//! Candle's own kind of data set, and MNIST and CIFAR-10 through candle-datasets.
#![cfg(feature = "candle-datasets")]

use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_datasets::vision::Dataset;
use cellforge_data::phantom::{self, PhantomConfig};
use cellforge_data::{Split, vision};

/// An IDX file: its magic number, its dimensions, its bytes.
fn idx(path: &Path, magic: u32, dims: &[u32], data: &[u8]) {
    let mut bytes = magic.to_be_bytes().to_vec();
    bytes.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
    bytes.extend(data);
    fs::write(path, bytes).unwrap();
}

/// Three training digits and two test digits of 2x2 pixels.
fn tiny_mnist(dir: &Path) {
    idx(&dir.join("train-images-idx3-ubyte"), 2051, &[3, 2, 2], &(0..12).map(|i| i * 21).collect::<Vec<u8>>());
    idx(&dir.join("train-labels-idx1-ubyte"), 2049, &[3], &[7, 0, 9]);
    idx(&dir.join("t10k-images-idx3-ubyte"), 2051, &[2, 2, 2], &[255, 254, 253, 252, 1, 2, 3, 4]);
    idx(&dir.join("t10k-labels-idx1-ubyte"), 2049, &[2], &[1, 7]);
}

#[test]
fn mnist_files_become_grey_images_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    tiny_mnist(dir.path());
    let set = vision::mnist(dir.path()).unwrap();
    assert_eq!((set.len(), set.size(), set.channels()), (5, 2.into(), 1));
    assert_eq!(set.labels(), [7, 0, 9, 1, 7]);
    assert_eq!(set.names().collect::<Vec<_>>(), ["7/train_0", "0/train_1", "9/train_2", "1/test_0", "7/test_1"]);
    assert_eq!(set.image(1), [84, 105, 126, 147]);
    assert_eq!(set.image(3), [255, 254, 253, 252]);
    assert_eq!(set.classes().len(), 10);
    assert!(set.group_names().is_empty());
}

#[test]
fn what_is_missing_or_does_not_fit_names_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().display().to_string();
    let error = vision::mnist(dir.path()).unwrap_err().to_string();
    assert!(error.contains(&folder) && error.contains("train-images-idx3-ubyte"), "{error}");
    let error = vision::cifar10(dir.path()).unwrap_err().to_string();
    assert!(error.contains(&folder) && error.contains("data_batch_1.bin"), "{error}");

    tiny_mnist(dir.path());
    idx(&dir.path().join("t10k-labels-idx1-ubyte"), 2049, &[3], &[1, 7, 7]);
    let error = vision::mnist(dir.path()).unwrap_err().to_string();
    assert!(error.contains(&folder) && error.contains("2 images have 3 labels"), "{error}");

    idx(&dir.path().join("t10k-labels-idx1-ubyte"), 2049, &[2], &[1]);
    assert!(vision::mnist(dir.path()).unwrap_err().to_string().contains(&folder));

    // A batch of CIFAR-10 that was cut short.
    fs::write(dir.path().join("test_batch.bin"), [0; 3073]).unwrap();
    assert!(vision::cifar10(dir.path()).unwrap_err().to_string().contains(&folder));
}

#[test]
fn colour_images_put_their_channels_last() {
    // CIFAR-10's own files hold 10,000 images each; what its loader returns is this, smaller.
    let values: Vec<u8> = (0..3 * 4 * 2).map(|i| (i * 10) as u8).collect();
    let images = Tensor::from_vec(values, (2, 3, 2, 2), &Device::Cpu).unwrap();
    let images = (images.to_dtype(DType::F32).unwrap() / 255.).unwrap();
    let labels = Tensor::new(&[3u8, 9], &Device::Cpu).unwrap();
    let dataset = Dataset {
        train_images: images.clone(),
        train_labels: labels.clone(),
        test_images: images,
        test_labels: labels,
        labels: 10,
    };
    let set = vision::from_candle_dataset(&dataset, &vision::CIFAR10_CLASSES).unwrap();
    assert_eq!((set.len(), set.size(), set.channels()), (4, 2.into(), 3));
    assert_eq!(set.name(1), "truck/train_1");
    // Planes 0..=30, 40..=70, 80..=110 become pixels of three bytes.
    assert_eq!(set.image(0), [0, 40, 80, 10, 50, 90, 20, 60, 100, 30, 70, 110]);
    assert!(vision::from_candle_dataset(&dataset, &["one", "two"]).unwrap_err().to_string().contains("label 3"));
}

#[test]
fn a_split_becomes_candles_data_set_and_back() {
    let set =
        phantom::render(&PhantomConfig { size: 16.into(), images_per_class: 6, ..PhantomConfig::default() }).unwrap();
    let split = Split { train: vec![11, 0, 3], val: vec![1], test: vec![2, 9] };
    let dataset = vision::to_candle_dataset(&set, &split).unwrap();
    assert_eq!(dataset.train_images.dims(), [3, 3, 16, 16]);
    assert_eq!(dataset.train_images.dtype(), DType::F32);
    assert_eq!(dataset.train_labels.to_vec1::<u8>().unwrap(), [1, 0, 0]);
    assert_eq!((dataset.labels(), dataset.test_images.dims()), (2, &[2, 3, 16, 16][..]));

    let back = vision::from_candle_dataset(&dataset, &["Parasitized", "Uninfected"]).unwrap();
    for (i, original) in [11, 0, 3, 2, 9].into_iter().enumerate() {
        assert_eq!(back.image(i), set.image(original));
        assert_eq!(back.label(i), set.label(original));
    }
    let wrong = Split { train: vec![12], val: vec![], test: vec![] };
    assert!(vision::to_candle_dataset(&set, &wrong).is_err());
}
