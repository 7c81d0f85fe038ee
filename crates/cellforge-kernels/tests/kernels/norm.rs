use crate::common::{assert_close, cases, check, check_in_bf16, device, random, rounded, values, variable};
use candle_core::{Result, Tensor, Var};
use cellforge_kernels::{
    DropoutMask, batch_norm_eval, batch_norm_leaky_relu_eval, batch_norm_leaky_relu_train, batch_norm_train, composed,
};
use proptest::prelude::*;

const EPS: f64 = 1e-3;

fn doubles(tensor: &Tensor) -> Vec<f64> {
    values(tensor).into_iter().map(f64::from).collect()
}

/// Mean and biased variance of each channel of (b, c, plane).
fn moments(xs: &[f64], c: usize, plane: usize) -> Vec<(f64, f64)> {
    (0..c)
        .map(|ch| {
            let channel: Vec<f64> = xs.chunks(plane).skip(ch).step_by(c).flatten().copied().collect();
            let mean = channel.iter().sum::<f64>() / channel.len() as f64;
            (mean, channel.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / channel.len() as f64)
        })
        .collect()
}

fn normalise(p: &[Vec<f64>], stats: &[(f64, f64)], plane: usize) -> Vec<f64> {
    let one = |(i, &x): (usize, &f64)| {
        let ch = i / plane % stats.len();
        (x - stats[ch].0) / (stats[ch].1 + EPS).sqrt() * p[1][ch] + p[2][ch]
    };
    p[0].iter().enumerate().map(one).collect()
}

fn check_norm(b: usize, c: usize, h: usize, w: usize) {
    let vars = [variable(1, &[b, c, h, w]), variable(2, &[c]), variable(3, &[c])];
    let plain = |p: &[Vec<f64>]| normalise(p, &moments(&p[0], c, h * w), h * w);
    check(&vars, |t| Ok(batch_norm_train(&t[0], &t[1], &t[2], EPS)?.0), plain);
    check(&vars, |t| Ok(composed::batch_norm_train(&t[0], &t[1], &t[2], EPS)?.0), plain);
    check_in_bf16(40, 1, &vars, |t| Ok(batch_norm_train(&t[0], &t[1], &t[2], EPS)?.0), plain);

    let (mean, var) = (variable(4, &[c]), variable(5, &[c]).sqr().expect("f32"));
    let stats: Vec<(f64, f64)> = doubles(&mean).into_iter().zip(doubles(&var)).collect();
    let plain = |p: &[Vec<f64>]| normalise(p, &stats, h * w);
    check(&vars, |t| batch_norm_eval(&t[0], &t[1], &t[2], &mean, &var, EPS), plain);
    check(&vars, |t| composed::batch_norm_eval(&t[0], &t[1], &t[2], &mean, &var, EPS), plain);
    check_in_bf16(40, 1, &vars, |t| batch_norm_eval(&t[0], &t[1], &t[2], &mean, &var, EPS), plain);
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn any_shape(b in 1usize..4, c in 1usize..4, h in 1usize..6, w in 2usize..7) {
        check_norm(b, c, h, w);
    }
}

#[test]
fn several_runs_of_a_plane() {
    check_norm(2, 2, 27, 23);
}

/// Shifts that keep every pre-activation away from zero, where a leaky ReLU has a kink and a central difference is none of its
/// two slopes: for each channel minus the middle of the widest gap between neighbours in the middle half of its values, so that
/// there are values on both sides.
fn shifts_off_zero(xs: &Tensor, gamma: &Tensor, stats: &[(f64, f64)], plane: usize) -> Var {
    let c = stats.len();
    let scaled = normalise(&[doubles(xs), doubles(gamma), vec![0.; c]], stats, plane);
    let shift = |ch: usize| {
        let mut channel: Vec<f64> = scaled.chunks(plane).skip(ch).step_by(c).flatten().copied().collect();
        channel.sort_by(f64::total_cmp);
        let middle = &channel[channel.len() / 4..=channel.len() * 3 / 4];
        let gaps = middle.windows(2).map(|pair| (pair[1] - pair[0], (pair[0] + pair[1]) / 2.));
        let (gap, centre) = gaps.max_by(|a, b| a.0.total_cmp(&b.0)).expect("a channel has several values");
        // A step of 1e-5 in any input moves a pre-activation by less than 1e-3.
        assert!(gap > 2e-3, "channel {ch} comes within {} of zero", gap / 2.);
        -centre as f32
    };
    Var::from_vec((0..c).map(shift).collect::<Vec<_>>(), c, &device()).expect("one for each channel")
}

