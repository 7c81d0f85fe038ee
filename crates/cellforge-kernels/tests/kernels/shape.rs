use crate::common::{check, variable};
use cellforge_kernels::{add, pad_bottom_right, reshape};

#[test]
fn sums() {
    let vars = [variable(1, &[2, 3, 4]), variable(2, &[2, 3, 4])];
    check(&vars, |t| add(&t[0], &t[1]), |p| p[0].iter().zip(&p[1]).map(|(x, y)| x + y).collect());
    // One tensor as both operands takes the gradient of both.
    check(&vars[..1], |t| add(&t[0], &t[0]), |p| p[0].iter().map(|x| 2. * x).collect());
    let error = add(&vars[0], &variable(3, &[2, 4, 3])).expect_err("the shapes differ").to_string();
    assert!(error.contains("add: xs has shape [2, 3, 4], ys [2, 4, 3]"), "{error}");
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
    }
    assert!(pad_bottom_right(&variable(1, &[4, 5]), 1).is_err());
}

#[test]
fn reshaping() {
    check(&[variable(1, &[2, 3, 4])], |t| reshape(&t[0], &[4, 6]), |p| p[0].clone());
    assert!(reshape(&variable(1, &[2, 3, 4]), &[5, 5]).is_err());
}
