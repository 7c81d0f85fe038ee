use crate::common::{cases, check, check_in_bf16, device, off_zero, random, rounded, values, variable};
use candle_core::{DType, Result, Tensor, Var};
use cellforge_kernels::{composed, demodulation, modulate};
use proptest::prelude::*;

const SLOPES: [f32; 3] = [0., 0.2, 1.];

/// The number of `numbers`, `(c)` or `(b, c)`, that belongs to element `i` of `(b, c, plane)`.
fn number(numbers: &[f64], i: usize, [c, plane]: [usize; 2]) -> f64 {
    numbers[if numbers.len() == c { i / plane % c } else { i / plane }]
}

fn modulated(p: &[Vec<f64>], dims: [usize; 2], slope: f32) -> Vec<f64> {
    let of = |(i, x): (usize, &f64)| {
        let z = x * number(&p[1], i, dims) + number(&p[2], i, dims);
        z.max(0.) + f64::from(slope) * z.min(0.)
    };
    p[0].iter().enumerate().map(of).collect()
}

/// Shifts that keep every sum away from zero, where a leaky ReLU has a kink, with sums on both sides of it where there are several:
/// minus the middle of the widest gap between the products that a shift is added to.
fn shifts_off_zero(xs: &Var, scale: &Var, shape: &[usize]) -> Var {
    let (b, c, h, w) = xs.dims4().expect("images");
    let [xs, scale] = [xs, scale].map(|t| values(t).into_iter().map(f64::from).collect::<Vec<_>>());
    let mut groups = vec![Vec::new(); shape.iter().product()];
    for (i, x) in xs.iter().enumerate() {
        let group = if groups.len() == c { i / (h * w) % c } else { i / (h * w) };
        groups[group].push(x * scale[i / (h * w)]);
    }
    assert!(groups.len() == c || groups.len() == b * c);
    let shift = |mut products: Vec<f64>| {
        products.sort_by(f64::total_cmp);
        let gaps = products.windows(2).map(|pair| (pair[1] - pair[0], (pair[0] + pair[1]) / 2.));
        let Some((gap, centre)) = gaps.max_by(|a, b| a.0.total_cmp(&b.0)) else { return 0.5 - products[0] as f32 };
        // A step of 1e-5 in any input moves a sum by less than 1e-4.
        assert!(gap > 4e-4, "a group comes within {} of zero", gap / 2.);
        -centre as f32
    };
    Var::from_vec(groups.into_iter().map(shift).collect::<Vec<_>>(), shape, &device()).expect("one for each group")
}

fn check_modulate([b, c, h, w]: [usize; 4]) {
    let (xs, scale) = (variable(1, &[b, c, h, w]), off_zero(2, &[b, c]));
    // Numbers of `bf16`, so that both types have the same kinks.
    let xs = Var::from_vec(rounded(&values(&xs)), xs.shape(), &device()).expect("as many values");
    for shape in [&[c][..], &[b, c]] {
        let vars = [xs.clone(), scale.clone(), shifts_off_zero(&xs, &scale, shape)];
        for slope in SLOPES {
            let plain = |p: &[Vec<f64>]| modulated(p, [c, h * w], slope);
            check(&vars, |t| modulate(&t[0], &t[1], &t[2], slope), plain);
            check(&vars, |t| composed::modulate(&t[0], &t[1], &t[2], slope), plain);
            check_in_bf16(40, 1, &vars, |t| modulate(&t[0], &t[1], &t[2], slope), plain);
        }
    }
}

fn check_demodulation(kernels: [usize; 4], b: usize) {
    let [_, c_in, kh, kw] = kernels;
    let vars = [off_zero(1, &kernels), off_zero(2, &[b, c_in])];
    let plain = |p: &[Vec<f64>]| -> Vec<f64> {
        let of = |(kernels, styles): (&[f64], &[f64])| -> f64 {
            let energy = |(kernel, s): (&[f64], &f64)| -> f64 { kernel.iter().map(|w| (w * s).powi(2)).sum() };
            1. / (kernels.chunks(kh * kw).zip(styles).map(energy).sum::<f64>() + 1e-8).sqrt()
        };
        p[1].chunks(c_in).flat_map(|s| p[0].chunks(c_in * kh * kw).map(move |w| of((w, s)))).collect()
    };
    check(&vars, |t| demodulation(&t[0], &t[1]), plain);
    check(&vars, |t| composed::demodulation(&t[0], &t[1]), plain);
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn styles_of_any_shape(b in 1usize..4, c in 1usize..6, h in 1usize..7, w in 1usize..8) {
        check_modulate([b, c, h, w]);
    }

    #[test]
    fn variances_of_any_shape((o, i, kh, kw) in (1usize..7, 1usize..6, 1usize..4, 1usize..4), b in 1usize..4) {
        check_demodulation([o, i, kh, kw], b);
    }
}

/// More channels than a vector holds, and rows that end within one.
#[test]
fn large_shapes() {
    check_modulate([2, 19, 9, 15]);
    check_demodulation([35, 33, 3, 3], 5);
}

/// A style of zeros leaves nothing to divide by but the 1e-8 under the root.
#[test]
fn an_output_without_inputs_is_finite() -> Result<()> {
    let zeros = Tensor::zeros((1, 2), DType::F32, &device())?;
    for f in [demodulation, composed::demodulation] {
        assert!(values(&f(&variable(1, &[3, 2, 1, 1]), &zeros)?).iter().all(|y| (y - 1e4).abs() < 1.));
    }
    Ok(())
}

/// What a convolution with demodulation makes of noise has unit variance, whatever the styles.
#[test]
fn demodulation_undoes_what_styles_do_to_the_variance() -> Result<()> {
    let (c, side) = (32, 64);
    // Uniform in (-1, 1), of variance 1/3, times sqrt(3).
    let noise = Tensor::from_vec(random(1, c * side * side), (1, c, side, side), &device())?.affine(3f64.sqrt(), 0.)?;
    let (weight, styles) = (variable(2, &[4, c, 3, 3]), variable(3, &[1, c]).affine(10., 0.)?);
    let zeros = [c, 4].map(|c| Tensor::zeros(c, DType::F32, &device()));
    let [before, after] = zeros.map(|zeros| zeros.expect("zeros"));
    let ys = cellforge_kernels::conv2d(&modulate(&noise, &styles, &before, 1.)?, &weight, None, &Default::default())?;
    let ys = values(&modulate(&ys, &demodulation(&weight, &styles)?, &after, 1.)?);
    for channel in ys.chunks(ys.len() / 4) {
        let variance = channel.iter().map(|y| f64::from(y * y)).sum::<f64>() / channel.len() as f64;
        assert!((variance - 1.).abs() < 0.1, "{variance}");
    }
    Ok(())
}

#[test]
fn errors_name_the_operation() {
    let (xs, scale, shift) = (variable(1, &[2, 3, 4, 5]), variable(2, &[2, 3]), variable(3, &[3]));
    let message = |scale: &Var, shift: &Var| modulate(&xs, scale, shift, 1.).expect_err("this must fail").to_string();
    let error = message(&shift, &shift);
    assert!(error.contains("modulate: scale has shape [3], expected [2, 3]"), "{error}");
    let error = message(&scale, &variable(4, &[2]));
    assert!(error.contains("modulate: shift has shape [2], expected [3] or [2, 3]"), "{error}");
    let error = demodulation(&variable(5, &[4, 2, 3, 3]), &scale).expect_err("2 is not 3").to_string();
    assert!(error.contains("demodulation: styles [2, 3] and weight [4, 2, 3, 3] differ"), "{error}");
}