fn check_fused(b: usize, c: usize, h: usize, w: usize, slope: f32) {
    let plane = h * w;
    let leaky = |y: f64| y.max(0.) + f64::from(slope) * y.min(0.);
    // Numbers of `bf16`, so that both types have the same kinks.
    let xs = variable(1, &[b, c, h, w]);
    let xs = Var::from_vec(rounded(&values(&xs)), xs.shape(), &device()).expect("as many values");
    // Scales of at least a half: one near zero would bring its whole channel near the kink.
    let scales: Vec<f32> = random(2, c).into_iter().map(|g| g + 0.5f32.copysign(g)).collect();
    let gamma = Var::from_vec(scales, c, &device()).expect("one for each channel");

    let beta = shifts_off_zero(&xs, &gamma, &moments(&doubles(&xs), c, plane), plane);
    let vars = [xs.clone(), gamma.clone(), beta];
    let plain = |p: &[Vec<f64>]| -> Vec<f64> {
        normalise(p, &moments(&p[0], c, plane), plane).into_iter().map(leaky).collect()
    };
    check(&vars, |t| Ok(batch_norm_leaky_relu_train(&t[0], &t[1], &t[2], EPS, slope, None)?.0), plain);
    let unfused = |t: &[Tensor]| composed::leaky_relu(&composed::batch_norm_train(&t[0], &t[1], &t[2], EPS)?.0, slope);
    check(&vars, unfused, plain);
    let fused = |t: &[Tensor]| Ok(batch_norm_leaky_relu_train(&t[0], &t[1], &t[2], EPS, slope, None)?.0);
    check_in_bf16(40, 1, &vars, fused, plain);

    let keep: Vec<u8> = random(6, xs.elem_count()).iter().map(|&x| u8::from(x > -0.4)).collect();
    // In the mask the channels of a pixel lie side by side.
    let kept = |i: usize| f64::from(keep[(i / (c * plane) * plane + i % plane) * c + i / plane % c]);
    let dropped =
        |p: &[Vec<f64>]| -> Vec<f64> { plain(p).into_iter().enumerate().map(|(i, y)| 2.5 * kept(i) * y).collect() };
    let mask = DropoutMask::new(keep.clone(), 2.5);
    let fused = |t: &[Tensor]| Ok(batch_norm_leaky_relu_train(&t[0], &t[1], &t[2], EPS, slope, Some(mask.clone()))?.0);
    check(&vars, fused, dropped);
    check_in_bf16(40, 1, &vars, fused, dropped);

    let (mean, var) = (variable(4, &[c]), variable(5, &[c]).sqr().expect("f32"));
    let stats: Vec<(f64, f64)> = doubles(&mean).into_iter().zip(doubles(&var)).collect();
    let beta = shifts_off_zero(&xs, &gamma, &stats, plane);
    let vars = [xs, gamma, beta];
    let plain = |p: &[Vec<f64>]| -> Vec<f64> { normalise(p, &stats, plane).into_iter().map(leaky).collect() };
    check(&vars, |t| batch_norm_leaky_relu_eval(&t[0], &t[1], &t[2], &mean, &var, EPS, slope), plain);
    check_in_bf16(40, 1, &vars, |t| batch_norm_leaky_relu_eval(&t[0], &t[1], &t[2], &mean, &var, EPS, slope), plain);
    let unfused =
        |t: &[Tensor]| composed::leaky_relu(&composed::batch_norm_eval(&t[0], &t[1], &t[2], &mean, &var, EPS)?, slope);
    check(&vars, unfused, plain);
}

#[test]
fn with_an_activation() {
    for slope in [0., 0.2] {
        for (b, c, h, w) in [(3, 1, 2, 3), (2, 3, 4, 5), (2, 2, 27, 23)] {
            check_fused(b, c, h, w, slope);
        }
    }
}

