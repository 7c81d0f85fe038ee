//! The gradient of a discriminator's answers by its images, its squared norm, and that norm's gradient by the parameters.

use crate::distance::distance;
use crate::tape::assert_same_gradients;
use candle_core::{Device, Result, Tensor, Var};
use cellforge_gan::{Discriminator, DiscriminatorKind, GanConfig, GeneratorKind, InputGradient};
use cellforge_nn::{Key, ParamStore, Precision, gradients, one_hot};

/// A small network with what is asked of it, and the same with constant parameters.
struct Network {
    store: ParamStore,
    live: Discriminator,
    frozen: Discriminator,
    images: Tensor,
    classes: Option<Tensor>,
}

/// The four networks of one or two classes, with and without spectral normalisation, whose parameters are random, biases included, and
/// whose singular vectors have had their steps.
fn networks() -> Result<Vec<Network>> {
    networks_in(Precision::F32)
}

/// As [`networks`], in this precision.
fn networks_in(precision: Precision) -> Result<Vec<Network>> {
    let mut all = Vec::new();
    for (classes, spectral_norm, channels) in [(1, false, 3), (2, false, 1), (1, true, 1), (2, true, 3)] {
        let cfg = GanConfig {
            image_size: 32.into(),
            channels,
            generator: GeneratorKind::Style,
            discriminator: DiscriminatorKind::Residual,
            classes,
            spectral_norm,
            discriminator_filters: Some(vec![8; 4]),
            precision,
            ..Default::default()
        };
        let store = ParamStore::new(Key::new(1), &Device::Cpu);
        let live = Discriminator::new(&cfg, store.vb())?;
        let frozen = Discriminator::new(&cfg, store.frozen_vb())?;
        for (name, var) in store.trainable() {
            let noise = Key::new(2).with(&name).normal(var.shape(), &Device::Cpu)?;
            var.set(&(var.as_detached_tensor() + (noise * 0.05)?)?)?;
        }
        let images = Key::new(3).uniform(-1.0, 1.0, (3, channels, 32, 32), &Device::Cpu)?;
        let classes = (classes > 1).then(|| one_hot(&[0, 1, 1], 2, &Device::Cpu)).transpose()?;
        for step in 0..5 {
            live.forward_class_t(&images, classes.as_ref(), true, &Key::new(step))?;
        }
        all.push(Network { store, live, frozen, images, classes });
    }
    Ok(all)
}

impl Network {
    fn input_gradient(&self) -> Result<InputGradient> {
        self.frozen.input_gradient(&self.images, self.classes.as_ref())
    }

    /// The mean over the images of the squared gradient, computed from the gradient itself.
    fn squared(&self) -> Result<f64> {
        let squares: f64 = values(self.input_gradient()?.values())?.iter().map(|g| f64::from(*g).powi(2)).sum();
        Ok(squares / self.images.dim(0)? as f64)
    }

    /// The gradient of `gradient_penalty` by each of the weights, and by the biases none.
    fn gradients(&self) -> Result<Vec<(String, Var, Vec<f32>)>> {
        let gradient = self.input_gradient()?;
        let (_, grads) = gradients(|| self.live.gradient_penalty(&gradient, self.classes.as_ref()))?;
        let (biases, weights): (Vec<_>, Vec<_>) =
            self.store.trainable().into_iter().partition(|(name, _)| name.ends_with("bias"));
        for (name, bias) in &biases {
            assert!(grads.get(bias).is_none(), "{name} has a gradient");
        }
        assert!(!biases.is_empty() && weights.iter().all(|(name, _)| name.ends_with("weight")));
        let of = |(name, var): (String, Var)| {
            let grad = grads.get(&var).unwrap_or_else(|| panic!("{name} has no gradient"));
            let grad = values(grad)?;
            Ok((name, var, grad))
        };
        weights.into_iter().map(of).collect()
    }
}

fn values(xs: &Tensor) -> Result<Vec<f32>> {
    xs.contiguous()?.flatten_all()?.to_vec1()
}

#[test]
fn the_value_is_the_mean_squared_gradient() -> Result<()> {
    for network in networks()? {
        let gradient = network.input_gradient()?;
        assert_eq!(gradient.values().dims(), network.images.dims());
        let value = network.live.gradient_penalty(&gradient, network.classes.as_ref())?;
        assert!(value.dims().is_empty());
        let (value, want) = (f64::from(value.to_scalar::<f32>()?), network.squared()?);
        assert!(want > 1e-6 && (value / want - 1.0).abs() < 1e-4, "{value}, expected {want}");
    }
    Ok(())
}

