//! What passes between operations in `bf16`. That each operation computes what it does in `f32` is shown beside its other tests.

use crate::common::{check_in_bf16, device, off_zero, on_gpu, random, rounded, values, variable};
use candle_core::{DType, Result, Tensor, Var};
use cellforge_kernels::*;

const LOWER: Precision = Precision::EmulatedBf16;
const SAME: Conv2dConfig = Conv2dConfig::new(1, Padding::uniform(1));

fn lower(xs: &Tensor) -> Result<Tensor> {
    to_precision(xs, LOWER)
}

fn bits(xs: &[f32]) -> Vec<u32> {
    xs.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn there_and_back() -> Result<()> {
    if on_gpu() {
        return Ok(());
    }
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 0., -0., 1e-40, 1. + 1. / 256.];
    // Results beyond a few megabytes are written in another way, and in several pieces.
    for len in [8, 1001, (1 << 20) + 1, 1_500_003] {
        let mut numbers = random(1, len);
        numbers[..8].copy_from_slice(&special);
        let xs = Var::from_vec(numbers.clone(), len, &device())?;
        let ys = lower(&xs)?;
        assert_eq!(ys.dtype(), DType::BF16);
        let back = values(&to_precision(&ys, Precision::F32)?);
        assert!(back[0].is_nan() && back[3] == f32::INFINITY);
        assert!(bits(&back[1..]) == bits(&rounded(&numbers[1..])), "{len}");
        // What is of a type already stays.
        assert_eq!(lower(&ys)?.id(), ys.id());
        assert_eq!(to_precision(&xs, Precision::Tf32)?.id(), xs.id());
        // The gradient is rounded on its way, too.
        let factors = Tensor::from_vec(random(2, len), len, &device())?;
        let loss = || sum(&mul(&to_precision(&lower(&xs)?, Precision::F32)?, &factors)?);
        let (_, grads) = gradients(loss)?;
        assert!(values(grads.get(&xs).expect("a variable")) == rounded(&values(&factors)));
    }
    let error = lower(&Tensor::zeros(3, DType::U32, &device())?).expect_err("no numbers").to_string();
    assert!(error.contains("to_precision: xs is U32, expected F32 or BF16"), "{error}");
    Ok(())
}

/// The two orders in which images lie give the same numbers, and a copy from one to the other keeps every bit.
#[test]
fn orders_of_images() -> Result<()> {
    if on_gpu() {
        return Ok(());
    }
    for (c, h, w) in [(3, 9, 7), (16, 17, 16), (33, 5, 40)] {
        let xs = lower(&variable(1, &[2, c, h, w]).detach())?;
        let turned = xs.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))?;
        let weight = variable(2, &[5, c, 3, 3]).detach();
        let [a, b] = [&xs, &turned].map(|xs| conv2d(xs, &weight, None, &SAME.in_precision(LOWER)));
        let [a, b] = [a?, b?].map(|ys| to_precision(&ys, Precision::F32).map(|ys| values(&ys)));
        assert!(a? == b?);
        let relued = to_precision(&relu(&turned)?, Precision::F32)?;
        let want: Vec<f32> = values(&to_precision(&xs, Precision::F32)?).iter().map(|x| x.max(0.)).collect();
        assert!(values(&relued) == want);
    }
    Ok(())
}

/// Images, and what depends on them, are of the type they are given in; what is added up over them, and parameters, of `f32`.
#[test]
fn types() -> Result<()> {
    if on_gpu() {
        return Ok(());
    }
    let xs = lower(&variable(1, &[2, 4, 6, 6]).detach())?;
    let (weight, row) = (variable(2, &[4, 4, 3, 3]), variable(3, &[4]));
    let scale = variable(4, &[2, 4]);
    let mask = DropoutMask::new(vec![1; 2 * 4 * 36], 1.);
    let images = [
        conv2d(&xs, &weight, Some(&row), &SAME.in_precision(LOWER))?,
        conv2d_add(&xs, &weight, &xs, &SAME)?,
        conv2d_leaky_relu(&xs, &weight, &row, &SAME, 0.2)?,
        upsample2x_conv2d(&xs, &weight, None, LOWER)?,
        batch_norm_train(&xs, &row, &row, 1e-3)?.0,
        batch_norm_eval(&xs, &row, &row, &row, &row.sqr()?, 1e-3)?,
        max_pool2d(&xs, 2, 2, 0)?,
        avg_pool2d(&xs, 2, 2, 0, true)?,
        leaky_relu_avg_pool2x2(&xs, 0.2)?,
        relu(&xs)?,
        leaky_relu_jvp(&xs, &xs, 0.2)?,
        dropout(&xs, mask.clone())?,
        leaky_relu_dropout(&xs, 0.2, mask)?,
        tanh(&xs)?,
        modulate(&xs, &scale, &row, 0.2)?,
        modulate_twice(&xs, &scale, &row, 0.2, &scale)?,
        upsample_nearest2x(&xs)?,
        pad_bottom_right(&xs, 1)?,
        add(&xs, &xs)?,
        scale_by(&xs)?,
    ];
    assert!(images.iter().all(|ys| ys.dtype() == DType::BF16));
    assert_eq!(avg_pool2d_global(&xs)?.dtype(), DType::F32);
    assert_eq!(batch_norm_train(&xs, &row, &row, 1e-3)?.1.mean.dtype(), DType::F32);
    let (_, grads) = gradients(|| mean(&avg_pool2d_global(&conv2d(&xs, &weight, Some(&row), &SAME)?)?))?;
    assert!([&weight, &row].iter().all(|var| grads.get(var).is_some_and(|grad| grad.dtype() == DType::F32)));

    let single = variable(1, &[2, 4, 6, 6]);
    let errors = [
        conv2d(&single, &lower(&weight)?, None, &SAME),
        conv2d_add(&xs, &weight, &single, &SAME),
        add(&single, &xs),
        linear(&lower(&scale)?, &scale, None, LOWER),
    ];
    for error in errors {
        let error = error.expect_err("the types do not go together").to_string();
        assert!(error.contains("BF16"), "{error}");
    }
    Ok(())
}

