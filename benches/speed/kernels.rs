//! Each operation of `cellforge-kernels` at a shape of the study's networks, beside Candle's own.

use std::hint::black_box;
use std::time::Duration;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{BatchNorm, ModuleT, Optimizer};
use cellforge::kernels::{self as ops, AdamStep, AdamUpdate, Conv2dConfig, Padding, Precision, SgdStep, SgdUpdate};
use cellforge::nn::Key;
use criterion::Criterion;

/// Candle takes seconds for some gradients of a whole batch.
const BATCH: usize = 8;

fn variable(name: &str, dims: &[usize]) -> Var {
    let values = Key::new(0).with(name).normal(dims, &Device::Cpu).expect("noise");
    Var::from_tensor(&values).expect("a variable")
}

/// Values and gradients by every variable: of the sum of `op`'s result, by our tape and by Candle's graph.
fn pair(c: &mut Criterion, id: &str, ours: impl Fn() -> Result<Tensor>, candles: impl Fn() -> Result<Tensor>) {
    // A sum whose gradient is the same for both, and cheap.
    let loss = |ys: Tensor| {
        let n = ys.elem_count();
        let ones = Tensor::ones((1, n), DType::F32, &Device::Cpu)?;
        ops::reshape(&ops::linear(&ops::reshape(&ys, &[1, n])?, &ones, None, Precision::F32)?, &[])
    };
    bench(c, &format!("{id}/ours"), || ops::gradients(|| loss(ours()?)).map(|(_, grads)| grads));
    bench(c, &format!("{id}/candle"), || candles()?.sum_all()?.backward());
}

fn bench(c: &mut Criterion, id: &str, f: impl Fn() -> Result<GradStore>) {
    let mut group = c.benchmark_group("kernel");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.bench_function(id, |bencher| bencher.iter(|| black_box(f().expect("it runs"))));
    group.finish();
}

/// Convolutions: of the residual network, of the discriminator and of the generator.
pub fn convolutions(c: &mut Criterion) {
    for (id, [channels, side, out], k, stride) in [
        ("conv2d 3x3 64x16x16 to 64", [64, 16, 64], 3, 1),
        ("conv2d 1x1 256x16x16 to 64", [256, 16, 64], 1, 1),
        ("conv2d 3x3/2 64x17x17 to 128", [64, 17, 128], 3, 2),
        ("conv2d 5x5 3x64x64 to 64", [3, 64, 64], 5, 1),
    ] {
        let (xs, weight) = (variable("xs", &[BATCH, channels, side, side]), variable("weight", &[out, channels, k, k]));
        let cfg = Conv2dConfig::new(stride, Padding::uniform(k / 2));
        pair(c, id, || ops::conv2d(&xs, &weight, None, &cfg), || xs.conv2d(&weight, k / 2, stride, 1, 1));
    }
    let (xs, weight) = (variable("xs", &[BATCH, 256, 16, 16]), variable("weight", &[128, 256, 3, 3]));
    pair(
        c,
        "upsample2x_conv2d 256x16x16 to 128",
        || ops::upsample2x_conv2d(&xs, &weight, None, Precision::F32),
        || xs.upsample_nearest2d(32, 32)?.conv2d(&weight, 1, 1, 1, 1),
    );
    let (xs, weight) = (variable("xs", &[BATCH, 2304]), variable("weight", &[64, 2304]));
    pair(c, "linear 2304 to 64", || ops::linear(&xs, &weight, None, Precision::F32), || xs.matmul(&weight.t()?));
}

