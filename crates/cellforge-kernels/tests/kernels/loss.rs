use crate::common::{check, device, on_gpu, values, variable};
use candle_core::{Result, Tensor, Var};
use cellforge_kernels::{bce_with_logits, composed, cross_entropy, hinge, mean, mse, softmax_bce, sum};

fn softmax(row: &[f64]) -> Vec<f64> {
    let sum: f64 = row.iter().map(|z| z.exp()).sum();
    row.iter().map(|z| z.exp() / sum).collect()
}

#[test]
fn values_and_gradients() -> Result<()> {
    let ids = [2u32, 0, 1, 2, 2];
    let targets = Tensor::new(&ids, &device())?;
    let vars = [variable(1, &[5, 3])];
    let ce = |p: &[Vec<f64>]| {
        let rows = p[0].chunks(3).zip(&ids);
        vec![rows.map(|(row, &id)| -softmax(row)[id as usize].ln()).sum::<f64>() / 5.]
    };
    check(&vars, |t| cross_entropy(&t[0], &targets), ce);
    check(&vars, |t| composed::cross_entropy(&t[0], &targets), ce);
    let bce = |p: &[Vec<f64>]| {
        let row_loss = |(row, &id): (&[f64], &u32)| -> f64 {
            let given = |(j, p): (usize, &f64)| if j == id as usize { *p } else { 1. - p };
            softmax(row).iter().enumerate().map(|at| -given(at).ln()).sum()
        };
        vec![p[0].chunks(3).zip(&ids).map(row_loss).sum::<f64>() / 15.]
    };
    check(&vars, |t| softmax_bce(&t[0], &targets), bce);
    check(&vars, |t| composed::softmax_bce(&t[0], &targets), bce);
    for target in [0f32, 1., 0.9] {
        let t = f64::from(target);
        let plain = |p: &[Vec<f64>]| {
            let one = |z: &f64| (1. + z.exp()).ln() - t * z;
            vec![p[0].iter().map(one).sum::<f64>() / p[0].len() as f64]
        };
        let vars = [variable(1, &[7, 1])];
        check(&vars, |x| bce_with_logits(&x[0], target), plain);
        check(&vars, |x| composed::bce_with_logits(&x[0], target), plain);
    }
    Ok(())
}

/// Logits far apart: exp overflows in f32 unless the largest is taken out first.
#[test]
fn extreme_logits() -> Result<()> {
    let logits = Var::from_vec(vec![200f32, -200.], (1, 2), &device())?;
    let (right, wrong) = (Tensor::new(&[0u32], &device())?, Tensor::new(&[1u32], &device())?);
    for ce in [cross_entropy, composed::cross_entropy] {
        assert_eq!(ce(&logits, &right)?.to_scalar::<f32>()?, 0.);
        let loss = ce(&logits, &wrong)?;
        assert_eq!(loss.to_scalar::<f32>()?, 400.);
        assert_eq!(values(loss.backward()?.get(&logits).expect("a variable")), [1., -1.]);
    }
    // Both probabilities are clipped to 1e-7, -ln(1e-7) = 16.118, and a clipped probability passes no gradient.
    for bce in [softmax_bce, composed::softmax_bce] {
        let loss = bce(&logits, &wrong)?;
        assert!((loss.to_scalar::<f32>()? - 16.118).abs() < 1.);
        assert_eq!(values(loss.backward()?.get(&logits).expect("a variable")), [0., 0.]);
    }
    assert!((softmax_bce(&logits, &wrong)?.to_scalar::<f32>()? - 16.118_095).abs() < 1e-4);
    let column = Var::from_vec(vec![200f32, -200., 0.], (3, 1), &device())?;
    for bce in [bce_with_logits, composed::bce_with_logits] {
        // Against 0: 200, 0 and ln 2, over three; sigmoids 1, 0 and 1/2.
        let loss = bce(&column, 0.)?;
        assert!((loss.to_scalar::<f32>()? - (200. + 2f32.ln()) / 3.).abs() < 1e-4);
        let grad = values(loss.backward()?.get(&column).expect("a variable"));
        for (g, want) in grad.iter().zip([1. / 3., 0., 1. / 6.]) {
            assert!((g - want).abs() < 1e-6, "{grad:?}");
        }
    }
    Ok(())
}

