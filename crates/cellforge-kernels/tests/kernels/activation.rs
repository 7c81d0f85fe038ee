use crate::common::{check, check_in_bf16, device, random, values, variable};
use candle_core::{Result, Tensor, Var};
use cellforge_kernels::{
    DropoutMask, Precision, composed, dropout, leaky_relu, leaky_relu_dropout, leaky_relu_jvp, relu, tanh, to_precision,
};

#[test]
fn values_and_gradients() {
    // More elements than one task takes.
    let vars = [variable(1, &[3, 7001])];
    let leaky = |slope: f64| {
        move |p: &[Vec<f64>]| -> Vec<f64> { p[0].iter().map(|&x| x.max(0.) + slope * x.min(0.)).collect() }
    };
    check(&vars, |t| relu(&t[0]), leaky(0.));
    check(&vars, |t| leaky_relu(&t[0], 0.2), leaky(f64::from(0.2f32)));
    check(&vars, |t| composed::leaky_relu(&t[0], 0.2), leaky(f64::from(0.2f32)));
    let plain_tanh = |p: &[Vec<f64>]| -> Vec<f64> { p[0].iter().map(|x| x.tanh()).collect() };
    check(&vars, |t| tanh(&t[0]), plain_tanh);
    check(&vars, |t| composed::tanh(&t[0]), plain_tanh);
    check_in_bf16(40, 1, &vars, |t| relu(&t[0]), leaky(0.));
    check_in_bf16(40, 1, &vars, |t| leaky_relu(&t[0], 0.2), leaky(f64::from(0.2f32)));
}

/// PyTorch's convention at zero: 0 for ReLU (Candle's own says 1) and the slope for the leaky one.
/// Results beyond a few megabytes are written in another way.
#[test]
fn large_results() {
    for len in [(1 << 19) + 1, 600_003] {
        let xs = random(1, len);
        let ys = relu(&Tensor::new(xs.as_slice(), &device()).expect("a vector")).expect("a vector");
        assert_eq!(values(&ys), xs.iter().map(|x| x.max(0.)).collect::<Vec<_>>());
    }
}

/// Within 4 units in the last place from where the result is the input itself to where it is 1, and beyond.
#[test]
fn tanh_is_precise() {
    let mut xs: Vec<f32> = (0..40_000).map(|i| (i as f32 / 2000. - 20.).exp2() * 16.).collect();
    xs.extend([0., -0., 9.01, 10., 88., 1e30, f32::INFINITY, f32::MIN_POSITIVE, 1e-40]);
    xs.extend(xs.clone().iter().map(|x| -x));
    let ys = values(&tanh(&Tensor::new(xs.as_slice(), &device()).expect("a vector")).expect("a vector"));
    for (&x, y) in xs.iter().zip(ys) {
        let want = f64::from(x).tanh();
        let unit = f64::from(f32::EPSILON) / 2. * want.abs();
        assert!((f64::from(y) - want).abs() <= 4. * unit + 1e-44, "tanh({x}) is {y}, expected {want}");
        assert_eq!(y.is_sign_negative(), x.is_sign_negative(), "tanh({x}) is {y}");
    }
    let nan = tanh(&Tensor::new(&[f32::NAN], &device()).expect("a vector")).expect("a vector");
    assert!(values(&nan)[0].is_nan());
}

#[test]
fn gradient_at_zero() -> Result<()> {
    let xs = Var::from_vec(vec![0f32, -0., 1., -1.], 4, &device())?;
    let grad = |slope| -> Result<[Vec<f32>; 2]> {
        let fast = if slope == 0. { relu(&xs)? } else { leaky_relu(&xs, slope)? };
        let get =
            |ys: Tensor| -> Result<Vec<f32>> { Ok(values(ys.sum_all()?.backward()?.get(&xs).expect("a variable"))) };
        Ok([get(fast)?, get(composed::leaky_relu(&xs, slope)?)?])
    };
    assert_eq!(grad(0.)?, [[0., 0., 1., 0.], [0., 0., 1., 0.]]);
    assert_eq!(grad(0.25)?, [[0.25, 0.25, 1., 0.25], [0.25, 0.25, 1., 0.25]]);
    Ok(())
}

