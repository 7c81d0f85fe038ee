//! Products of `bf16`, and on GPUs of `tf32`, against those of `f32`.

use crate::common::{cases, device, on_gpu, random, rounded, values, variable};
use candle_core::{Result, Tensor, Var};
use cellforge_kernels::{
    Conv2dConfig, Padding, Precision, conv2d, conv2d_add, to_precision, upsample2x_conv2d, with_plain_sums,
};
use proptest::prelude::*;

type Op<'a> = &'a (dyn Fn(&[Tensor], Precision) -> Result<Tensor> + Sync);

/// Those whose sums are not rounded: the emulation, and the instruction where the processor has it. A GPU rounds sums of products of
/// `bf16` to `bf16`.
fn exact() -> Vec<Precision> {
    if on_gpu() { vec![Precision::Tf32] } else { lower() }
}

/// Those whose factors are rounded to `bf16`.
fn lower() -> Vec<Precision> {
    match on_gpu() {
        true => vec![Precision::Bf16],
        false => [Precision::EmulatedBf16, Precision::Bf16].into_iter().filter(|p| p.is_supported()).collect(),
    }
}

/// A variable of whole numbers from -4 to 4. These, and sums of some of them, have no more digits than a `bf16`.
fn whole(seed: u64, dims: &[usize]) -> Var {
    let values = random(seed, dims.iter().product()).into_iter().map(|x| (x * 4.).round()).collect::<Vec<_>>();
    Var::from_vec(values, dims, &device()).expect("the number of values fits the shape")
}

/// The result of an operation and the gradients of a weighting of it by whole numbers, the operation's inputs being variables.
fn run(vars: &[Var], precision: Precision, op: impl Fn(&[Tensor], Precision) -> Result<Tensor>) -> Vec<Vec<f32>> {
    run_kept_in(Precision::F32, vars, precision, op)
}

/// Which of the inputs of an operation are images: the second is a kernel.
fn is_image((i, var): (usize, &Var)) -> bool {
    i != 1 && var.rank() == 4
}

/// As [`run`], with images as operations of the precision `kept` leave them in memory.
fn run_kept_in(
    kept: Precision,
    vars: &[Var],
    precision: Precision,
    op: impl Fn(&[Tensor], Precision) -> Result<Tensor>,
) -> Vec<Vec<f32>> {
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let given = vars.iter().enumerate().map(|(i, var)| match is_image((i, var)) {
        true => to_precision(var, kept),
        false => Ok(var.as_tensor().clone()),
    });
    let given = given.collect::<Result<Vec<_>>>().expect("tensors of f32");
    let ys = op(&given, precision).and_then(|ys| to_precision(&ys, Precision::F32));
    let ys = ys.expect("the operation takes these shapes");
    let weighting = whole(99, ys.dims());
    let loss = ys.mul(&weighting).and_then(|t| t.sum_all()).expect("same shape");
    let grads = loss.backward().expect("the operation has a gradient");
    let gradients = tensors.iter().map(|tensor| values(grads.get(tensor).expect("every variable has a gradient")));
    std::iter::once(values(&ys)).chain(gradients).collect()
}

/// Fails unless all precisions give the same numbers, for whole numbers, whose products and sums are all exact. Winograd's algorithm, which
/// multiplies by thirds, is `f32` in any precision.
fn check(vars: &[Var], op: impl Fn(&[Tensor], Precision) -> Result<Tensor>) {
    let want = with_plain_sums(|| run(vars, Precision::F32, &op));
    for precision in exact() {
        let got = with_plain_sums(|| run(vars, precision, &op));
        let what = || format!("{precision:?} with inputs {:?}", vars.iter().map(|var| var.dims()).collect::<Vec<_>>());
        assert!(got == want, "{}", what());
        // In memory, the result and the gradients of images are rounded, and nothing else is.
        let got = with_plain_sums(|| run_kept_in(precision, vars, precision, &op));
        let images = std::iter::once(true).chain(vars.iter().enumerate().map(is_image));
        for (i, ((got, want), is_image)) in got.iter().zip(&want).zip(images).enumerate() {
            let want = if is_image && !on_gpu() { rounded(want) } else { want.clone() };
            assert!(*got == want, "{} kept in memory: number {i}", what());
        }
    }
}

