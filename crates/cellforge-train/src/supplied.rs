//! Files that the user brings along: weights of Inception-v3, and features that another program computed.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use candle_core::safetensors::Load;
use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use cellforge_classify::Inception;
use cellforge_nn::Precision;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{Error, FeatureMatrix, Result};

/// The sets of a feature file, and whether each must be there.
const SETS: [(&str, bool); 3] = [("real", true), ("holdout", false), ("synthetic", true)];

/// Classes of torchvision's Inception-v3, which has the tensors of ours and was trained otherwise.
const IMAGENET_CLASSES: usize = 1000;

/// Loads Inception-v3 from a safetensors file with the names of pytorch-fid and torch-fidelity, in `f16`, `bf16`, `f32` or `f64`.
/// Their classifier (`fc`) may be there and is not used. The network's convolutions multiply in `precision`.
///
/// # Errors
/// [`Error::Io`], or [`Error::Supplied`] naming the first tensor that is missing or has another shape, or if the weights are
/// those of torchvision's network for ImageNet, whose features are not the ones that the Fréchet Inception distance compares.
pub fn load_inception(path: &Path, device: &Device, precision: Precision) -> Result<Inception> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let file = open(path, &bytes)?;
    let mut tensors = HashMap::new();
    for (name, view) in file.iter() {
        if name == "fc.bias" && view.shape() == [IMAGENET_CLASSES] {
            let reason = "these are weights for ImageNet's 1000 classes, such as torchvision's; expected those of the network \
                 of 2015 by which the Fréchet Inception distance is defined, as pytorch-fid and torch-fidelity publish them";
            return Err(supplied(path, reason));
        }
        if !name.starts_with("fc.") && !name.ends_with("num_batches_tracked") {
            tensors.insert(name.to_owned(), view.load(device).map_err(|e| supplied(path, format!("{name}: {e}")))?);
        }
    }
    Inception::new(precision, VarBuilder::from_tensors(tensors, DType::F32, device)).map_err(|e| {
        supplied(path, format!("not the weights of Inception-v3 under the names that pytorch-fid gives them: {e}"))
    })
}

/// Reads features that another program computed: a safetensors file with matrices `real`, `synthetic` and, where there are images
/// of patients that the generator never saw, `holdout`, one row an image, in `f16`, `f32` or `f64`. Numbers that are not finite are
/// let through.
///
/// # Errors
/// [`Error::Io`], or [`Error::Supplied`] for a set that is missing or unknown, is no matrix, is empty or of another type, or has
/// another number of columns than `real`.
pub fn read_feature_file(path: &Path) -> Result<BTreeMap<String, FeatureMatrix>> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let file = open(path, &bytes)?;
    let views: BTreeMap<&str, TensorView> = file.iter().collect();
    let message = |what: &str, name: &str| {
        supplied(path, format!("{what} {name}: expected tensors real, synthetic and, if there is one, holdout"))
    };
    if let Some((missing, _)) = SETS.iter().find(|(name, required)| *required && !views.contains_key(name)) {
        return Err(message("there is no tensor", missing));
    }
    if let Some(unknown) = views.keys().find(|name| !SETS.iter().any(|(known, _)| known == *name)) {
        return Err(message("unknown tensor", unknown));
    }
    let mut sets = BTreeMap::new();
    for (name, view) in views {
        let refused = |reason| Err(supplied(path, format!("{name} {reason}")));
        let &[rows, dims] = view.shape() else {
            return refused(format!("has shape {:?}: expected a matrix, one row an image", view.shape()));
        };
        if rows == 0 || dims == 0 {
            return refused(format!("has shape {:?}: it is empty", view.shape()));
        }
        if !matches!(view.dtype(), Dtype::F16 | Dtype::F32 | Dtype::F64) {
            return refused(format!("is of type {:?}: expected F16, F32 or F64", view.dtype()));
        }
        let values = view.load(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        sets.insert(name.to_owned(), FeatureMatrix { values, dims });
    }
    let dims = sets["real"].dims;
    match sets.iter().find(|(_, set)| set.dims != dims) {
        Some((name, set)) => {
            Err(supplied(path, format!("{name} has {} columns and real has {dims}: expected as many", set.dims)))
        }
        None => Ok(sets),
    }
}

fn open<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>> {
    SafeTensors::deserialize(bytes).map_err(|e| supplied(path, format!("no whole safetensors file: {e}")))
}

fn supplied(path: &Path, reason: impl Into<String>) -> Error {
    Error::Supplied { path: path.to_path_buf(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Shape, Tensor};

    fn tensor(shape: impl Into<Shape>, dtype: DType) -> Tensor {
        let shape: Shape = shape.into();
        let values = (0..shape.elem_count()).map(|i| i as f32 / 4.);
        Tensor::from_iter(values, &Device::Cpu).and_then(|t| t.to_dtype(dtype)?.reshape(shape)).unwrap()
    }

    fn read(tensors: &[(&str, Tensor)]) -> Result<BTreeMap<String, FeatureMatrix>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features.safetensors");
        let tensors: HashMap<&str, Tensor> = tensors.iter().cloned().collect();
        candle_core::safetensors::save(&tensors, &path).unwrap();
        read_feature_file(&path)
    }

    #[test]
    fn three_types_are_read() {
        let sets = read(&[
            ("real", tensor((3, 2), DType::F32)),
            ("holdout", tensor((1, 2), DType::F64)),
            ("synthetic", tensor((2, 2), DType::F16)),
        ])
        .unwrap();
        assert_eq!(sets.keys().collect::<Vec<_>>(), ["holdout", "real", "synthetic"]);
        assert_eq!(sets["real"].row(2), [1., 1.25]);
        assert_eq!(sets["holdout"], FeatureMatrix { values: vec![0., 0.25], dims: 2 });
        assert_eq!(sets["synthetic"].values, [0., 0.25, 0.5, 0.75]);
        assert_eq!(
            read(&[("real", tensor((1, 2), DType::F32)), ("synthetic", tensor((1, 2), DType::F32))]).unwrap().len(),
            2
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let real = || ("real", tensor((3, 2), DType::F32));
        let with = |name: &'static str, tensor: Tensor| read(&[real(), (name, tensor)]).unwrap_err().to_string();
        for (error, expected) in [
            (read(&[real()]).unwrap_err().to_string(), "there is no tensor synthetic"),
            (with("synthetic", tensor(6, DType::F32)), "synthetic has shape [6]"),
            (with("synthetic", tensor((0, 2), DType::F32)), "synthetic has shape [0, 2]"),
            (with("synthetic", tensor((3, 2), DType::U32)), "synthetic is of type U32"),
            (with("synthetic", tensor((2, 3), DType::F32)), "synthetic has 3 columns and real has 2"),
        ] {
            assert!(error.contains(expected) && error.contains("features.safetensors"), "{error}");
        }
        let sets = [real(), ("synthetic", tensor((1, 2), DType::F32)), ("hold_out", tensor((1, 2), DType::F32))];
        assert!(read(&sets).unwrap_err().to_string().contains("unknown tensor hold_out"));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.safetensors");
        assert!(matches!(read_feature_file(&path), Err(Error::Io { .. })));
        fs::write(&path, b"x").unwrap();
        assert!(read_feature_file(&path).unwrap_err().to_string().contains("no whole safetensors file"));
        assert!(matches!(load_inception(&path, &Device::Cpu, Precision::F32), Err(Error::Supplied { .. })));
    }
}
