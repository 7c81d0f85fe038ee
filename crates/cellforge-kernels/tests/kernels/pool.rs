use crate::common::{cases, check, check_in_bf16, device, values, variable};
use candle_core::{Result, Var};
use cellforge_kernels::{avg_pool2d, avg_pool2d_global, composed, max_pool2d};
use proptest::prelude::*;

/// What `pool` makes of the cells of each window that lie inside the image.
fn reference(
    xs: &[f64],
    [h, w]: [usize; 2],
    [k, s, p]: [usize; 3],
    pool: impl Fn(&mut dyn Iterator<Item = f64>) -> f64,
) -> Vec<f64> {
    let (oh, ow) = ((h + 2 * p - k) / s + 1, (w + 2 * p - k) / s + 1);
    let inside =
        |at: usize, size: usize| (at * s..at * s + k).filter_map(move |i| i.checked_sub(p).filter(|&i| i < size));
    let mut ys = Vec::new();
    for plane in xs.chunks(h * w) {
        for (y, x) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
            let mut cells = inside(y, h).flat_map(|row| inside(x, w).map(move |col| plane[row * w + col]));
            ys.push(pool(&mut cells));
        }
    }
    ys
}

fn largest(cells: &mut dyn Iterator<Item = f64>) -> f64 {
    cells.fold(f64::NEG_INFINITY, f64::max)
}

/// The mean of the cells, or of as many as are given with zeros for those that are missing.
fn mean(cells: &mut dyn Iterator<Item = f64>, of: Option<usize>) -> f64 {
    let (n, sum) = cells.fold((0, 0.), |(n, sum), x| (n + 1, sum + x));
    sum / of.unwrap_or(n) as f64
}

/// Whole numbers of up to 8 bits, of which no two within 257 elements are equal.
fn distinct(dims: &[usize]) -> Var {
    let numbers = (0..dims.iter().product::<usize>()).map(|i| (i * 7919 % 257) as f32 - 128.);
    Var::from_vec(numbers.collect::<Vec<_>>(), dims, &device()).expect("as many numbers")
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn any_shape(b in 1usize..3, c in 1usize..3, h in 4usize..9, w in 4usize..9, k in 1usize..5, s in 1usize..4, p in 0usize..3) {
        let p = p.min(k / 2);
        let vars = [variable(1, &[b, c, h, w])];
        let maxima = |x: &[Vec<f64>]| reference(&x[0], [h, w], [k, s, p], largest);
        check(&vars, |t| max_pool2d(&t[0], k, s, p), maxima);
        check(&vars, |t| composed::max_pool2d(&t[0], k, s, p), maxima);
        check_in_bf16(40, 1, &[distinct(&[b, c, h, w])], |t| max_pool2d(&t[0], k, s, p), maxima);
        for padding_counts in [false, true] {
            let of = padding_counts.then_some(k * k);
            let means = |x: &[Vec<f64>]| reference(&x[0], [h, w], [k, s, p], |cells| mean(cells, of));
            check(&vars, |t| avg_pool2d(&t[0], k, s, p, padding_counts), means);
            check(&vars, |t| composed::avg_pool2d(&t[0], k, s, p, padding_counts), means);
            check_in_bf16(40, 1, &vars, |t| avg_pool2d(&t[0], k, s, p, padding_counts), means);
        }
    }
}

/// Candle's own pooling would give 1/4 here; and of equal cells the first takes everything.
#[test]
fn the_first_maximum_takes_the_whole_gradient() -> Result<()> {
    for pool in [max_pool2d, composed::max_pool2d] {
        let xs = Var::from_vec(vec![1f32, 5., 5., 2., 0., 0., 0., 0.], (1, 1, 2, 4), &device())?;
        let grads = pool(&xs, 2, 2, 0)?.sum_all()?.backward()?;
        assert_eq!(values(grads.get(&xs).expect("a variable")), [0., 1., 1., 0., 0., 0., 0., 0.]);
        let flat = Var::from_vec(vec![0f32; 9], (1, 1, 3, 3), &device())?;
        let grads = pool(&flat, 3, 2, 1)?.sum_all()?.backward()?;
        // Windows of rows and columns (0..2, 0..2), (0..2, 1..3), (1..3, 0..2), (1..3, 1..3).
        assert_eq!(values(grads.get(&flat).expect("a variable")), [1., 1., 0., 1., 1., 0., 0., 0., 0.]);
    }
    Ok(())
}

#[test]
fn padding_never_wins() -> Result<()> {
    let xs = Var::from_vec(vec![-3f32, -2., -5., -4.], (1, 1, 2, 2), &device())?;
    assert_eq!(values(&max_pool2d(&xs, 3, 2, 1)?), [-2.]);
    assert_eq!(values(&composed::max_pool2d(&xs, 3, 2, 1)?), [-2.]);
    Ok(())
}

/// A window of 3 around each pixel of a 2x2 image covers all four pixels and five padded cells.
#[test]
fn padded_cells_count_in_a_mean_only_if_asked_for() -> Result<()> {
    let xs = Var::from_vec(vec![1f32, 2., 3., 6.], (1, 1, 2, 2), &device())?;
    for pool in [avg_pool2d, composed::avg_pool2d] {
        assert_eq!(values(&pool(&xs, 3, 1, 1, false)?), [3.; 4]);
        assert_eq!(values(&(pool(&xs, 3, 1, 1, true)? * 3.)?), [4.; 4]);
    }
    Ok(())
}

#[test]
fn global_average() {
    let vars = [variable(1, &[2, 3, 5, 4])];
    let plain = |p: &[Vec<f64>]| -> Vec<f64> { p[0].chunks(20).map(|plane| plane.iter().sum::<f64>() / 20.).collect() };
    check(&vars, |t| avg_pool2d_global(&t[0]), plain);
    check(&vars, |t| composed::avg_pool2d_global(&t[0]), plain);
    check_in_bf16(40, 1, &vars, |t| avg_pool2d_global(&t[0]), plain);
}

#[test]
fn impossible_windows_are_errors() {
    let xs = variable(1, &[1, 1, 3, 3]);
    for (window, stride, padding) in [(4, 1, 0), (0, 1, 0), (2, 0, 0), (2, 1, 2)] {
        let error = max_pool2d(&xs, window, stride, padding).expect_err("this must fail").to_string();
        assert!(error.starts_with("max_pool2d: "), "{error}");
        let error = avg_pool2d(&xs, window, stride, padding, true).expect_err("this must fail").to_string();
        assert!(error.starts_with("avg_pool2d: "), "{error}");
    }
}