/// [`check`] of both convolutions of images and kernels of these shapes.
fn check_convolution(images: [usize; 4], kernels: [usize; 4], cfg: &Conv2dConfig) {
    let ([b, _, h, w], [o, _, kh, kw]) = (images, kernels);
    let (oh, ow) = cfg.out_size((h, w), (kh, kw)).expect("the kernel fits");
    let vars = [whole(1, &images), whole(2, &kernels), whole(3, &[o])];
    check(&vars, |t, p| conv2d(&t[0], &t[1], Some(&t[2]), &cfg.in_precision(p)));
    let vars = [whole(1, &images), whole(2, &kernels), whole(3, &[b, o, oh, ow])];
    check(&vars, |t, p| conv2d_add(&t[0], &t[1], &t[2], &cfg.in_precision(p)));
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn convolution(
        (b, c, h, w) in (1usize..4, 1usize..10, 3usize..12, 3usize..12),
        (o, kh, kw) in (1usize..10, 1usize..4, 1usize..4),
        stride in 1usize..4,
        (top, bottom, left, right) in (0usize..3, 0usize..3, 0usize..3, 0usize..3),
    ) {
        let cfg = Conv2dConfig::new(stride, Padding { top, bottom, left, right });
        check_convolution([b, c, h, w], [o, c, kh, kw], &cfg);
    }

    #[test]
    fn upsampling(b in 1usize..4, c in 1usize..10, o in 1usize..10, h in 1usize..9, w in 1usize..9) {
        let vars = [whole(1, &[b, c, h, w]), whole(2, &[o, c, 3, 3]), whole(3, &[o])];
        check(&vars, |t, p| upsample2x_conv2d(&t[0], &t[1], Some(&t[2]), p));
    }
}

/// Counts of channels for which words fill whole tiles, and others.
fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(32usize), 2 => Just(64), 1 => Just(96), 1 => Just(36), 1 => Just(70), 2 => Just(24), 1 => Just(33)]
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn convolution_in_tiles(
        (b, c, h, w) in (1usize..10, channels(), 3usize..20, 3usize..20),
        (o, kh, kw) in (channels(), 1usize..4, 1usize..4),
        stride in 1usize..4,
        (top, bottom, left, right) in (0usize..3, 0usize..3, 0usize..3, 0usize..3),
    ) {
        let cfg = Conv2dConfig::new(stride, Padding { top, bottom, left, right });
        check_convolution([b, c, h, w], [o, c, kh, kw], &cfg);
    }

    #[test]
    fn upsampling_in_tiles(b in 1usize..20, c in channels(), o in channels(), h in 1usize..20, w in 1usize..20) {
        let vars = [whole(1, &[b, c, h, w]), whole(2, &[o, c, 3, 3]), whole(3, &[o])];
        check(&vars, |t, p| upsample2x_conv2d(&t[0], &t[1], Some(&t[2]), p));
        check(&vars[..2], |t, p| upsample2x_conv2d(&t[0], &t[1], None, p));
    }
}