fn scale_by(xs: &Tensor) -> Result<Tensor> {
    scale(xs, -1.5)
}

/// What is broken stays to be seen.
#[test]
fn nan_and_infinities() -> Result<()> {
    if on_gpu() {
        return Ok(());
    }
    let images = |x: f32| -> Result<Tensor> {
        let mut numbers = random(1, 2 * 4 * 36);
        numbers[100] = x;
        lower(&Tensor::from_vec(numbers, (2, 4, 6, 6), &device())?)
    };
    let weight = variable(2, &[4, 4, 1, 1]);
    for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let xs = images(x)?;
        for ys in [
            relu(&xs)?,
            tanh(&xs)?,
            max_pool2d(&xs, 2, 2, 0)?,
            avg_pool2d(&xs, 2, 2, 0, true)?,
            avg_pool2d_global(&xs)?,
            conv2d(&xs, &weight, None, &Conv2dConfig::default().in_precision(LOWER))?,
            upsample_nearest2x(&xs)?,
        ] {
            let found = values(&to_precision(&ys, Precision::F32)?);
            // The number is the only one that is not finite, and of ReLU and maxima only what is not below zero remains of it.
            let is_seen = found.iter().any(|y| if x.is_nan() { y.is_nan() } else { y.abs() >= 1. });
            assert!(is_seen || x == f32::NEG_INFINITY, "{x}: {found:?}");
        }
    }
    Ok(())
}

/// Operations that do several things do them on sums that were not rounded yet.
#[test]
fn fused_operations_round_once() {
    let dims = [2, 5, 7, 6];
    let vars = [off_zero(1, &dims), off_zero(2, &[2, 5]), variable(3, &[5]), variable(4, &[2, 5])];
    let number = |numbers: &[f64], i: usize| numbers[if numbers.len() == 5 { i / 42 % 5 } else { i / 42 }];
    let plain = |p: &[Vec<f64>]| -> Vec<f64> {
        let of = |(i, x): (usize, &f64)| {
            let z = x * number(&p[1], i) + number(&p[2], i) / 8.;
            (z.max(0.) + 0.25 * z.min(0.)) * number(&p[3], i)
        };
        p[0].iter().enumerate().map(of).collect()
    };
    check_in_bf16(40, 1, &vars, |t| modulate_twice(&t[0], &t[1], &scale(&t[2], 0.125)?, 0.25, &t[3]), plain);
    // A slope that is a power of two adds no rounding to the gradient on its way.
    let vars = [off_zero(1, &dims), off_zero(2, &[3, 5, 1, 1]), variable(3, &[3])];
    let far = |t: &Tensor| scale(t, 0.125);
    let conv = |p: &[Vec<f64>]| -> Vec<f64> {
        let of = |i: usize| {
            let (n, o, at) = (i / 126, i / 42 % 3, i % 42);
            let z: f64 = (0..5).map(|c| p[0][(n * 5 + c) * 42 + at] * p[1][o * 5 + c]).sum::<f64>() + p[2][o] / 8.;
            z.max(0.) + 0.25 * z.min(0.)
        };
        (0..2 * 3 * 42).map(of).collect()
    };
    let op = |t: &[Tensor]| conv2d_leaky_relu(&t[0], &t[1], &far(&t[2])?, &Conv2dConfig::default(), 0.25);
    check_in_bf16(40, 1, &vars, op, conv);
}

