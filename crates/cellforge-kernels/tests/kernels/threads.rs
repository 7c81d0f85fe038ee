use crate::common::{values, variable};
use candle_core::{Device, Result, Tensor};
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
    let strided = Conv2dConfig { stride: 2, padding: Padding::same(12, 11, 3, 2) };
    let ys = conv2d(&vars[0], &vars[1], Some(&vars[2]), &strided)?;
    let (ys, stats) = batch_norm_train(&ys, &vars[3], &vars[2], 1e-3)?;
    let ys = upsample2x_conv2d(&leaky_relu(&ys, 0.2)?, &vars[4], None)?;
    let ys = avg_pool2d(&max_pool2d(&ys, 3, 2, 1)?, 2, 1, 1, true)?;
    let ys = conv2d(&tanh(&ys)?, &vars[5], None, &Conv2dConfig::default())?;
    let logits = linear(&avg_pool2d_global(&relu(&ys)?)?, &vars[6], None)?;
    let targets = Tensor::new(&[0u32, 1, 2, 3, 0, 1, 2, 3, 0], &Device::Cpu)?;
    let loss = cross_entropy(&logits, &targets)?;
    let grads = loss.backward()?;
    let mut all = vec![values(&loss), values(&logits), values(&stats.var_unbiased)];
    all.extend(vars.iter().map(|var| values(grads.get(var).expect("a variable"))));
    Ok(all)
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        let all = pool.install(run).expect("the network runs");
        all.into_iter().map(|v| v.into_iter().map(f32::to_bits).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let one = with(1);
    for threads in [2, 3, 7] {
        assert!(with(threads) == one, "{threads} threads");
    }
}