/// Batch norm with its activation, pooling, activations.
pub fn passes(c: &mut Criterion) {
    let xs = variable("xs", &[BATCH, 64, 64, 64]);
    let (gamma, beta) = (variable("gamma", &[64]), variable("beta", &[64]));
    let norm = BatchNorm::new(
        64,
        Tensor::zeros(64, DType::F32, &Device::Cpu).expect("zeros"),
        gamma.as_tensor().ones_like().expect("ones"),
        gamma.as_tensor().clone(),
        beta.as_tensor().clone(),
        1e-5,
    )
    .expect("a layer");
    pair(
        c,
        "batch_norm and relu 64x64x64",
        || Ok(ops::batch_norm_leaky_relu_train(&xs, &gamma, &beta, 1e-5, 0., None)?.0),
        || norm.forward_t(&xs, true)?.relu(),
    );
    pair(c, "max_pool2d 2 64x64x64", || ops::max_pool2d(&xs, 2, 2, 0), || xs.max_pool2d(2));
    pair(c, "avg_pool2d_global 64x64x64", || ops::avg_pool2d_global(&xs), || xs.mean((2, 3)));
    pair(c, "leaky_relu 64x64x64", || ops::leaky_relu(&xs, 0.2), || candle_nn::ops::leaky_relu(&xs, 0.2));
    pair(c, "tanh 64x64x64", || ops::tanh(&xs), || xs.tanh());
    let small = variable("xs", &[BATCH, 64, 32, 32]);
    pair(c, "upsample_nearest2x 64x32x32", || ops::upsample_nearest2x(&small), || small.upsample_nearest2d(64, 64));
}

/// Losses and optimizer updates.
pub fn updates(c: &mut Criterion) {
    let (logits, targets) = (variable("logits", &[32, 2]), Tensor::zeros(32, DType::U32, &Device::Cpu).expect("zeros"));
    bench(c, "cross_entropy 32x2/ours", || Ok(ops::gradients(|| ops::cross_entropy(&logits, &targets))?.1));
    bench(c, "cross_entropy 32x2/candle", || candle_nn::loss::cross_entropy(&logits, &targets)?.backward());
    let (logits, ones) = (variable("logits", &[32, 1]), Tensor::ones((32, 1), DType::F32, &Device::Cpu).expect("ones"));
    bench(c, "bce_with_logits 32/ours", || Ok(ops::gradients(|| ops::bce_with_logits(&logits, 1.))?.1));
    bench(c, "bce_with_logits 32/candle", || {
        candle_nn::loss::binary_cross_entropy_with_logit(&logits, &ones)?.backward()
    });

    let dims = [256, 256, 3, 3];
    let (param, grad) = (variable("param", &dims), variable("grad", &dims));
    let (m, v) = (variable("m", &dims), Var::from_tensor(&param.sqr().expect("squares")).expect("a variable"));
    let grads = param
        .as_tensor()
        .mul(grad.as_detached_tensor().as_ref())
        .and_then(|t| t.sum_all()?.backward())
        .expect("a gradient");
    let empty = || Tensor::zeros((), DType::F32, &Device::Cpu)?.backward();
    let adam = AdamStep { lr: 1e-4, beta1: 0.5, beta2: 0.999, eps: 1e-7, step: 10 };
    bench(c, "adam 590k/ours", || {
        ops::adam_update(&[AdamUpdate { param: &param, grad: &grad, m: &m, v: &v }], &adam).and_then(|()| empty())
    });
    let theirs = std::cell::RefCell::new(candle_nn::AdamW::new_lr(vec![param.clone()], 1e-4).expect("an optimizer"));
    bench(c, "adam 590k/candle", || theirs.borrow_mut().step(&grads).and_then(|()| empty()));
    let sgd = SgdStep { lr: 1e-4, momentum: 0., nesterov: false };
    bench(c, "sgd 590k/ours", || {
        ops::sgd_update(&[SgdUpdate { param: &param, grad: &grad, velocity: &m, l2: 0. }], &sgd).and_then(|()| empty())
    });
    let theirs = std::cell::RefCell::new(candle_nn::SGD::new(vec![param.clone()], 1e-4).expect("an optimizer"));
    bench(c, "sgd 590k/candle", || theirs.borrow_mut().step(&grads).and_then(|()| empty()));
}
