//! Operations that do in one pass over memory what others do in several.

use crate::common::{cases, check, check_in_bf16, device, off_zero, values, variable};
use candle_core::{Result, Tensor, Var};
use cellforge_kernels::{
    Conv2dConfig, Padding, Precision, add, avg_pool2d, composed, conv2d, conv2d_leaky_relu, gradients, leaky_relu,
    leaky_relu_avg_pool2x2, mean, modulate, modulate_twice, mul, sqr,
};
use proptest::prelude::*;

/// The result of an operation and the gradients of a weighting of it.
fn run(vars: &[Var], op: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Vec<f32>> {
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let ys = op(&tensors).expect("the operation takes these shapes").detach();
    let weighting = variable(99, ys.dims()).detach();
    let (_, grads) = gradients(|| mean(&mul(&op(&tensors)?, &weighting)?)).expect("the operation has a gradient");
    let gradients = vars.iter().map(|var| values(grads.get(var).expect("every variable has a gradient")));
    std::iter::once(values(&ys)).chain(gradients).collect()
}

/// Fails unless both give the same numbers, to the last digit.
fn same(vars: &[Var], fused: &dyn Fn(&[Tensor]) -> Result<Tensor>, plain: &dyn Fn(&[Tensor]) -> Result<Tensor>) {
    let (got, want) = (run(vars, fused), run(vars, plain));
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!(got == want, "number {i} with inputs {:?}", vars.iter().map(|var| var.dims()).collect::<Vec<_>>());
    }
}