/// A residual block and pools, as a classifier and a discriminator have them; the loss. Activations have this slope below zero, and without
/// them, at 1, there are no maxima either.
fn network(vars: &[Var], precision: Precision, slope: f32) -> Result<Tensor> {
    let cfg = SAME.in_precision(precision);
    let xs = to_precision(&vars[0], precision)?;
    let xs = conv2d(&xs, &vars[1], None, &cfg)?;
    let (act, _) = batch_norm_leaky_relu_train(&xs, &vars[2], &vars[3], 1e-3, slope, None)?;
    let ys = conv2d(&act, &vars[4], None, &cfg)?;
    let xs = conv2d_add(&leaky_relu(&ys, slope)?, &vars[5], &xs, &cfg)?;
    let shortcut = avg_pool2d(&xs, 2, 2, 0, true)?;
    let ys = leaky_relu_avg_pool2x2(&conv2d_leaky_relu(&xs, &vars[4], &vars[2], &cfg, slope)?, slope)?;
    let ys = upsample2x_conv2d(&add(&ys, &shortcut)?, &vars[5], Some(&vars[3]), precision)?;
    let ys = if slope == 1. { avg_pool2d(&ys, 3, 2, 1, false)? } else { max_pool2d(&ys, 3, 2, 1)? };
    mean(&sqr(&avg_pool2d_global(&ys)?)?)
}

fn parameters(c: usize) -> Vec<Var> {
    let kernels = |seed: u64, c_in: usize| {
        let values = random(seed, c * c_in * 9).into_iter().map(|x| x / (c_in as f32 * 3.).sqrt()).collect::<Vec<_>>();
        Var::from_vec(values, (c, c_in, 3, 3), &device()).expect("as many values")
    };
    let rows = [variable(3, &[c]), variable(4, &[c])];
    let [gamma, beta] = rows;
    vec![variable(1, &[5, 3, 14, 12]), kernels(2, 3), gamma, beta, kernels(5, c), kernels(6, c)]
}

/// Loss and gradients, off the tape or on it.
fn all(vars: &[Var], precision: Precision, slope: f32, on_tape: bool) -> Vec<Vec<f32>> {
    let loss = || network(vars, precision, slope);
    let (loss, grads) = match on_tape {
        true => gradients(loss).expect("the network has gradients"),
        false => {
            let loss = loss().expect("the network takes these shapes");
            let grads = loss.backward().expect("the network has gradients");
            (loss, grads)
        }
    };
    let grads = vars.iter().map(|var| values(grads.get(var).expect("every variable has a gradient")));
    std::iter::once(values(&loss)).chain(grads).collect()
}

/// The root mean square of differences, beside that of the numbers.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let size = |xs: &mut dyn Iterator<Item = f32>| xs.map(|x| x * x).sum::<f32>().sqrt();
    size(&mut a.iter().zip(b).map(|(a, b)| a - b)) / size(&mut b.iter().copied())
}

/// The tape adds gradients before they are rounded and Candle's graph after that. Either way a network in `bf16` is near that in `f32`.
///
/// Without kinks each of some ten roundings of factors and results on the way there, and of as many on the way back, is of 1/256 at most and
/// half of that in the root mean square. Independent of one another they make sqrt(20) / 512, or 0.9%, which three times are not passed.
///
/// A kink turns the slope of those numbers that rounding moves past it. Their share is about that of the rounding, 0.4%, of which the root is 6%
/// of a gradient. Five layers of kinks make 14%, which twice are not passed.
#[test]
fn a_network_is_near_that_of_single_precision() {
    for (c, (slope, most)) in [8, 24, 33].into_iter().flat_map(|c| [(1., 0.027), (0.2, 0.28)].map(|of| (c, of))) {
        let vars = parameters(c);
        let want = all(&vars, Precision::F32, slope, true);
        for precision in [LOWER, Precision::Bf16] {
            for on_tape in [true, false] {
                let got = all(&vars, precision, slope, on_tape);
                for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                    let distance = distance(got, want);
                    assert!(distance < most, "{precision:?}, slope {slope}, {c} channels, number {i}: {distance}");
                }
            }
        }
    }
}

/// What `bf16-emulated` computes in words and tiles, AMX computes to the last digit, kept in memory or not.
#[test]
fn the_emulation_is_that_of_tiles() {
    if SimdLevel::current() == SimdLevel::Amx {
        for c in [8, 32, 33, 64] {
            let vars = parameters(c);
            assert!(all(&vars, Precision::Bf16, 0.2, true) == all(&vars, LOWER, 0.2, true), "{c} channels");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let vars = parameters(24);
    for precision in [LOWER, Precision::Bf16] {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            pool.install(|| all(&vars, precision, 0.2, true))
        };
        let one = with(1);
        assert!([2, 3, 7].into_iter().all(|threads| with(threads) == one), "{precision:?}");
    }
}
