//! Comparison of an operation with a reference written as plain loops in `f64`.

use candle_core::{Device, Result, Tensor, Var};
use cellforge_kernels::{Precision, to_precision};
use half::bf16;
use proptest::prelude::ProptestConfig;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// So many random cases of a property, or as many as `PROPTEST_CASES` says.
pub fn cases(cases: u32) -> ProptestConfig {
    let given = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { given.cases } else { cases };
    ProptestConfig { cases, failure_persistence: None, ..given }
}

/// Where operations are tested: on the CPU, or with the feature `cuda` and `CELLFORGE_TEST_GPU=1` on an NVIDIA GPU.
pub fn device() -> Device {
    #[cfg(feature = "cuda")]
    if std::env::var_os("CELLFORGE_TEST_GPU").is_some() {
        static GPU: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
        return GPU
            .get_or_init(|| cellforge_kernels::cuda_device(0).expect("CELLFORGE_TEST_GPU asks for a GPU"))
            .clone();
    }
    Device::Cpu
}

/// Whether operations are tested on a GPU. What is of the CPU alone is left out then.
pub fn on_gpu() -> bool {
    !device().is_cpu()
}

/// Values in (-1, 1) that depend on the seed alone.
pub fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1f32..1.)).collect()
}

/// A variable of random values.
pub fn variable(seed: u64, dims: &[usize]) -> Var {
    let values = random(seed, dims.iter().product());
    Var::from_vec(values, dims, &device()).expect("the number of values fits the shape")
}

/// A variable of random values between a half and 1.5 in size, of either sign.
pub fn off_zero(seed: u64, dims: &[usize]) -> Var {
    let values = random(seed, dims.iter().product()).into_iter().map(|x| x + 0.5f32.copysign(x)).collect::<Vec<_>>();
    Var::from_vec(values, dims, &device()).expect("the number of values fits the shape")
}

pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|t| t.to_vec1()).expect("a tensor of f32")
}

/// Numbers rounded to `bf16`.
pub fn rounded(xs: &[f32]) -> Vec<f32> {
    xs.iter().map(|&x| bf16::from_f32(x).to_f32()).collect()
}

/// Fails unless all elements agree to `tolerance` relative to the largest.
pub fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_near(what, got, want, tolerance, 0.);
}

/// As [`assert_close`], of elements that may besides be off by a share of their own.
pub fn assert_near(what: &str, got: &[f32], want: &[f64], tolerance: f64, share: f64) {
    assert_eq!(got.len(), want.len(), "{what}: number of elements");
    let scale = want.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let most = tolerance * scale + share * w.abs();
        assert!((f64::from(g) - w).abs() <= most, "{what}: element {i} is {g}, expected {w}");
    }
}

/// Compares the values of `op` with those of `reference`, and the gradient of a random weighting of its outputs
/// with the central differences of the reference, by every variable (at about 40 elements of each).
pub fn check(vars: &[Var], op: impl Fn(&[Tensor]) -> Result<Tensor>, reference: impl Fn(&[Vec<f64>]) -> Vec<f64>) {
    check_at(40, vars, op, reference);
}

/// As [`check`], at about this many elements of each variable.
pub fn check_at(
    samples: usize,
    vars: &[Var],
    op: impl Fn(&[Tensor]) -> Result<Tensor>,
    reference: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    check_in(samples, 0, vars, op, reference);
}

/// As [`check_at`], with the first `images` variables given to the operation in `bf16`. They are of such numbers to begin with, and so is the
/// weighting: what differs from the reference is the rounding of each result, and of each gradient by an image.
pub fn check_in_bf16(
    samples: usize,
    images: usize,
    vars: &[Var],
    op: impl Fn(&[Tensor]) -> Result<Tensor>,
    reference: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    // On a GPU all is `f32` in memory.
    if on_gpu() {
        return;
    }
    let of = |(i, var): (usize, &Var)| match i < images {
        true => Var::from_vec(rounded(&values(var)), var.shape(), &device()).expect("as many values"),
        false => var.clone(),
    };
    let vars: Vec<Var> = vars.iter().enumerate().map(of).collect();
    let op = |tensors: &[Tensor]| {
        let of = |(i, tensor): (usize, &Tensor)| match i < images {
            true => to_precision(tensor, Precision::EmulatedBf16),
            false => Ok(tensor.clone()),
        };
        let tensors = tensors.iter().enumerate().map(of).collect::<Result<Vec<_>>>()?;
        to_precision(&op(&tensors)?, Precision::F32)
    };
    check_in(samples, images, &vars, op, reference);
}

fn check_in(
    samples: usize,
    images: usize,
    vars: &[Var],
    op: impl Fn(&[Tensor]) -> Result<Tensor>,
    reference: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    // Beside 1, the next `bf16` is 1 + 1/128: a number is at most half of this share away from one.
    let share = |is_rounded: bool| if is_rounded { 1. / 256. } else { 0. };
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let mut points: Vec<Vec<f64>> = tensors.iter().map(|t| values(t).into_iter().map(f64::from).collect()).collect();
    let ys = op(&tensors).expect("the operation takes these shapes");
    assert_near("output", &values(&ys), &reference(&points), 1e-5, share(images > 0));

    let weights = random(99, ys.elem_count());
    let weights = if images > 0 { rounded(&weights) } else { weights };
    let weighting = Tensor::from_vec(weights.clone(), ys.shape(), &device()).expect("same shape");
    let loss = ys.mul(&weighting).and_then(|t| t.sum_all()).expect("same shape");
    let grads = loss.backward().expect("the operation has a gradient");
    let weighted =
        |points: &[Vec<f64>]| -> f64 { reference(points).iter().zip(&weights).map(|(y, &w)| y * f64::from(w)).sum() };
    for (v, tensor) in tensors.iter().enumerate() {
        let grad = values(grads.get(tensor).expect("every variable has a gradient"));
        let step = (grad.len() / samples).max(1);
        let (mut got, mut want) = (Vec::new(), Vec::new());
        for i in (0..grad.len()).step_by(step) {
            const H: f64 = 1e-5;
            let at = points[v][i];
            points[v][i] = at + H;
            let above = weighted(&points);
            points[v][i] = at - H;
            let below = weighted(&points);
            points[v][i] = at;
            want.push((above - below) / (2. * H));
            got.push(grad[i]);
        }
        assert_near(&format!("gradient of variable {v}"), &got, &want, 5e-5, share(v < images));
    }
}