fn check_convolution([b, c, h, w]: [usize; 4], [o, kh, kw]: [usize; 3], cfg: Conv2dConfig, slope: f32) {
    let vars = [variable(1, &[b, c, h, w]), variable(2, &[o, c, kh, kw]), variable(3, &[o])];
    for precision in [Precision::F32, Precision::EmulatedBf16, Precision::Bf16] {
        let cfg = cfg.in_precision(precision);
        same(&vars, &|t| conv2d_leaky_relu(&t[0], &t[1], &t[2], &cfg, slope), &|t| {
            leaky_relu(&conv2d(&t[0], &t[1], Some(&t[2]), &cfg)?, slope)
        });
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_convolution_and_its_activation(
        (b, c, h, w) in (1usize..4, 1usize..40, 3usize..12, 3usize..12),
        (o, kh, kw) in (1usize..40, 1usize..4, 1usize..4),
        stride in 1usize..3,
        slope in prop_oneof![Just(0f32), Just(0.2), Just(1.)],
    ) {
        check_convolution([b, c, h, w], [o, kh, kw], Conv2dConfig::new(stride, Padding::uniform(1)), slope);
    }

    #[test]
    fn an_activation_and_the_mean(b in 1usize..3, c in 1usize..20, h in 2usize..9, w in 2usize..9, slope in 0f32..1.) {
        let vars = [off_zero(1, &[b, c, h, w])];
        let plain = |x: &[Vec<f64>]| -> Vec<f64> {
            let leaky = |x: f64| if x > 0. { x } else { x * f64::from(slope) };
            let of = |plane: &[f64], y: usize, x: usize| (0..4).map(|i| leaky(plane[(2 * y + i / 2) * w + 2 * x + i % 2])).sum::<f64>() / 4.;
            let cells = || (0..h / 2).flat_map(|y| (0..w / 2).map(move |x| (y, x)));
            x[0].chunks(h * w).flat_map(|plane| cells().map(move |(y, x)| of(plane, y, x)).collect::<Vec<_>>()).collect()
        };
        check(&vars, |t| leaky_relu_avg_pool2x2(&t[0], slope), plain);
        check(&vars, |t| composed::avg_pool2d(&composed::leaky_relu(&t[0], slope)?, 2, 2, 0, true), plain);
        check_in_bf16(40, 1, &vars, |t| leaky_relu_avg_pool2x2(&t[0], slope), plain);
    }

    #[test]
    fn two_factors(b in 1usize..4, c in 1usize..40, h in 1usize..9, w in 1usize..9, slope in 0f32..1., one: bool) {
        let shift: &[usize] = if one { &[c] } else { &[b, c] };
        let vars = [variable(1, &[b, c, h, w]), variable(2, &[b, c]), variable(3, shift), variable(4, &[b, c])];
        let zeros = Tensor::zeros(c, candle_core::DType::F32, &device()).expect("zeros");
        same(&vars, &|t| modulate_twice(&t[0], &t[1], &t[2], slope, &t[3]), &|t| {
            modulate(&modulate(&t[0], &t[1], &t[2], slope)?, &t[3], &zeros, 1.)
        });
    }
}

/// The ways of computing a convolution: by Winograd's algorithm, as windows of the output, in several pieces.
#[test]
fn large_convolutions_and_their_activations() {
    let same = Conv2dConfig::new(1, Padding::uniform(1));
    for (images, kernels) in [
        ([2, 70, 9, 9], [66, 3, 3]),
        ([2, 24, 20, 21], [24, 3, 3]),
        ([3, 64, 9, 8], [3, 3, 3]),
        ([1, 3, 130, 128], [70, 3, 3]),
    ] {
        check_convolution(images, kernels, same, 0.2);
    }
}

/// A mean hands its gradient on together with what has come to its input from elsewhere, which may be much or nothing.
#[test]
fn gradients_are_added_as_means_share_theirs_out() -> Result<()> {
    let vars = [variable(1, &[2, 5, 7, 6]), variable(2, &[5, 5, 3, 3])];
    let same = Conv2dConfig::new(1, Padding::uniform(1));
    let loss = |later: bool, sooner: bool| -> Result<Tensor> {
        let xs = leaky_relu(&vars[0], 0.2)?;
        let before = if sooner { mean(&sqr(&xs)?)? } else { mean(&xs)? };
        let half = avg_pool2d(&xs, 2, 2, 0, true)?;
        let mut loss = add(&before, &mean(&sqr(&half)?)?)?;
        if later {
            loss = add(&loss, &mean(&sqr(&conv2d(&xs, &vars[1], None, &same)?)?)?)?;
        }
        Ok(loss)
    };
    for (later, sooner) in [(true, true), (true, false), (false, true), (false, false)] {
        let (_, tape) = gradients(|| loss(later, sooner))?;
        let graph = loss(later, sooner)?.backward()?;
        for var in &vars[..if later { 2 } else { 1 }] {
            let [got, want] = [&tape, &graph].map(|grads| values(grads.get(var).expect("it is used")));
            let size = want.iter().fold(0f32, |m, x| m.max(x.abs()));
            assert!(size > 0. && got.iter().zip(&want).all(|(a, b)| (a - b).abs() <= 1e-6 * size));
        }
    }
    Ok(())
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let vars = [variable(1, &[5, 24, 22, 18]), variable(2, &[24, 24, 3, 3]), variable(3, &[24]), variable(4, &[5, 24])];
    let op = |t: &[Tensor]| {
        let ys = conv2d_leaky_relu(&t[0], &t[1], &t[2], &Conv2dConfig::new(1, Padding::uniform(1)), 0.2)?;
        let shortcut = avg_pool2d(&ys, 2, 2, 0, true)?;
        add(&leaky_relu_avg_pool2x2(&modulate_twice(&ys, &t[3], &t[2], 0.2, &t[3])?, 0.2)?, &shortcut)
    };
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        pool.install(|| run(&vars, &op))
    };
    let one = with(1);
    assert!([2, 3, 7].into_iter().all(|threads| with(threads) == one));
}

#[test]
fn errors_name_the_operation() {
    let (xs, weight, bias) = (variable(1, &[1, 3, 4, 4]), variable(2, &[2, 3, 3, 3]), variable(3, &[2]));
    let cfg = Conv2dConfig::default();
    for (slope, bias, word) in [(-0.1, &bias, "slope below zero is -0.1"), (0.2, &variable(4, &[3]), "bias")] {
        let error = conv2d_leaky_relu(&xs, &weight, bias, &cfg, slope).expect_err("this must fail").to_string();
        assert!(error.starts_with("conv2d_leaky_relu: ") && error.contains(word), "{error}");
    }
    let error = leaky_relu_avg_pool2x2(&variable(5, &[1, 1, 1, 4]), 0.2).expect_err("too low").to_string();
    assert!(error.starts_with("leaky_relu_avg_pool2x2: "), "{error}");
    let scale = variable(6, &[1, 3]);
    let error = modulate_twice(&xs, &scale, &variable(7, &[3]), 0.2, &variable(8, &[1, 2])).expect_err("2 is not 3");
    assert!(error.to_string().contains("modulate_twice: next has shape [1, 2], expected [1, 3]"), "{error}");
}