/// Shapes of the networks: several panels, strips and images at once.
#[test]
fn large_shapes() {
    let strided = Conv2dConfig::new(2, Padding { top: 0, bottom: 1, left: 0, right: 1 });
    let vars = [whole(1, &[17, 34, 8, 8]), whole(2, &[70, 34, 3, 3]), whole(3, &[70])];
    check(&vars, |t, p| conv2d(&t[0], &t[1], Some(&t[2]), &strided.in_precision(p)));
    let vars = [whole(1, &[1, 40, 66, 64]), whole(2, &[33, 40, 3, 3]), whole(3, &[33])];
    check(&vars, |t, p| conv2d(&t[0], &t[1], Some(&t[2]), &strided.in_precision(p)));
    let vars = [whole(1, &[9, 70, 4, 4]), whole(2, &[66, 70, 3, 3]), whole(3, &[66])];
    check(&vars, |t, p| upsample2x_conv2d(&t[0], &t[1], Some(&t[2]), p));
    let vars = [whole(1, &[1, 18, 34, 32]), whole(2, &[20, 18, 3, 3]), whole(3, &[20])];
    check(&vars, |t, p| upsample2x_conv2d(&t[0], &t[1], Some(&t[2]), p));
    // In tiles, in place and copied, of the study's discriminator and generator.
    let same = Conv2dConfig::new(1, Padding::uniform(1));
    let vars = [whole(1, &[7, 128, 9, 9]), whole(2, &[160, 128, 3, 3]), whole(3, &[160])];
    check(&vars, |t, p| conv2d(&t[0], &t[1], Some(&t[2]), &same.in_precision(p)));
    let vars = [whole(1, &[2, 32, 33, 17]), whole(2, &[32, 32, 3, 3]), whole(3, &[32])];
    check(&vars, |t, p| conv2d(&t[0], &t[1], Some(&t[2]), &same.in_precision(p)));
    // From and to three colours, and of counts that leave tiles partly empty.
    for (c, o) in [(3, 24), (24, 3), (24, 24), (24, 48), (12, 200)] {
        let vars = [whole(1, &[3, c, 19, 21]), whole(2, &[o, c, 3, 3]), whole(3, &[o])];
        check(&vars, |t, p| conv2d(&t[0], &t[1], Some(&t[2]), &same.in_precision(p)));
    }
    let vars = [whole(1, &[2, 32, 40, 64]), whole(2, &[64, 32, 3, 3]), whole(3, &[64])];
    check(&vars, |t, p| conv2d(&t[0], &t[1], Some(&t[2]), &strided.in_precision(p)));
    let vars = [whole(1, &[35, 128, 4, 4]), whole(2, &[96, 128, 3, 3]), whole(3, &[96])];
    check(&vars, |t, p| upsample2x_conv2d(&t[0], &t[1], Some(&t[2]), p));
    let vars = [whole(1, &[2, 64, 32, 32]), whole(2, &[128, 64, 3, 3]), whole(3, &[128])];
    check(&vars, |t, p| upsample2x_conv2d(&t[0], &t[1], Some(&t[2]), p));
}

/// On other numbers results differ, by no more than rounding each factor to 8 bits explains.
#[test]
fn rounding_is_small_and_there() {
    let vars = [variable(1, &[4, 32, 8, 8]), variable(2, &[32, 32, 3, 3]), variable(3, &[32])];
    let strided = Conv2dConfig::new(2, Padding::uniform(1));
    let ops: [Op; 2] = [&|t, p| conv2d(&t[0], &t[1], Some(&t[2]), &strided.in_precision(p)), &|t, p| {
        upsample2x_conv2d(&t[0], &t[1], Some(&t[2]), p)
    }];
    for op in ops {
        let want = run(&vars, Precision::F32, op);
        for precision in lower() {
            let got = run(&vars, precision, op);
            // The bias's gradient is a sum, not one of products.
            for (got, want) in got.iter().zip(&want).take(3) {
                let size = (want.iter().map(|x| x * x).sum::<f32>() / want.len() as f32).sqrt();
                let error = got.iter().zip(want).map(|(x, y)| (x - y).abs()).fold(0., f32::max) / size;
                assert!((1e-4..0.03).contains(&error), "{precision:?}: {error}");
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let same = Conv2dConfig::new(1, Padding::uniform(1));
    for (c, o) in [(34, 70), (64, 96)] {
        let vars = [variable(1, &[9, c, 8, 8]), variable(2, &[o, c, 3, 3]), variable(3, &[o])];
        let ops: [Op; 2] = [&|t, p| conv2d(&t[0], &t[1], Some(&t[2]), &same.in_precision(p)), &|t, p| {
            upsample2x_conv2d(&t[0], &t[1], Some(&t[2]), p)
        }];
        for (op, precision) in ops.into_iter().flat_map(|op| lower().into_iter().map(move |precision| (op, precision)))
        {
            let with = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
                pool.install(|| [run(&vars, precision, op), run_kept_in(precision, &vars, precision, op)])
            };
            let one = with(1);
            assert!([2, 3, 7].into_iter().all(|threads| with(threads) == one), "{precision:?}, {c} channels to {o}");
        }
    }
}