#[test]
fn bad_targets_are_errors() -> Result<()> {
    let logits = variable(1, &[2, 3]);
    let message = |t: Tensor| cross_entropy(&logits, &t).expect_err("this must fail").to_string();
    let no_class = Tensor::new(&[0u32, 3], &device())?;
    if on_gpu() {
        assert!(cross_entropy(&logits, &no_class)?.to_scalar::<f32>()?.is_nan());
    } else {
        assert!(message(no_class).contains("target 3 is not below the number of classes, 3"));
    }
    assert!(message(Tensor::new(&[0u32], &device())?).contains("expected U32 of shape [2]"));
    assert!(message(Tensor::new(&[0i64, 1], &device())?).contains("I64"));
    assert!(bce_with_logits(&logits, 2.).is_err());
    Ok(())
}

#[test]
fn hinges_and_means() -> Result<()> {
    let logits = vec![-2.5f32, -1.2, -0.3, 0.4, 0.9, 1.7];
    let vars = [Var::from_vec(logits, (6, 1), &device())?];
    for positive in [true, false] {
        let side = if positive { 1. } else { -1. };
        let plain = |p: &[Vec<f64>]| vec![p[0].iter().map(|z| (1. - side * z).max(0.)).sum::<f64>() / 6.];
        check(&vars, |t| hinge(&t[0], positive), plain);
        check(&vars, |t| composed::hinge(&t[0], side), plain);
    }
    assert!(hinge(&variable(1, &[4]), true).is_err());
    Ok(())
}

#[test]
fn sums_means_and_squared_errors() {
    let shapes: [&[usize]; 6] = [&[6, 1], &[1, 1], &[3, 5], &[4], &[], &[2, 3, 4, 5]];
    for dims in shapes {
        let vars = [variable(1, dims), variable(2, dims)];
        check(&vars[..1], |t| mean(&t[0]), |p| vec![p[0].iter().sum::<f64>() / p[0].len() as f64]);
        check(&vars[..1], |t| sum(&t[0]), |p| vec![p[0].iter().sum::<f64>()]);
        let plain = |p: &[Vec<f64>]| {
            vec![p[0].iter().zip(&p[1]).map(|(x, y)| (x - y) * (x - y)).sum::<f64>() / p[0].len() as f64]
        };
        check(&vars, |t| mse(&t[0], &t[1]), plain);
        check(&vars, |t| t[0].sub(&t[1])?.sqr()?.mean_all(), plain);
    }
    let empty = Tensor::zeros((0, 3), candle_core::DType::F32, &device()).expect("a shape");
    for error in [mean(&empty), sum(&empty)] {
        let error = error.expect_err("nothing to sum").to_string();
        assert!(error.contains("xs has shape [0, 3], which is empty"), "{error}");
    }
    let error = mse(&variable(1, &[2, 3]), &variable(2, &[3, 2])).expect_err("the shapes differ").to_string();
    assert!(error.contains("sub: xs has shape [2, 3], ys [3, 2]"), "{error}");
}

/// At the hinge itself and beyond it there is nothing to pay and no gradient.
#[test]
fn the_gradient_at_the_hinge_is_zero() -> Result<()> {
    for side in [1f32, -1.] {
        let logits = Var::from_vec(vec![side, 3. * side, 0.], (3, 1), &device())?;
        for loss in [hinge(&logits, side > 0.)?, composed::hinge(&logits, f64::from(side))?] {
            assert!((loss.to_scalar::<f32>()? - 1. / 3.).abs() < 1e-6);
            let grad = values(loss.backward()?.get(&logits).expect("a variable"));
            assert!(grad[0] == 0. && grad[1] == 0. && (grad[2] + side / 3.).abs() < 1e-6, "{grad:?}");
        }
    }
    Ok(())
}
