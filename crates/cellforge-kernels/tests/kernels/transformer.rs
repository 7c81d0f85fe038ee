use crate::common::{assert_close, device, random, values, variable};
use candle_core::{Result, Tensor};
use cellforge_kernels::{Precision, attention, composed, gelu, layer_norm, linear};

fn tensor(seed: u64, dims: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(random(seed, dims.iter().product()), dims, &device())
}

/// The error function as the integral that it is, by Simpson's rule in 2000 steps.
fn erf(x: f64) -> f64 {
    let steps = 2000;
    let width = x / f64::from(steps);
    let at = |i: i32| {
        (-(width * f64::from(i)).powi(2)).exp() * if i == 0 || i == steps { 1. } else { f64::from(2 + 2 * (i % 2)) }
    };
    (0..=steps).map(at).sum::<f64>() * width / 3. * 2. / std::f64::consts::PI.sqrt()
}

#[test]
fn gelu_is_the_exact_one() -> Result<()> {
    let mut xs: Vec<f32> = (-1200..=1200).map(|i| i as f32 / 200.).collect();
    xs.extend([0., -0., 30., -30., 1e30, -1e30, f32::MIN_POSITIVE]);
    let want: Vec<f64> = xs
        .iter()
        .map(|&x| f64::from(x))
        .map(|x| x / 2. * (1. + erf((x / std::f64::consts::SQRT_2).clamp(-6., 6.))))
        .collect();
    let input = Tensor::new(xs.as_slice(), &device())?;
    for (form, ys) in [("kernel", gelu(&input)?), ("composed", composed::gelu(&input)?)] {
        for ((x, y), want) in xs.iter().zip(values(&ys)).zip(&want) {
            let far = (f64::from(y) - want).abs();
            // Beyond 6 the integral is cut, and what is left of it is multiplied by x.
            assert!(
                far <= 1e-6 * want.abs().max(1.) || *x < -6. && y.abs() < 1e-6,
                "{form}: gelu({x}) is {y}, expected {want}"
            );
        }
    }
    assert!(values(&gelu(&Tensor::new(&[f32::NAN], &device())?)?)[0].is_nan());
    let error = gelu(&variable(1, &[3])).unwrap_err().to_string();
    assert!(error.contains("gelu: xs depends on a variable"), "{error}");
    Ok(())
}

#[test]
fn layer_norm_against_plain_loops() -> Result<()> {
    // More rows than one task takes, of a width that is no multiple of the lanes.
    let (rows, d, eps) = (131, 37, 1e-6);
    let (xs, weight, bias) = (tensor(1, &[rows, d])?, tensor(2, &[d])?, tensor(3, &[d])?);
    let (x, w, b) = (values(&xs), values(&weight), values(&bias));
    let mut want = Vec::new();
    for row in x.chunks(d) {
        let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        let mean = row.iter().sum::<f64>() / d as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d as f64;
        let scaled = row.iter().map(|x| (x - mean) / (variance + f64::from(eps)).sqrt());
        want.extend(scaled.zip(w.iter().zip(&b)).map(|(x, (&w, &b))| x * f64::from(w) + f64::from(b)));
    }
    assert_close("kernel", &values(&layer_norm(&xs, &weight, &bias, eps)?), &want, 1e-5);
    assert_close("composed", &values(&composed::layer_norm(&xs, &weight, &bias, eps)?), &want, 1e-5);
    let error = layer_norm(&xs, &tensor(2, &[d + 1])?, &bias, eps).unwrap_err().to_string();
    assert!(error.contains("layer_norm: weight has shape [38], expected [37]"), "{error}");
    Ok(())
}

#[test]
fn attention_against_plain_loops() -> Result<()> {
    let (b, n, heads, size) = (3, 19, 2, 5);
    let d = heads * size;
    let qkv = (tensor(1, &[b, n, 3 * d])? * 3.)?;
    let x = values(&qkv);
    let at = |image: usize, token: usize, part: usize, head: usize, i: usize| {
        f64::from(x[((image * n + token) * 3 + part) * d + head * size + i])
    };
    let mut want = vec![0.; b * n * d];
    for image in 0..b {
        for head in 0..heads {
            for token in 0..n {
                let score = |other: usize| {
                    (0..size).map(|i| at(image, token, 0, head, i) * at(image, other, 1, head, i)).sum::<f64>()
                };
                let shares: Vec<f64> = (0..n).map(|other| score(other).exp()).collect();
                let total = shares.iter().sum::<f64>();
                for i in 0..size {
                    let mixed =
                        shares.iter().enumerate().map(|(other, share)| share / total * at(image, other, 2, head, i));
                    want[(image * n + token) * d + head * size + i] = mixed.sum();
                }
            }
        }
    }
    assert_close("kernel", &values(&attention(&qkv, heads)?), &want, 1e-5);
    assert_close("composed", &values(&composed::attention(&qkv, heads)?), &want, 1e-5);
    let error = attention(&qkv, 4).unwrap_err().to_string();
    assert!(error.contains("attention: qkv has shape [3, 19, 30]"), "{error}");
    Ok(())
}

/// Rows are shared out otherwise where there are many; what a row gives does not depend on it.
#[test]
fn many_rows_of_a_linear_layer() -> Result<()> {
    let (xs, weight, bias) = (tensor(1, &[600, 70])?, tensor(2, &[33, 70])?, tensor(3, &[33])?);
    let (x, w, b) = (values(&xs), values(&weight), values(&bias));
    for bias in [Some(&bias), None] {
        let mut want = Vec::new();
        for row in x.chunks(70) {
            for (o, weight) in w.chunks(70).enumerate() {
                let products = row.iter().zip(weight).map(|(&x, &w)| f64::from(x) * f64::from(w));
                want.push(products.sum::<f64>() + bias.map_or(0., |_| f64::from(b[o])));
            }
        }
        let ys = linear(&xs, &weight, bias, Precision::F32)?;
        assert_close("many rows", &values(&ys), &want, 1e-5);
        let part = linear(&xs.narrow(0, 41, 300)?, &weight, bias, Precision::F32)?;
        assert_eq!(values(&part), values(&ys.narrow(0, 41, 300)?));
    }
    Ok(())
}
