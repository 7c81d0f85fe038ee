use crate::common::{check, check_in_bf16, values, variable};
use cellforge_kernels::{add, mul, pad_bottom_right, reshape, row_dot, scale, sqr, sub};

#[test]
fn sums() {
    let vars = [variable(1, &[2, 3, 4]), variable(2, &[2, 3, 4])];
    check(&vars, |t| add(&t[0], &t[1]), |p| p[0].iter().zip(&p[1]).map(|(x, y)| x + y).collect());
    // One tensor as both operands takes the gradient of both.
    check(&vars[..1], |t| add(&t[0], &t[0]), |p| p[0].iter().map(|x| 2. * x).collect());
    let error = add(&vars[0], &variable(3, &[2, 4, 3])).expect_err("the shapes differ").to_string();
    assert!(error.contains("add: xs has shape [2, 3, 4], ys [2, 4, 3]"), "{error}");
}

#[test]
fn differences_products_and_squares() {
    let last = |t: &candle_core::Tensor| t.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2));
    let shapes: [&[usize]; 3] = [&[2, 3, 4], &[], &[2, 3, 4, 5]];
    for dims in shapes {
        let vars = [variable(1, dims), variable(2, dims)];
        check(&vars, |t| sub(&t[0], &t[1]), |p| p[0].iter().zip(&p[1]).map(|(x, y)| x - y).collect());
        check(&vars, |t| mul(&t[0], &t[1]), |p| p[0].iter().zip(&p[1]).map(|(x, y)| x * y).collect());
        check(&vars[..1], |t| sqr(&t[0]), |p| p[0].iter().map(|x| x * x).collect());
        let pairs = |p: &[Vec<f64>], f: fn(f64, f64) -> f64| p[0].iter().zip(&p[1]).map(|(&x, &y)| f(x, y)).collect();
        check_in_bf16(40, 2, &vars, |t| add(&t[0], &t[1]), |p| pairs(p, |x, y| x + y));
        check_in_bf16(40, 2, &vars, |t| sub(&t[0], &t[1]), |p| pairs(p, |x, y| x - y));
        check_in_bf16(40, 2, &vars, |t| mul(&t[0], &t[1]), |p| pairs(p, |x, y| x * y));
        // Candle's expressions give the same values.
        for (ours, candles) in [
            (sub(&vars[0], &vars[1]), vars[0].sub(&vars[1])),
            (mul(&vars[0], &vars[1]), vars[0].mul(&vars[1])),
            (sqr(&vars[0]), vars[0].sqr()),
        ] {
            assert_eq!(values(&ours.expect("one shape")), values(&candles.expect("one shape")));
        }
        if dims.len() == 4 {
            // Images whose channels lie side by side, and one of them that does not.
            check(&vars, |t| mul(&last(&t[0])?, &t[1]), |p| p[0].iter().zip(&p[1]).map(|(x, y)| x * y).collect());
            check(&vars, |t| sub(&t[0], &last(&t[1])?), |p| p[0].iter().zip(&p[1]).map(|(x, y)| x - y).collect());
        }
    }
    for (name, error) in
        [("sub", sub(&variable(1, &[2]), &variable(2, &[3]))), ("mul", mul(&variable(1, &[2]), &variable(2, &[3])))]
    {
        let error = error.expect_err("the shapes differ").to_string();
        assert!(error.contains(&format!("{name}: xs has shape [2], ys [3]")), "{error}");
    }
}

/// Each row with zeros on its right, and rows of zeros below the last.
fn padded(xs: &[f64], [h, w]: [usize; 2], rows: usize) -> Vec<f64> {
    let mut ys = Vec::new();
    for plane in xs.chunks(h * w) {
        for row in plane.chunks(w) {
            ys.extend_from_slice(row);
            ys.resize(ys.len() + rows, 0.);
        }
        ys.resize(ys.len() + rows * (w + rows), 0.);
    }
    ys
}

#[test]
fn padding() {
    for rows in [0, 1, 3] {
        let vars = [variable(1, &[2, 3, 4, 5])];
        check(&vars, |t| pad_bottom_right(&t[0], rows), |p| padded(&p[0], [4, 5], rows));
        check_in_bf16(40, 1, &vars, |t| pad_bottom_right(&t[0], rows), |p| padded(&p[0], [4, 5], rows));
    }
    assert!(pad_bottom_right(&variable(1, &[4, 5]), 1).is_err());
}

#[test]
fn reshaping() {
    check(&[variable(1, &[2, 3, 4])], |t| reshape(&t[0], &[4, 6]), |p| p[0].clone());
    check_in_bf16(40, 1, &[variable(1, &[2, 3, 4])], |t| reshape(&t[0], &[4, 6]), |p| p[0].clone());
    assert!(reshape(&variable(1, &[2, 3, 4]), &[5, 5]).is_err());
}

#[test]
fn factors() {
    let plain = |p: &[Vec<f64>]| -> Vec<f64> { p[0].iter().map(|x| f64::from(-1.3f32) * x).collect() };
    check(&[variable(1, &[2, 3, 7])], |t| scale(&t[0], -1.3), plain);
    check_in_bf16(40, 1, &[variable(1, &[2, 3, 7])], |t| scale(&t[0], -1.3), plain);
    // Images whose channels lie side by side.
    let last = |t: &candle_core::Tensor| t.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2));
    check(&[variable(1, &[2, 3, 4, 5])], |t| scale(&last(&t[0])?, -1.3), plain);
}

#[test]
fn dot_products_of_rows() {
    let dots = |xs: &[f64], ys: &[f64], n: usize| -> Vec<f64> {
        xs.chunks(n).zip(ys.chunks(n)).map(|(x, y)| x.iter().zip(y).map(|(x, y)| x * y).sum()).collect()
    };
    for (b, n) in [(1, 1), (1, 7), (5, 1), (3, 33)] {
        let vars = [variable(1, &[b, n]), variable(2, &[b, n])];
        check(&vars, |t| row_dot(&t[0], &t[1]), |p| dots(&p[0], &p[1], n));
        // One matrix as both operands takes the gradient of both.
        check(&vars[..1], |t| row_dot(&t[0], &t[0]), |p| dots(&p[0], &p[0], n));
    }
    let transposed = [variable(1, &[4, 3]), variable(2, &[3, 4])];
    let turned = |xs: &[f64]| -> Vec<f64> { (0..3).flat_map(|j| (0..4).map(move |i| xs[i * 3 + j])).collect() };
    check(&transposed, |t| row_dot(&t[0].t()?, &t[1]), |p| dots(&turned(&p[0]), &p[1], 4));
    assert_eq!(row_dot(&transposed[0], &transposed[0]).expect("rows").dims(), [4, 1]);
    let error = row_dot(&transposed[0], &transposed[1]).expect_err("the shapes differ").to_string();
    assert!(error.contains("row_dot: xs has shape [4, 3], ys [3, 4]"), "{error}");
}