/// The statistics, and that a mean far larger than the deviation does not spoil the variance.
#[test]
fn statistics() -> Result<()> {
    let xs = (variable(1, &[3, 2, 5, 5]).as_detached_tensor() + 1000.)?;
    let unit = Tensor::ones(2, xs.dtype(), xs.device())?;
    let want = moments(&values(&xs).into_iter().map(f64::from).collect::<Vec<_>>(), 2, 25);
    let (_, stats) = batch_norm_train(&xs, &unit, &unit, EPS)?;
    // 75 elements a channel: Bessel's correction is 75/74.
    let unbiased: Vec<f64> = want.iter().map(|m| m.1 * 75. / 74.).collect();
    assert_close("variance", &values(&stats.var_unbiased), &unbiased, 1e-5);
    assert_close("mean", &values(&stats.mean), &want.iter().map(|m| m.0).collect::<Vec<_>>(), 1e-6);
    Ok(())
}

#[test]
fn errors_name_the_operation() -> Result<()> {
    let (xs, gamma) = (variable(1, &[1, 3, 2, 2]), variable(2, &[4]));
    let error = batch_norm_train(&xs, &gamma, &gamma, EPS).expect_err("four is not three").to_string();
    assert!(error.contains("batch_norm_train: gamma has shape [4], expected [3]"), "{error}");
    Ok(())
}

/// The mask's place moves on with the parts into which a large tensor is cut.
#[test]
fn masks_of_large_tensors() {
    let (b, c, h, w) = (2, 20, 64, 40);
    let vars = [variable(1, &[b, c, h, w]), variable(2, &[c]), variable(3, &[c])];
    let keep: Vec<u8> = random(4, b * c * h * w).iter().map(|&x| u8::from(x > -0.4)).collect();
    let factors: Vec<f32> = keep.iter().map(|&k| 2.5 * f32::from(k)).collect();
    let factors = Tensor::from_vec(factors, (b, h, w, c), &device()).and_then(|t| t.permute((0, 3, 1, 2))).unwrap();
    let weighting = Tensor::from_vec(random(5, b * c * h * w), (b, c, h, w), &device()).unwrap();
    let mask = DropoutMask::new(keep, 2.5);
    let run = |op: &dyn Fn(&[Tensor]) -> Result<Tensor>| -> Vec<Vec<f32>> {
        let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let ys = op(&tensors).unwrap().contiguous().unwrap();
        let grads = ys.mul(&weighting).and_then(|t| t.sum_all()).and_then(|t| t.backward()).unwrap();
        std::iter::once(values(&ys)).chain(tensors.iter().map(|t| values(grads.get(t).unwrap()))).collect()
    };
    let compare = |got: Vec<Vec<f32>>, want: Vec<Vec<f32>>| {
        for (got, want) in got.iter().zip(&want) {
            let most = want.iter().fold(0f32, |most, x| most.max(x.abs()));
            let error = got.iter().zip(want).fold(0f32, |most, (x, y)| most.max((x - y).abs()));
            assert!(error <= 1e-4 * most, "{error} of {most}");
        }
    };
    let apart = run(&|t| {
        let ys = batch_norm_leaky_relu_train(&t[0], &t[1], &t[2], EPS, 0.2, None)?.0;
        ys.contiguous()?.mul(&factors.contiguous()?)
    });
    let fused = |t: &[Tensor]| Ok(batch_norm_leaky_relu_train(&t[0], &t[1], &t[2], EPS, 0.2, Some(mask.clone()))?.0);
    compare(run(&fused), apart);

    let first = |op: &dyn Fn(&Tensor) -> Result<Tensor>| {
        // All three variables take part, so that each has a gradient.
        run(&|t| op(&t[0])?.contiguous()?.broadcast_add(&(&t[1] + &t[2])?.reshape((1, c, 1, 1))?))
    };
    let apart = first(&|xs| cellforge_kernels::leaky_relu(xs, 0.2)?.contiguous()?.mul(&factors.contiguous()?));
    compare(first(&|xs| cellforge_kernels::leaky_relu_dropout(xs, 0.2, mask.clone())), apart);
}
