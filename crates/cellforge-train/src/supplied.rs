//! Files that the user brings along: weights of Inception-v3 and of DINOv2, and features that another program computed.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use cellforge_classify::{DinoV2, DinoV2Config, Inception};
use cellforge_data::read_bounded;
use cellforge_nn::Precision;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::checkpoint::not_finite;
use crate::{Error, FeatureMatrix, Result, torch_file};

/// The sets of a feature file, and whether each must be there.
const SETS: [(&str, bool); 3] = [("real", true), ("holdout", false), ("synthetic", true)];

/// Classes of torchvision's Inception-v3, which has the tensors of ours and was trained otherwise.
const IMAGENET_CLASSES: usize = 1000;

/// The most bytes of a file of weights, 4 GiB.
pub(crate) const MAX_WEIGHTS: u64 = 4 << 30;
/// The same of features, 64 GiB.
const MAX_FEATURES: u64 = 64 << 30;

/// Loads Inception-v3 from a file of weights with the names of pytorch-fid and torch-fidelity: the `.pth` that these programs download,
/// or a safetensors file. Their classifier (`fc`) may be there and is not used. The network's convolutions multiply in `precision`.
///
/// # Errors
/// [`Error::Io`], or [`Error::Supplied`] for a file of another kind, one that names the first tensor that is missing or has another
/// shape, or if the weights are those of torchvision's network for ImageNet, whose features are not the ones that the Fréchet
/// Inception distance compares.
pub fn load_inception(path: &Path, device: &Device, precision: Precision) -> Result<Inception> {
    let tensors = read_weights(path)?;
    if tensors.get("fc.bias").is_some_and(|bias| bias.dims() == [IMAGENET_CLASSES]) {
        let reason = "these are weights for ImageNet's 1000 classes, such as torchvision's; expected those of the network \
             of 2015 by which the Fréchet Inception distance is defined, as pytorch-fid and torch-fidelity publish them";
        return Err(supplied(path, reason));
    }
    Inception::new(precision, VarBuilder::from_tensors(tensors, DType::F32, device)).map_err(|e| {
        supplied(path, format!("not the weights of Inception-v3 under the names that pytorch-fid gives them: {e}"))
    })
}

/// Loads DINOv2 from a file of weights, a safetensors file or one of `torch.save` (`.pth`, `.bin`), under Hugging Face's names or those
/// of the authors. Its sizes are read from the shapes of the tensors: ViT-S/14, ViT-B/14 and ViT-L/14, with or without register tokens.
///
/// # Errors
/// [`Error::Io`], or [`Error::Supplied`] for a file of another kind, or one that names the first tensor that is missing or has another
/// shape.
pub fn load_dinov2(path: &Path, device: &Device) -> Result<DinoV2> {
    let tensors = read_weights(path)?;
    let network = || -> candle_core::Result<DinoV2> {
        let tensors = published_names(tensors)?;
        let cfg = DinoV2Config::from_shapes(|name| tensors.get(name).map(|tensor| tensor.dims().to_vec()))?;
        DinoV2::new(&cfg, VarBuilder::from_tensors(tensors, DType::F32, device))
    };
    network().map_err(|e| {
        let names =
            "under the names that Hugging Face (embeddings.cls_token, ...) or its authors (cls_token, ...) give them";
        supplied(path, format!("not the weights of a DINOv2 {names}: {e}"))
    })
}

/// The tensors of a DINOv2 under the names of Hugging Face's published files: those of its authors' own files
/// (`dinov2_vits14_pretrain.pth`), and those that version 5 of transformers gives them in memory, are renamed.
fn published_names(tensors: HashMap<String, Tensor>) -> candle_core::Result<HashMap<String, Tensor>> {
    let mut renamed = HashMap::new();
    for (name, tensor) in tensors {
        let name = match name.as_str() {
            "cls_token" | "mask_token" | "register_tokens" => format!("embeddings.{name}"),
            "pos_embed" => "embeddings.position_embeddings".to_owned(),
            _ => name
                .replace("patch_embed.proj.", "embeddings.patch_embeddings.projection.")
                .replace("blocks.", "encoder.layer.")
                .replace(".attn.proj.", ".attention.output.dense.")
                .replace(".attention.o_proj.", ".attention.output.dense.")
                .replace(".attention.q_proj.", ".attention.attention.query.")
                .replace(".attention.k_proj.", ".attention.attention.key.")
                .replace(".attention.v_proj.", ".attention.attention.value.")
                .replace(".ls1.gamma", ".layer_scale1.lambda1")
                .replace(".ls2.gamma", ".layer_scale2.lambda1"),
        };
        if let Some((layer, part)) = name.split_once(".attn.qkv.") {
            for (part_of, third) in ["query", "key", "value"].into_iter().zip(tensor.chunk(3, 0)?) {
                renamed.insert(format!("{layer}.attention.attention.{part_of}.{part}"), third);
            }
        } else if let Some(part) = name.strip_prefix("norm.") {
            renamed.insert(format!("layernorm.{part}"), tensor);
        } else {
            renamed.insert(name, tensor);
        }
    }
    Ok(renamed)
}

/// The floating-point tensors of a file, as `f32`.
pub(crate) fn read_weights(path: &Path) -> Result<HashMap<String, Tensor>> {
    let bytes = read_bounded(path, MAX_WEIGHTS).map_err(Error::io(path))?;
    if torch_file::is_torch_file(&bytes) {
        let tensors = torch_file::read(&bytes).map_err(|reason| supplied(path, reason))?;
        return finite(path, tensors.into_iter().collect());
    }
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|e| supplied(path, format!("neither a whole safetensors file ({e}) nor a file of torch.save")))?;
    let mut tensors = HashMap::new();
    for (name, view) in file.iter() {
        if matches!(view.dtype(), Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64) {
            let tensor = view.load(&Device::Cpu).and_then(|tensor| tensor.to_dtype(DType::F32));
            tensors.insert(name.to_owned(), tensor.map_err(|e| supplied(path, format!("{name}: {e}")))?);
        }
    }
    finite(path, tensors)
}

/// These tensors, if all their numbers are finite.
fn finite(path: &Path, tensors: HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>> {
    for (name, tensor) in &tensors {
        if let Some(value) = not_finite(tensor)? {
            return Err(supplied(path, format!("{name} holds {value}, and a network's numbers are finite")));
        }
    }
    Ok(tensors)
}

/// Reads features that another program computed: a safetensors file with matrices `real`, `synthetic` and, where there are images
/// of patients that the generator never saw, `holdout`, one row an image, in `f16`, `f32` or `f64`. Numbers that are not finite are
/// let through.
///
/// # Errors
/// [`Error::Io`], or [`Error::Supplied`] for a set that is missing or unknown, is no matrix, is empty or of another type, or has
/// another number of columns than `real`.
pub fn read_feature_file(path: &Path) -> Result<BTreeMap<String, FeatureMatrix>> {
    let bytes = read_bounded(path, MAX_FEATURES).map_err(Error::io(path))?;
    let file =
        SafeTensors::deserialize(&bytes).map_err(|e| supplied(path, format!("no whole safetensors file: {e}")))?;
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

fn supplied(path: &Path, reason: impl Into<String>) -> Error {
    Error::Supplied { path: path.to_path_buf(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use candle_core::Shape;

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
