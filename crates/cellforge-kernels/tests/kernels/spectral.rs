use crate::common::{cases, check, device, off_zero, variable};
use candle_core::{Result, Var};
use cellforge_kernels::{composed, spectral_normalised};
use proptest::prelude::*;

/// Weights, and vectors along which their `u^T W v` is far from zero.
fn weights(dims: &[usize]) -> (Var, Var, Var) {
    let (rows, cols) = (dims[0], dims[1..].iter().product());
    let (u, v) = (off_zero(2, &[rows]), off_zero(3, &[cols]));
    let outer = u.unsqueeze(1).and_then(|u| u.broadcast_mul(&v.unsqueeze(0)?)).and_then(|uv| uv.reshape(dims));
    let random = variable(1, dims).affine(0.3, 0.);
    let weight = outer.and_then(|uv| Var::from_tensor(&(uv + random?)?.detach()));
    (weight.expect("one shape"), u, v)
}

fn check_spectral(dims: &[usize]) {
    let (weight, u, v) = weights(dims);
    let [us, vs] = [&u, &v].map(|t| t.to_vec1::<f32>().expect("a vector"));
    let plain = |p: &[Vec<f64>]| -> Vec<f64> {
        let dot = |row: &[f64]| -> f64 { row.iter().zip(&vs).map(|(w, &v)| w * f64::from(v)).sum() };
        let sigma: f64 = p[0].chunks(vs.len()).zip(&us).map(|(row, &u)| f64::from(u) * dot(row)).sum();
        p[0].iter().map(|w| w / sigma).collect()
    };
    let vars = [weight];
    check(&vars, |t| spectral_normalised(&t[0], &u, &v), plain);
    check(&vars, |t| composed::spectral_normalised(&t[0], &u, &v), plain);
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn matrices_and_kernels(rows in 1usize..8, cols in 1usize..9, k in 1usize..4) {
        check_spectral(&[rows, cols]);
        check_spectral(&[rows, cols, k, 3]);
    }
}

#[test]
fn the_vectors_are_constants() -> Result<()> {
    for f in [spectral_normalised, composed::spectral_normalised] {
        let (weight, u, v) = weights(&[3, 2, 3, 3]);
        let grads = f(&weight, &u, &v)?.sum_all()?.backward()?;
        assert!(grads.get(&weight).is_some() && grads.get(&u).is_none() && grads.get(&v).is_none());
    }
    Ok(())
}

#[test]
fn errors_name_the_operation() {
    let (weight, u, v) = weights(&[3, 4]);
    let message =
        |weight: &Var, u: &Var, v: &Var| spectral_normalised(weight, u, v).expect_err("this must fail").to_string();
    let error = message(&u, &u, &v);
    assert!(error.contains("spectral_normalised: weight has shape [3], expected a non-empty matrix"), "{error}");
    assert!(message(&weight, &v, &v).contains("spectral_normalised: u has shape [4], expected [3]"));
    assert!(message(&weight, &u, &u).contains("spectral_normalised: v has shape [3], expected [4]"));
    let half = Var::zeros((3, 4), candle_core::DType::F16, &device()).expect("zeros");
    assert!(message(&half, &u, &v).contains("weight is F16"));
}
