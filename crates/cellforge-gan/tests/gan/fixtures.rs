//! Holds a network against what PyTorch computed for the same weights; used by the tests of both model crates.
//!
//! A fixture is a safetensors file as `benches/torch/parity.py` writes it. Its `config` metadata is the network's
//! configuration; a file without is of the study's own network.

use candle_core::safetensors::Load;
use candle_core::{Device, Result, Tensor, Var};
use cellforge_nn::{ParamStore, gradients, ops};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Largest difference that passes, relative to the reference.
const TOLERANCE: f64 = 1e-4;

/// A parameter, an index in it, and what is added there before gradients are compared.
///
/// A ReLU whose input is within rounding of zero has two gradients, and which of them a program takes is chance. The
/// committed fixtures are drawn so that no input is that near. The full-width ones were not, and hold a few: there
/// PyTorch's single precision gradients are up to 11% from its own in double precision. A few millionths added to the
/// bias in front of such a ReLU settle its side to the one PyTorch took, further from zero than rounding reaches, and
/// change everything else by about as much.
pub type Nudge = (&'static str, usize, f32);

pub struct Fixture {
    pub config: serde_json::Value,
    tensors: BTreeMap<String, Tensor>,
    nudges: &'static [Nudge],
}

/// The committed fixture of this network, and the full-width one in the directory that `CELLFORGE_PARITY_DIR` names, if
/// it is set. `nudges` are the latter's.
pub fn fixtures(committed: &Path, network: &str, nudges: &'static [Nudge]) -> Vec<Fixture> {
    let file = format!("{network}.safetensors");
    let full_width = std::env::var_os("CELLFORGE_PARITY_DIR").map(|dir| PathBuf::from(dir).join(&file));
    let full_width = full_width.map(|path| Fixture::read(&path, nudges));
    [Fixture::read(&committed.join(&file), &[])].into_iter().chain(full_width).collect()
}

impl Fixture {
    fn read(path: &Path, nudges: &'static [Nudge]) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a safetensors header");
        let config = header.metadata().as_ref().and_then(|metadata| metadata.get("config"));
        let config = config.map_or("{}", String::as_str);
        let views = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors data");
        let tensors = views.iter().map(|(name, view)| (name.to_string(), view.load(&Device::Cpu).expect(name)));
        Self { config: serde_json::from_str(config).expect("JSON in `config`"), tensors: tensors.collect(), nudges }
    }

    /// Sets the weights and checks outputs, gradients and running statistics. `forward` runs the network of `store` on
    /// an input in training (`true`) or inference mode.
    pub fn check(&self, store: &ParamStore, forward: impl Fn(&Tensor, bool) -> Result<Tensor>) -> Result<()> {
        store.set(&self.under("param/"))?;
        let input = Var::from_tensor(&self.tensors["input"])?;
        close("eval_output", &forward(&input, false)?, &self.tensors["eval_output"])?;
        close("train_output", &forward(&input, true)?, &self.tensors["train_output"])?;
        let after = self.under("stat_after/");
        let stats = store.all().into_iter().filter(|(name, _)| name.contains(".running_"));
        let stats: BTreeMap<String, Var> = stats.collect();
        assert_eq!(stats.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "running statistics");
        stats.iter().try_for_each(|(name, var)| close(name, var, &after[name]))?;

        self.nudge(store)?;
        let upstream = self.tensors["upstream"].flatten_all()?.unsqueeze(0)?;
        // As the ReLUs above show, gradients are held to plain sums' rounding.
        let (_, grads) = ops::with_plain_sums(|| {
            gradients(|| {
                let output = forward(&input, true)?;
                ops::linear(&ops::reshape(&output, upstream.dims())?, &upstream, None, ops::Precision::F32)
            })
        })?;
        close("input_grad", grads.get(&input).expect("a gradient of the input"), &self.tensors["input_grad"])?;
        let (norms, heads) = (self.under("grad_norm/"), self.under("grad_head/"));
        let trainable = store.trainable();
        let names: Vec<&String> = trainable.iter().map(|(name, _)| name).collect();
        assert_eq!(names, norms.keys().collect::<Vec<_>>(), "trainable parameters");
        for (name, var) in &trainable {
            let grad = grads.get(var).unwrap_or_else(|| panic!("{name} has no gradient"));
            let floor = cancellation_floor(name, &norms)?;
            let (norm, expected) = (l2(grad)?, scalar(&norms[name])?);
            assert_close(&format!("gradient norm of {name}"), (norm - expected).abs(), expected.max(floor));
            let head = grad.flatten_all()?.narrow(0, 0, heads[name].elem_count())?;
            let scale = max_abs(&heads[name])?.max(floor);
            assert_close(&format!("gradient of {name}"), max_abs(&(head - &heads[name])?)?, scale);
        }
        Ok(())
    }

    fn nudge(&self, store: &ParamStore) -> Result<()> {
        let vars: BTreeMap<String, Var> = store.trainable().into_iter().collect();
        for &(name, index, by) in self.nudges {
            let mut values = vars[name].to_vec1::<f32>()?;
            values[index] += by;
            vars[name].set(&Tensor::new(values, &Device::Cpu)?)?;
        }
        Ok(())
    }

    /// The tensors whose names start with `prefix`, without it.
    fn under(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let named = self.tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
        named.map(|(name, tensor)| (name.to_string(), tensor.clone())).collect()
    }
}

/// The size below which a gradient is rounding noise. A bias in front of batch norm has no effect, so its true gradient
/// is zero and what both sides compute is what is left of a sum that cancels. Such sums are of the size of the same
/// layer's weight gradient, so a bias is held to 1e-4 of itself or 1e-6 of that, whichever is more. The scale of a batch
/// norm in front of another has next to none; its gradient sums the terms of the shift's, so it is held to 1e-4 of
/// the larger of the two.
fn cancellation_floor(name: &str, norms: &BTreeMap<String, Tensor>) -> Result<f64> {
    let other = |layer: &str, kind: &str| norms.get(&format!("{layer}{kind}")).map(scalar).transpose();
    let floor = match (name.strip_suffix("bias"), name.strip_suffix("weight")) {
        (Some(layer), _) => other(layer, "weight")?.map(|norm| norm * 1e-2),
        (_, Some(layer)) => other(layer, "bias")?,
        _ => None,
    };
    Ok(floor.unwrap_or(0.0))
}

/// Element by element, relative to the largest element of the reference: single values may be arbitrarily near zero
/// where the difference is rounding of terms as large as that.
fn close(what: &str, ours: &Tensor, reference: &Tensor) -> Result<()> {
    assert_eq!(ours.dims(), reference.dims(), "shape of {what}");
    assert_close(what, max_abs(&(ours - reference)?)?, max_abs(reference)?);
    Ok(())
}

fn assert_close(what: &str, difference: f64, scale: f64) {
    let relative = difference / scale.max(f64::MIN_POSITIVE);
    assert!(relative <= TOLERANCE, "{what} differs from PyTorch's by {relative:.2e} of its size {scale:.3e}");
}

fn max_abs(xs: &Tensor) -> Result<f64> {
    Ok(f64::from(xs.flatten_all()?.abs()?.max(0)?.to_scalar::<f32>()?))
}

/// The norm, summed in double precision.
fn l2(xs: &Tensor) -> Result<f64> {
    let values = xs.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt())
}

fn scalar(xs: &Tensor) -> Result<f64> {
    Ok(f64::from(xs.to_scalar::<f32>()?))
}