#[test]
fn masks() {
    let keep: Vec<u8> = (0..60).map(|i| u8::from(i % 3 != 0)).collect();
    let mask = DropoutMask::new(keep.clone(), 1.5);
    let vars = [variable(1, &[3, 4, 5])];
    let plain = |p: &[Vec<f64>]| -> Vec<f64> { p[0].iter().zip(&keep).map(|(x, &k)| 1.5 * x * f64::from(k)).collect() };
    check(&vars, |t| dropout(&t[0], mask.clone()), plain);
    check(&vars, |t| composed::dropout(&t[0], &mask), plain);
    let leaky = |p: &[Vec<f64>]| plain(p).into_iter().map(|x| if x > 0. { x } else { f64::from(0.2f32) * x }).collect();
    check(&vars, |t| leaky_relu_dropout(&t[0], 0.2, mask.clone()), leaky);
    check_in_bf16(40, 1, &vars, |t| dropout(&t[0], mask.clone()), plain);
    check_in_bf16(40, 1, &vars, |t| leaky_relu_dropout(&t[0], 0.2, mask.clone()), leaky);
    // The channels of a pixel lie side by side in the mask of images.
    let images = [variable(1, &[1, 3, 4, 5])];
    let at = |i: usize| keep[i % 20 * 3 + i / 20];
    let plain =
        |p: &[Vec<f64>]| -> Vec<f64> { p[0].iter().enumerate().map(|(i, x)| 1.5 * x * f64::from(at(i))).collect() };
    check(&images, |t| dropout(&t[0], mask.clone()), plain);
    check(&images, |t| composed::dropout(&t[0], &mask), plain);
    let leaky = |p: &[Vec<f64>]| plain(p).into_iter().map(|x| if x > 0. { x } else { f64::from(0.2f32) * x }).collect();
    check(&images, |t| leaky_relu_dropout(&t[0], 0.2, mask.clone()), leaky);

    let short = DropoutMask::new(vec![1; 59], 1.);
    assert!(dropout(&vars[0], short.clone()).is_err() && leaky_relu_dropout(&vars[0], 0.2, short).is_err());
}

/// The tangent keeps the slopes of another place, whatever the order in which either lies in memory.
#[test]
fn tangents() -> Result<()> {
    for slope in [0., 0.2] {
        let plain = |p: &[Vec<f64>], at: &[f32]| -> Vec<f64> {
            let slope = |at: f32| if at > 0. { 1. } else { f64::from(slope) };
            p[0].iter().zip(at).map(|(x, &at)| x * slope(at)).collect()
        };
        // More elements than one task takes.
        let (vars, at) = ([variable(1, &[3, 7001])], variable(2, &[3, 7001]));
        check(&vars, |t| leaky_relu_jvp(&t[0], &at, slope), |p| plain(p, &values(&at)));
        check(&vars, |t| composed::leaky_relu_jvp(&t[0], &at, slope), |p| plain(p, &values(&at)));
        // Rounding keeps the signs.
        let lower = to_precision(&at, Precision::EmulatedBf16)?;
        check_in_bf16(40, 1, &vars, |t| leaky_relu_jvp(&t[0], &lower, slope), |p| plain(p, &values(&at)));

        let (vars, contiguous) = ([variable(1, &[2, 3, 4, 5])], variable(2, &[2, 3, 4, 5]));
        let last = |t: &Tensor| t.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2));
        for at in [contiguous.as_tensor().clone(), last(&contiguous)?] {
            let plain = |p: &[Vec<f64>]| plain(p, &values(&at));
            check(&vars, |t| leaky_relu_jvp(&t[0], &at, slope), plain);
            check(&vars, |t| leaky_relu_jvp(&last(&t[0])?, &at, slope), plain);
            check(&vars, |t| composed::leaky_relu_jvp(&last(&t[0])?, &at, slope), plain);
        }
    }
    Ok(())
}

#[test]
fn the_place_of_a_tangent_is_a_constant_and_zero_is_not_positive() -> Result<()> {
    for f in [leaky_relu_jvp, composed::leaky_relu_jvp] {
        let (xs, at) = (Var::new(&[1f32, 1., 1.], &device())?, Var::new(&[0f32, -1., 1.], &device())?);
        let ys = f(&xs, &at, 0.25)?;
        assert_eq!(values(&ys), [0.25, 0.25, 1.]);
        let grads = ys.sum_all()?.backward()?;
        assert_eq!(values(grads.get(&xs).expect("a variable")), [0.25, 0.25, 1.]);
        assert!(grads.get(&at).is_none());
    }
    let error = leaky_relu_jvp(&variable(1, &[2, 3]), &variable(2, &[3, 2]), 0.2).expect_err("other shapes");
    assert!(error.to_string().contains("leaky_relu_jvp: xs has shape [2, 3], at [3, 2]"), "{error}");
    Ok(())
}
