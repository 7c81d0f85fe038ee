use crate::common::{cases, check, device, values, variable};
use candle_core::{Result, Tensor};
use cellforge_kernels::{ImageMap, composed, remap};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Any map: shifts of up to the whole side, holes that reach beyond it, lie outside or are empty.
fn any_map(rng: &mut ChaCha8Rng, [h, w]: [usize; 2]) -> ImageMap {
    let turns = rng.random_range(0..4u8);
    let mut within = |least: i64, side: usize| rng.random_range(least * side as i64..=side as i64) as isize;
    let (shift, hole) = ([within(-1, h), within(-1, w)], [within(-1, h), within(-1, w), within(0, h), within(0, w)]);
    ImageMap {
        turns: if h == w { turns } else { turns & 2 },
        mirrored: rng.random(),
        shift,
        fill: rng.random_range(-1f32..1.),
        colour: std::array::from_fn(|_| std::array::from_fn(|_| rng.random_range(-1f32..1.))),
        hole,
    }
}

/// A counter-clockwise quarter turn of `h` rows of `w`: the last column becomes the first row.
fn turned(plane: &[f64], h: usize, w: usize) -> Vec<f64> {
    (0..w).rev().flat_map(|j| (0..h).map(move |i| plane[i * w + j])).collect()
}

/// One image, of channels one after the other, changed step by step.
fn mapped(xs: &[f64], map: &ImageMap, [h, w]: [usize; 2]) -> Vec<f64> {
    let moved = |plane: &[f64]| -> Vec<f64> {
        let mut plane = plane.to_vec();
        let (mut rows, mut cols) = (h, w);
        for _ in 0..map.turns {
            plane = turned(&plane, rows, cols);
            (rows, cols) = (cols, rows);
        }
        if map.mirrored {
            plane.chunks_mut(cols).for_each(|row| row.reverse());
        }
        let at = |i: usize, j: usize| {
            let (i, j) = (i.checked_add_signed(-map.shift[0]), j.checked_add_signed(-map.shift[1]));
            match (i, j) {
                (Some(i), Some(j)) if i < h && j < w => plane[i * w + j],
                _ => f64::from(map.fill),
            }
        };
        (0..h).flat_map(|i| (0..w).map(move |j| (i, j))).map(|(i, j)| at(i, j)).collect()
    };
    let planes: Vec<Vec<f64>> = xs.chunks(h * w).map(moved).collect();
    let covered = |at: usize| {
        let inside = |at: usize, from: isize, len: isize| (at as isize) >= from && (at as isize) < from + len;
        inside(at / w, map.hole[0], map.hole[2]) && inside(at % w, map.hole[1], map.hole[3])
    };
    let coloured = |(to, at): (usize, usize)| {
        let sum = |sum: f64, (plane, factor): (&Vec<f64>, &f32)| sum + f64::from(*factor) * plane[at];
        if covered(at) { 0. } else { planes.iter().zip(&map.colour[to]).fold(f64::from(map.colour[to][3]), sum) }
    };
    (0..planes.len()).flat_map(|to| (0..h * w).map(move |at| (to, at))).map(coloured).collect()
}

fn check_maps(seed: u64, [b, c, h, w]: [usize; 4]) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let maps: Vec<ImageMap> = (0..b).map(|_| any_map(&mut rng, [h, w])).collect();
    let plain = |p: &[Vec<f64>]| -> Vec<f64> {
        p[0].chunks(c * h * w).zip(&maps).flat_map(|(xs, map)| mapped(xs, map, [h, w])).collect()
    };
    let vars = [variable(seed, &[b, c, h, w])];
    check(&vars, |t| remap(&t[0], &maps), plain);
    check(&vars, |t| composed::remap(&t[0], &maps), plain);
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn any_map_of_any_shape(
        seed: u64, b in 1usize..4, c in prop::sample::select(vec![1usize, 3]), h in 1usize..7, w in 1usize..8,
    ) {
        check_maps(seed, [b, c, h, w]);
        check_maps(seed, [b, c, h, h]);
    }
}

/// The steps by hand, on nine pixels. Turned counter-clockwise, mirrored, moved down and to the right, doubled with a half added, and
/// covered from row 2 on in column 1:
///
/// ```text
/// 1 2 3    3 6 9    9 6 3    -1 -1 -1    -1.5 -1.5 -1.5    -1.5 -1.5 -1.5
/// 4 5 6 -> 2 5 8 -> 8 5 2 -> -1  9  6 -> -1.5 18.5 12.5 -> -1.5 18.5 12.5
/// 7 8 9    1 4 7    7 4 1    -1  8  5    -1.5 16.5 10.5    -1.5  0   10.5
/// ```
#[test]
fn turns_then_mirror_then_shift_then_colour_then_hole() -> Result<()> {
    let mut map = ImageMap { turns: 1, mirrored: true, shift: [1, 1], fill: -1., ..ImageMap::default() };
    (map.colour[0], map.hole) = ([2., 9., 9., 0.5], [2, 1, 5, 1]);
    let image: Vec<f32> = (1..=9).map(|x| x as f32).collect();
    let xs = Tensor::from_vec([image.clone(), image.clone()].concat(), (2, 1, 3, 3), &device())?;
    for f in [remap, composed::remap] {
        let ys = values(&f(&xs, &[map.clone(), ImageMap::default()])?);
        assert_eq!(ys[..9], [-1.5, -1.5, -1.5, -1.5, 18.5, 12.5, -1.5, 0., 10.5]);
        assert_eq!(ys[9..], image, "the default changes nothing");
    }
    Ok(())
}

/// Red becomes green, green becomes blue, and blue becomes red with 1 added.
#[test]
fn colours_are_rows_of_the_result() -> Result<()> {
    let xs = Tensor::new(&[0.1f32, 0.2, 0.3], &device())?.reshape((1, 3, 1, 1))?;
    let colour = [[0., 0., 1., 1.], [1., 0., 0., 0.], [0., 1., 0., 0.]];
    for f in [remap, composed::remap] {
        let ys = values(&f(&xs, &[ImageMap { colour, ..ImageMap::default() }])?);
        assert!(ys.iter().zip([1.3, 0.1, 0.2]).all(|(y, want)| (y - want).abs() < 1e-6), "{ys:?}");
    }
    Ok(())
}

#[test]
fn errors_say_what_is_missing() {
    let message =
        |dims: &[usize], maps: &[ImageMap]| remap(&variable(1, dims), maps).expect_err("this must fail").to_string();
    let turn = |turns| ImageMap { turns, ..ImageMap::default() };
    for turns in [1, 3] {
        let error = message(&[2, 3, 4, 5], &[turn(0), turn(turns)]);
        assert!(error.contains("remap: a quarter turn of images of 4x5 pixels, which are not square"), "{error}");
    }
    let error = message(&[2, 3, 4, 4], &[turn(0)]);
    assert!(error.contains("remap: 1 maps for xs of shape [2, 3, 4, 4]"), "{error}");
    let error = message(&[1, 2, 4, 4], &[turn(0)]);
    assert!(error.contains("of 1 or 3 channels"), "{error}");
}