/// Central differences of each image's logit by some of its pixels. A few of the leaky ReLUs change their side on the way, which is
/// why the vector as a whole is compared.
#[test]
fn the_direction_is_the_gradient_of_the_logits() -> Result<()> {
    const H: f32 = 4e-3;
    for network in networks()? {
        let direction = values(network.input_gradient()?.values())?;
        let base = values(&network.images)?;
        let image_len = base.len() / 3;
        let logits = |pixels: Vec<f32>| -> Result<Vec<f32>> {
            let xs = Tensor::from_vec(pixels, network.images.shape(), &Device::Cpu)?;
            values(&network.frozen.forward_class_t(&xs, network.classes.as_ref(), false, &Key::new(0))?)
        };
        let (mut got, mut want) = (Vec::new(), Vec::new());
        for at in (0..image_len).step_by(37) {
            // A pixel of every image at once: none has a part in the answer on another.
            let moved = |by: f32| {
                logits(base.iter().enumerate().map(|(i, x)| if i % image_len == at { x + by } else { *x }).collect())
            };
            let (above, below) = (moved(H)?, moved(-H)?);
            for image in 0..3 {
                want.push(f64::from(above[image] - below[image]) / f64::from(2.0 * H));
                got.push(f64::from(direction[image * image_len + at]));
            }
        }
        let distance = distance(&got, &want);
        assert!(distance < 0.05, "{distance}");
    }
    Ok(())
}

#[test]
fn the_direction_of_an_image_is_its_own() -> Result<()> {
    for network in networks()? {
        let direction = network.input_gradient()?.values().contiguous()?;
        for i in 0..3 {
            let class = network.classes.as_ref().map(|rows| rows.narrow(0, i, 1)).transpose()?;
            let alone = network.frozen.input_gradient(&network.images.narrow(0, i, 1)?, class.as_ref())?;
            let [got, want] = [alone.values().clone(), direction.narrow(0, i, 1)?].map(|xs| values(&xs));
            let [got, want] = [got?, want?].map(|xs| xs.into_iter().map(f64::from).collect::<Vec<_>>());
            assert!(distance(&got, &want) < 1e-5);
        }
    }
    Ok(())
}

/// Puts every unit far from the kink of its leaky ReLU, each channel on a side of its own: biases grow from layer to layer faster than
/// what comes in. The gradient of the logit, which has no biases in it, is then a polynomial in the weights, so that central differences
/// of its square, which is quadratic in each single weight, are exact at any step.
fn far_from_kinks(store: &ParamStore) -> Result<()> {
    let blocks = (0..3).flat_map(|i| [1, 2].map(|conv| format!("blocks.{i}.conv{conv}")));
    let order: Vec<String> = ["stem".into()].into_iter().chain(blocks).chain(["conv".into(), "fc".into()]).collect();
    for (name, var) in store.trainable().into_iter().filter(|(name, _)| name.ends_with("bias") && name != "head.bias") {
        let depth = order.iter().position(|layer| name == format!("{layer}.bias")).unwrap_or_else(|| panic!("{name}"));
        let sides = values(&Key::new(7).with(&name).normal(var.shape(), &Device::Cpu)?)?;
        let far: Vec<f32> = sides.into_iter().map(|side| 30f32.powi(depth as i32 + 1).copysign(side)).collect();
        var.set(&Tensor::from_vec(far, var.shape(), &Device::Cpu)?)?;
    }
    Ok(())
}

#[test]
fn its_gradient_is_that_of_central_differences() -> Result<()> {
    for (i, network) in networks()?.into_iter().enumerate() {
        far_from_kinks(&network.store)?;
        for (name, var, grad) in network.gradients()? {
            let base = values(&var)?;
            // Normalised weights are divided by a function of them, which is not a polynomial: a tenth of their size is near enough.
            let step = 0.1 * (base.iter().map(|w| w * w).sum::<f32>() / base.len() as f32).sqrt();
            let moved = |at: usize, by: f32| -> Result<f64> {
                let mut values = base.clone();
                values[at] += by;
                var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)?;
                network.squared()
            };
            let (mut got, mut want) = (Vec::new(), Vec::new());
            for at in (0..base.len()).step_by((base.len() / 9).max(1)) {
                want.push((moved(at, step)? - moved(at, -step)?) / f64::from(2.0 * step));
                got.push(f64::from(grad[at]));
            }
            moved(0, 0.0)?;
            let distance = distance(&got, &want);
            assert!(distance < 5e-3, "network {i}, {name}: off by {distance}: {got:?}, expected {want:?}");
        }
    }
    Ok(())
}

