use crate::common::{assert_close, check, values, variable};
use candle_core::{Result, Tensor};
use cellforge_kernels::{batch_norm_eval, batch_norm_train, composed};
use proptest::prelude::*;

const EPS: f64 = 1e-3;

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

    let (mean, var) = (variable(4, &[c]), variable(5, &[c]).sqr().expect("f32"));
    let stats: Vec<(f64, f64)> =
        values(&mean).into_iter().zip(values(&var)).map(|(m, v)| (f64::from(m), f64::from(v))).collect();
    let plain = |p: &[Vec<f64>]| normalise(p, &stats, h * w);
    check(&vars, |t| batch_norm_eval(&t[0], &t[1], &t[2], &mean, &var, EPS), plain);
    check(&vars, |t| composed::batch_norm_eval(&t[0], &t[1], &t[2], &mean, &var, EPS), plain);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape(b in 1usize..4, c in 1usize..4, h in 1usize..6, w in 2usize..7) {
        check_norm(b, c, h, w);
    }
}

#[test]
fn several_runs_of_a_plane() {
    check_norm(2, 2, 27, 23);
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
