//! To and from [`candle_datasets::vision::Dataset`], and CIFAR-10 and MNIST as images of other kinds.
//!
//! Only with the feature `candle-datasets`, which brings many dependencies along.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_datasets::vision::{self, Dataset};

use crate::{Batch, Error, ImageSize, Result, Scale, Split, View, ViewParts};

/// CIFAR-10's classes, in the order of its labels.
pub const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// MNIST's classes, in the order of its labels.
pub const MNIST_CLASSES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// How many images are turned into bytes at a time, so that no second copy of a whole data set in f32 is made.
const CHUNK: usize = 1000;

/// The training and test images of `split` as Candle's own kind of data set: images (n, channels, height, width) in f32
/// within [0, 1], labels (n) in u8, on the CPU. The validation images are left out: that kind has no place for them.
///
/// # Errors
/// [`Error::Invalid`] with more than 256 classes, which do not fit a `u8`, or if the split names an image that the set
/// does not have.
pub fn to_candle_dataset(view: &View, split: &Split) -> Result<Dataset> {
    if view.classes().len() > 256 {
        let classes = view.classes().len();
        return Err(Error::Invalid(format!(
            "a candle-datasets set has labels of one byte: {classes} classes do not fit"
        )));
    }
    let part = |indices: &[usize]| -> Result<(Tensor, Tensor)> {
        if let Some(index) = indices.iter().find(|index| **index >= view.len()) {
            return Err(Error::Invalid(format!("the split names image {index} of a set of {} images", view.len())));
        }
        let batch = Batch::gather(view, indices, Scale::Unit, None, &Device::Cpu)?;
        Ok((batch.images, batch.labels.to_dtype(DType::U8)?))
    };
    let (train_images, train_labels) = part(&split.train)?;
    let (test_images, test_labels) = part(&split.test)?;
    Ok(Dataset { train_images, train_labels, test_images, test_labels, labels: view.classes().len() })
}

/// A Candle data set as images, first the training images, then the test images, named `CLASS/train_N` and
/// `CLASS/test_N` with N counted from 0 in the data set's order. Groups are unknown.
///
/// Images are within [0, 1], either (n, channels, height, width) or (n, side * side), the latter being grey squares; `classes`
/// names the labels in order.
///
/// # Errors
/// [`Error::Invalid`] if flat images are not square, images do not have 1 or 3 channels, or a label has no name.
pub fn from_candle_dataset(dataset: &Dataset, classes: &[&str]) -> Result<View> {
    let (channels, size) = match *dataset.train_images.dims() {
        [_, channels, height, width] => (channels, ImageSize::new(height, width)),
        [_, area] if area.isqrt().pow(2) == area => (1, ImageSize::square(area.isqrt())),
        ref dims => return Err(Error::Invalid(format!("images of shape {dims:?} are not square"))),
    };
    let parts =
        [("train", &dataset.train_images, &dataset.train_labels), ("test", &dataset.test_images, &dataset.test_labels)];
    let (mut names, mut labels, mut pixels) = (Vec::new(), Vec::new(), Vec::new());
    for (part, images, classified) in parts {
        let classified = classified.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        for (i, label) in classified.iter().enumerate() {
            let Some(class) = classes.get(*label as usize) else {
                let n = classes.len();
                return Err(Error::Invalid(format!("{part} image {i} has label {label}, but there are {n} classes")));
            };
            names.push(format!("{class}/{part}_{i}"));
        }
        labels.extend(classified);
        let n = images.dim(0)?;
        for start in (0..n).step_by(CHUNK) {
            let chunk = images.narrow(0, start, CHUNK.min(n - start))?;
            let chunk = chunk.reshape(((), channels, size.height, size.width))?.permute((0, 2, 3, 1))?; // (b, h, w, c)
            let values = chunk.flatten_all()?.to_vec1::<f32>()?;
            pixels.extend(values.iter().map(|value| (value * 255.0).round() as u8));
        }
    }
    let classes = classes.iter().map(|class| (*class).to_owned()).collect();
    View::new(ViewParts { classes, names, labels, groups: Vec::new(), size, channels, pixels })
}

/// CIFAR-10 from the folder of its binary version (`data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`):
/// 60,000 RGB images of 32 pixels a side. See [`from_candle_dataset`] for names. Needs about 2 GB of memory on the way.
///
/// # Errors
/// [`Error::Dataset`] naming the folder if a file is missing or cut short.
pub fn cifar10(dir: &Path) -> Result<View> {
    let expected = "data_batch_1.bin to data_batch_5.bin and test_batch.bin (CIFAR-10, binary version)";
    let loaded = vision::cifar::load_dir(dir).and_then(whole);
    from_candle_dataset(&loaded.map_err(unreadable("CIFAR-10", dir, expected))?, &CIFAR10_CLASSES)
}

/// MNIST from the folder of its four unpacked files: 70,000 grey images of 28 pixels a side. See
/// [`from_candle_dataset`] for names.
///
/// # Errors
/// [`Error::Dataset`] naming the folder if a file is missing, cut short or of another kind.
pub fn mnist(dir: &Path) -> Result<View> {
    let expected =
        "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, unpacked";
    let loaded = vision::mnist::load_dir(dir).and_then(whole);
    from_candle_dataset(&loaded.map_err(unreadable("MNIST", dir, expected))?, &MNIST_CLASSES)
}

/// Refuses a data set with more or fewer labels than images, which the loaders let pass.
fn whole(dataset: Dataset) -> candle_core::Result<Dataset> {
    let pairs = [(&dataset.train_images, &dataset.train_labels), (&dataset.test_images, &dataset.test_labels)];
    for (images, labels) in pairs {
        let (images, labels) = (images.dim(0)?, labels.dim(0)?);
        if images != labels {
            candle_core::bail!("{images} images have {labels} labels");
        }
    }
    Ok(dataset)
}

fn unreadable(kind: &'static str, dir: &Path, expected: &'static str) -> impl FnOnce(candle_core::Error) -> Error {
    let path = dir.to_path_buf();
    move |error| Error::Dataset { kind, path, reason: error.to_string(), expected }
}
