use crate::common::{device, on_gpu, values, variable};
use candle_core::{Result, Tensor};
use cellforge_kernels::*;

/// Outputs and gradients of a small network with every kernel in it.
fn run() -> Result<Vec<Vec<f32>>> {
    let vars = [
        variable(1, &[9, 5, 12, 11]),
        variable(2, &[16, 5, 3, 3]),
        variable(3, &[16]),
        variable(4, &[16]),
        variable(5, &[7, 16, 3, 3]),
        variable(6, &[7, 7, 1, 1]),
        variable(7, &[4, 7]),
    ];
    let strided = Conv2dConfig::new(2, Padding::same(12, 11, 3, 2));
    let ys = conv2d(&vars[0], &vars[1], Some(&vars[2]), &strided)?;
    let (ys, stats) = batch_norm_train(&ys, &vars[3], &vars[2], 1e-3)?;
    let ys = upsample2x_conv2d(&leaky_relu(&ys, 0.2)?, &vars[4], None, Precision::F32)?;
    let ys = avg_pool2d(&max_pool2d(&ys, 3, 2, 1)?, 2, 1, 1, true)?;
    let ys = conv2d(&tanh(&ys)?, &vars[5], None, &Conv2dConfig::default())?;
    let logits = linear(&avg_pool2d_global(&relu(&ys)?)?, &vars[6], None, Precision::F32)?;
    let targets = Tensor::new(&[0u32, 1, 2, 3, 0, 1, 2, 3, 0], &device())?;
    let loss = cross_entropy(&logits, &targets)?;
    let grads = loss.backward()?;
    let mut all = vec![values(&loss), values(&logits), values(&stats.var_unbiased)];
    all.extend(vars.iter().map(|var| values(grads.get(var).expect("a variable"))));
    Ok(all)
}

/// The same of a generator with styles and a discriminator with normalised weights.
fn run_styled() -> Result<Vec<Vec<f32>>> {
    let vars = [
        variable(1, &[9, 35, 7, 7]),
        variable(2, &[9, 35]),
        variable(3, &[35]),
        variable(4, &[3, 35, 3, 3]),
        variable(5, &[9, 3]),
        variable(6, &[33, 3, 3, 3]),
        variable(7, &[9, 33]),
    ];
    let xs = modulate(&vars[0], &vars[1], &vars[2], 0.2)?;
    let xs = upsample2x_conv2d(&xs, &vars[3], None, Precision::F32)?;
    let xs = modulate(&xs, &scale(&demodulation(&vars[3], &vars[1])?, 1.4)?, &vars[4], 1.)?;
    let map = |i: u8| ImageMap { turns: i % 4, shift: [i.into(), -1], hole: [3, 3, 4, 5], ..ImageMap::default() };
    let xs = remap(&tanh(&xs)?, &(0..9).map(map).collect::<Vec<_>>())?;
    let weight = spectral_normalised(&vars[5], &variable(8, &[33]), &variable(9, &[27]))?;
    let ys = conv2d(&xs, &weight, None, &Conv2dConfig::default())?;
    let logits = row_dot(&avg_pool2d_global(&leaky_relu_jvp(&ys, &ys, 0.2)?)?, &vars[6])?;
    let loss = add(&hinge(&logits, true)?, &mean(&logits)?)?;
    let grads = loss.backward()?;
    ema_update(&[(&vars[0], grads.get(&vars[0]).expect("a variable"))], 0.9)?;
    let mut all = vec![values(&loss), values(&logits), values(&vars[0])];
    all.extend(vars.iter().map(|var| values(grads.get(var).expect("a variable"))));
    Ok(all)
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    if on_gpu() {
        return;
    }
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        let all = pool.install(|| Ok::<_, candle_core::Error>([run()?, run_styled()?].concat())).expect("they run");
        all.into_iter().map(|v| v.into_iter().map(f32::to_bits).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let one = with(1);
    for threads in [2, 3, 7] {
        assert!(with(threads) == one, "{threads} threads");
    }
}