/// Where units lie on either side of their kinks, pixel by pixel. Through a layer that every path takes once, the gradient of the logit
/// is linear in the layer's weights `W`, and its square `Q` quadratic: the sum of `W dQ/dW` is `2 Q` (Euler). Head and classes are
/// such a layer together. Normalised weights do not change as they are scaled, and that sum is 0.
#[test]
fn its_gradient_agrees_with_how_it_grows_with_the_weights() -> Result<()> {
    for (i, network) in networks()?.into_iter().enumerate() {
        let squared = network.squared()?;
        let normed = i >= 2;
        let mut last = 0.0;
        for (name, var, grad) in network.gradients()? {
            let weight = values(&var)?;
            let size = |xs: &[f32]| xs.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let along: f64 = weight.iter().zip(&grad).map(|(w, g)| f64::from(*w) * f64::from(*g)).sum();
            match name.as_str() {
                _ if normed => assert!(along.abs() < 1e-4 * size(&weight) * size(&grad), "{i}, {name}: {along}"),
                "stem.weight" | "conv.weight" | "fc.weight" => {
                    assert!((along / squared / 2.0 - 1.0).abs() < 1e-4, "{i}, {name}: {along} of {squared}");
                }
                "head.weight" | "class.weight" => last += along,
                _ => assert!(along != 0.0, "{i}, {name}"),
            }
        }
        assert!(normed || (last / squared / 2.0 - 1.0).abs() < 1e-4, "{i}: {last} of {squared}");
    }
    Ok(())
}

#[test]
fn its_gradient_on_the_tape_is_that_of_candles_graph() -> Result<()> {
    for network in networks()? {
        let gradient = network.input_gradient()?;
        let mut weights = network.store.trainable();
        weights.retain(|(name, _)| name.ends_with("weight"));
        assert_same_gradients(&weights, || network.live.gradient_penalty(&gradient, network.classes.as_ref()))?;
    }
    Ok(())
}

/// Asking for the gradient moves nothing, and it is of the network as it is at inference.
#[test]
fn an_input_gradient_leaves_the_network_as_it_was() -> Result<()> {
    for network in networks()? {
        let before = network.store.tensors();
        let first = values(network.input_gradient()?.values())?;
        assert_eq!(first, values(network.input_gradient()?.values())?);
        for (name, tensor) in network.store.tensors() {
            assert_eq!(values(&tensor)?, values(&before[&name])?, "{name}");
        }
    }
    Ok(())
}

#[test]
fn the_studys_discriminator_has_no_input_gradient() -> Result<()> {
    let cfg = GanConfig { image_size: 32.into(), width: 0.125, ..Default::default() };
    let study = Discriminator::new(&cfg, ParamStore::new(Key::new(1), &Device::Cpu).frozen_vb())?;
    let network = networks()?.swap_remove(0);
    let errors = [
        study.input_gradient(&network.images, None).map(drop),
        study.gradient_penalty(&network.input_gradient()?, None).map(drop),
    ];
    for error in errors {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("the study's discriminator has no penalty on its gradient"), "{error}");
        assert!(error.contains("take discriminator \"residual\""), "{error}");
    }
    let error =
        network.frozen.input_gradient(&Tensor::zeros((1, 1, 32, 32), candle_core::DType::F32, &Device::Cpu)?, None);
    assert!(error.unwrap_err().to_string().contains("(batch, 3, 32, 32)"));
    let classes = one_hot(&[0, 1, 1], 2, &Device::Cpu)?;
    let error = network.live.gradient_penalty(&network.input_gradient()?, Some(&classes)).unwrap_err().to_string();
    assert!(error.contains("the discriminator knows of no classes"), "{error}");
    Ok(())
}

/// The penalty and its gradient in `bf16` are near those in `f32`: the ten layers that its three passes have each round by half of 1/256 in the
/// root mean square, and kinks turn the slope of those numbers that rounding moves past them.
#[test]
fn the_penalty_in_bf16_is_near_that_in_f32() -> Result<()> {
    let all_of = |network: &Network| -> Result<(f64, Vec<f32>)> {
        let gradients = network.gradients()?.into_iter().flat_map(|(_, _, values)| values).collect();
        Ok((network.squared()?, gradients))
    };
    for (single, lower) in networks()?.iter().zip(&networks_in(Precision::EmulatedBf16)?) {
        let ((want, want_grads), (got, got_grads)) = (all_of(single)?, all_of(lower)?);
        let distance = distance(&got_grads, &want_grads);
        assert!((got - want).abs() < 0.1 * want && distance > 0. && distance < 0.3, "{got}, {want}, {distance}");
    }
    Ok(())
}
