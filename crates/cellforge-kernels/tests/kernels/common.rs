//! Comparison of an operation with a reference written as plain loops in `f64`.

use candle_core::{Device, Result, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

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

/// Fails unless all elements agree to `tolerance` relative to the largest.
pub fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: number of elements");
    let scale = want.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(g) - w).abs() <= tolerance * scale, "{what}: element {i} is {g}, expected {w}");
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
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let mut points: Vec<Vec<f64>> = tensors.iter().map(|t| values(t).into_iter().map(f64::from).collect()).collect();
    let ys = op(&tensors).expect("the operation takes these shapes");
    assert_close("output", &values(&ys), &reference(&points), 1e-5);

    let weights = random(99, ys.elem_count());
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
        assert_close(&format!("gradient of variable {v}"), &got, &want, 5e-5);
    }
}
