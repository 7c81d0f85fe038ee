//! Nearest 2x upsampling followed by a 3x3 convolution of padding 1, without the upsampled image.
//!
//! Along one axis, with taps `k0 k1 k2` and small pixels `x`, the two output pixels over `x[i]` are
//!
//! - `y[2i] = k0 x[i-1] + (k1 + k2) x[i] = s x[i] + k0 (x[i-1] - x[i])`,
//! - `y[2i+1] = (k0 + k1) x[i] + k2 x[i+1] = s x[i] - k2 (x[i] - x[i+1])`, where `s = k0 + k1 + k2`.
//!
//! That is three products for each small pixel where the plain form has six, so in two dimensions there are nine where the plain
//! form has 36, each of one of four images: the small one and its differences along rows, columns and both. The gradients are
//! the transposes of the same map and take as many.

use super::products::{images_per_task, sum_over_batch};
use crate::check::slice;
use crate::element::{Element, of_type};
use crate::gemm::with_scratch;
use crate::memory::filled_in_pieces;
use crate::micro::{Gather, Outer, PRODUCTS, Panels, Upsampled};
use crate::product::{Precision, Products, pair_channels, pair_up};
use crate::profile::{Span, span};
use crate::simd::vectorised;
use crate::tiles::{SIDE, TILE};
use crate::weighted::{self, Weighted};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::ops::Range;

const NAME: &str = "upsample2x_conv2d";

/// The factors of each product along rows and columns: 0 is `s` and the pixel, 1 is `k0` and the difference from the pixel
/// before, 2 is `-k2` and the difference of the pixel after.
const FACTORS: [(usize, usize); PRODUCTS] = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (1, 1), (1, 2), (2, 1), (2, 2)];

/// What each tap of the kernel contributes to the factors `s`, `k0` and `-k2`.
const TAPS: [[f32; 3]; 3] = [[1., 1., 0.], [1., 0., 0.], [1., 0., -1.]];

/// Small pixels that are handled together, so that what is computed of them stays in near memory.
const STRIP: usize = 128;

/// The same for the gradient of the weights in tiles, which reads and writes all its sums once for each.
const STRIP_IN_TILES: usize = 256;

/// The op for contiguous CPU tensors whose shapes have been checked: images `(b, h, w, c)`, weights `(o, c, 3, 3)`.
pub(super) struct UpsampledConv(pub Precision);

/// Sizes of one call.
#[derive(Clone, Copy)]
struct Plan {
    h: usize,
    w: usize,
    c: usize,
    o: usize,
    products: Products,
}

impl Plan {
    fn new(xs: &[usize], weight: &[usize], precision: Precision) -> Result<Self> {
        match (xs, weight) {
            (&[_, h, w, c], &[o, _, 3, 3]) => Ok(Self { h, w, c, o, products: Products::of(precision) }),
            _ => bail!("{NAME}: expected images and 3x3 kernels, got shapes {xs:?} and {weight:?}"),
        }
    }

    fn out_shape(&self, batch: usize) -> Shape {
        (batch, 2 * self.h, 2 * self.w, self.o).into()
    }

    /// Elements of a small and of a large image.
    fn lens(&self) -> (usize, usize) {
        (self.h * self.w * self.c, 4 * self.h * self.w * self.o)
    }

    fn span<E>(&self, pass: &'static str, batch: usize) -> Option<Span> {
        span(pass, || {
            let Self { h, w, c, o, .. } = *self;
            let (small, large) = self.lens();
            let layer = format!("{NAME} {c}x{h}x{w} to {o}x{}x{}", 2 * h, 2 * w);
            let bytes = size_of::<E>() * batch * (small + large) + size_of::<f32>() * c * o * 9;
            (layer, 2. * (batch * large * c * 9) as f64, bytes as f64)
        })
    }

    /// Groups of rows of small images to be handled together, of about `strip` pixels: image and rows. Small images are whole.
    fn strips(&self, images: usize, strip: usize) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let (h, rows) = (self.h, (strip / self.w).clamp(1, self.h));
        (0..images).flat_map(move |i| (0..h).step_by(rows).map(move |row| (i, row..h.min(row + rows))))
    }

    /// Pixels of one of the four images of a strip of so many rows.
    fn plane(&self, rows: usize) -> usize {
        (rows + 1) * (self.w + 1)
    }

    /// Where the pixels of a strip, of so many elements, lie in its planes, seen from the first.
    fn rows(&self, rows: usize, c: usize) -> Vec<usize> {
        let w = self.w;
        (0..rows).flat_map(|y| (0..w).map(move |x| (y * (w + 1) + x) * c)).collect()
    }

    /// Where in the planes, which begin `plane` pixels apart, the products take their elements, seen from a pixel's place.
    fn segments(&self, plane: usize, c: usize) -> [usize; PRODUCTS] {
        FACTORS.map(|(row, col)| {
            let of = 2 * usize::from(row > 0) + usize::from(col > 0);
            let shift = usize::from(row == 2) * (self.w + 1) + usize::from(col == 2);
            (of * plane + shift) * c
        })
    }

    /// Products whose sums run over so many channels, and how many elements these are.
    fn products_over(&self, channels: usize) -> (Products, usize) {
        let products = self.products.if_pairs(channels.is_multiple_of(2)).if_tiles(channels.is_multiple_of(2 * TILE));
        (products, if products.are_pairs() { channels / 2 } else { channels })
    }

    fn forward<E: Element>(&self, xs: &[E], weight: &[f32], bias: Option<&[f32]>) -> Vec<E> {
        let Self { h, w, c, o, .. } = *self;
        let (small, large) = self.lens();
        let batch = xs.len() / small;
        let _span = self.span::<E>("forward", batch);
        let (products, depth) = self.products_over(c);
        let weights = Panels::from_kernels(&factors(), c, o, weight, |k, n| (n * c + k) * 9, products);
        let per_task = images_per_task(h * w, batch);
        filled_in_pieces(batch * large, per_task * large, |task, pieces| {
            let xs = &xs[task * per_task * small..][..per_task.min(batch - task * per_task) * small];
            let strip_rows = (STRIP / w).clamp(1, h);
            // Whole small images are put side by side into one product.
            let together = if strip_rows == h { xs.len() / small } else { 1 };
            let planes_len = 4 * self.plane(strip_rows);
            let lens = [together * planes_len * depth, if products.are_pairs() { planes_len * c } else { 0 }, 0];
            with_scratch(lens, |[planes, single, _]| {
                let strips: Vec<_> = self.strips(xs.len() / small, STRIP).collect();
                for strips in strips.chunks(together) {
                    let rows = strips[0].1.clone();
                    let (plane, strip_out) = (self.plane(rows.len()), rows.len() * 4 * w * o);
                    let strip_pixels = 4 * plane;
                    // In tiles, planes of all strips lie one after the other, so that windows are found at even distances.
                    let (plane_pitch, strip_pitch) = match products.are_tiles() {
                        true => (strips.len() * plane, plane),
                        false => (plane, strip_pixels),
                    };
                    let (mut places, mut out_rows) = (Vec::new(), Vec::new());
                    for (n, (image, rows)) in strips.iter().enumerate() {
                        let image = &xs[image * small..][..small];
                        if products.are_pairs() {
                            let single = &mut single[..strip_pixels * c];
                            differences(self, image, rows, single);
                            for (i, single) in single.chunks_exact(plane * c).enumerate() {
                                let at = (i * plane_pitch + n * strip_pitch) * depth;
                                pair_channels(single, c, &mut planes[at..][..plane * depth]);
                            }
                        } else {
                            differences(
                                self,
                                image,
                                rows,
                                &mut planes[n * strip_pitch * depth..][..strip_pixels * depth],
                            );
                        }
                        places.extend(self.rows(rows.len(), depth).iter().map(|place| n * strip_pitch * depth + place));
                        let pixel = |y: usize, x: usize| n * strip_out + (2 * y * 2 * w + 2 * x) * o;
                        out_rows.extend((0..rows.len()).flat_map(|y| (0..w).map(move |x| pixel(y, x))));
                    }
                    pieces.next(strips.len() * strip_out, |ys| {
                        Upsampled {
                            a: planes,
                            rows: &places,
                            segments: self.segments(plane_pitch, depth),
                            depth,
                            weights: &weights,
                            bias,
                            out: ys,
                            out_rows: &out_rows,
                            phases: [0, o, 2 * w * o, (2 * w + 1) * o],
                            products,
                        }
                        .run();
                    });
                }
            });
        })
    }

    fn input_gradient<E: Element>(&self, weight: &[f32], grad: &[E]) -> Vec<E> {
        let Self { h, w, c, o, .. } = *self;
        let (small, large) = self.lens();
        let batch = grad.len() / large;
        let _span = self.span::<E>("input gradient", batch);
        let (products, elements) = self.products_over(o);
        let weights = Panels::from_kernels(&factors(), o, c, weight, |k, n| (k * c + n) * 9, products);
        let per_task = images_per_task(h * w, batch);
        let strip_rows = (STRIP / w).clamp(1, h);
        let together = if strip_rows == h { per_task } else { 1 };
        let (terms_len, depth) = (PRODUCTS * o, PRODUCTS * elements);
        let pixels = together * strip_rows * w;
        let starts = |len: usize| (0..pixels).map(|pixel| pixel * len).collect::<Vec<_>>();
        let (rows, out_rows) = (starts(depth), starts(c));
        filled_in_pieces(batch * small, per_task * small, |task, pieces| {
            let grad = &grad[task * per_task * large..][..per_task.min(batch - task * per_task) * large];
            let words_len = if products.are_pairs() { pixels * depth } else { 0 };
            with_scratch([pixels * terms_len, 3 * (2 * w + 2) * o, words_len], |[terms, lines, words]| {
                let strips: Vec<_> = self.strips(grad.len() / large, STRIP).collect();
                for strips in strips.chunks(together) {
                    let mut filled = 0;
                    for (image, rows) in strips {
                        let count = rows.len() * w;
                        let terms = &mut terms[filled * terms_len..][..count * terms_len];
                        input_terms(self, &grad[image * large..][..large], rows, terms, lines);
                        filled += count;
                    }
                    let terms: &[f32] = if products.are_pairs() {
                        pair_channels(&terms[..filled * terms_len], o, words);
                        words
                    } else {
                        terms
                    };
                    pieces.next(filled * c, |grad_xs| {
                        Gather {
                            a: terms,
                            rows: &rows[..filled],
                            segments: &[0],
                            segment: depth,
                            weights: &weights,
                            bias: None,
                            addend: None,
                            out: grad_xs,
                            out_rows: &out_rows[..filled],
                            products,
                        }
                        .run();
                    });
                }
            });
        })
    }

    fn weight_gradient<E: Element>(&self, xs: &[E], grad: &[E]) -> Vec<f32> {
        let Self { h, w, c, o, .. } = *self;
        let (small, large) = self.lens();
        let _span = self.span::<E>("weight gradient", xs.len() / small);
        // Two pixels that lie side by side make a pair.
        let tiles = c.is_multiple_of(SIDE) && o.is_multiple_of(SIDE);
        let products = self.products.if_pairs(w.is_multiple_of(2)).if_tiles(tiles);
        let step = if products.are_pairs() { 2 } else { 1 };
        let strip = if products.are_tiles() { STRIP_IN_TILES } else { STRIP };
        let strip_rows = (strip / w).clamp(1, h);
        let together = if products.are_tiles() { (strip / (strip_rows * w)).max(1) } else { 1 };
        let sums = sum_over_batch((PRODUCTS * c, o), xs.len() / small, products, |images, columns, sum| {
            let width = columns.len();
            let pixels = together * strip_rows * w;
            let g_rows: Vec<usize> = (0..pixels).step_by(step).map(|pixel| pixel * PRODUCTS * width).collect();
            let planes_len = together * 4 * self.plane(strip_rows) * c;
            let lens = [planes_len, pixels * PRODUCTS * width, if step == 2 { planes_len } else { 0 }];
            with_scratch(lens, |[planes, terms, words]| {
                let strips: Vec<_> = self.strips(images.len(), strip).collect();
                for strips in strips.chunks(together) {
                    let count = strips[0].1.len() * w;
                    let strip_len = 4 * self.plane(strips[0].1.len()) * c;
                    let mut places = Vec::new();
                    for (n, (image, rows)) in strips.iter().enumerate() {
                        let image = images.start + image;
                        differences(
                            self,
                            &xs[image * small..][..small],
                            rows,
                            &mut planes[n * strip_len..][..strip_len],
                        );
                        let terms = &mut terms[n * count * PRODUCTS * width..][..count * PRODUCTS * width];
                        weight_terms(self, &grad[image * large..][..large], rows, &columns, terms);
                        places.extend(self.rows(rows.len(), c).iter().step_by(step).map(|place| n * strip_len + place));
                    }
                    let planes: &[f32] = if products.are_pairs() {
                        // The last pixel's words are not used.
                        let len = strips.len() * strip_len;
                        pair_up(&planes[..len], &planes[c..len], &mut words[..len]);
                        words
                    } else {
                        planes
                    };
                    let segments = self.segments(self.plane(strips[0].1.len()), c);
                    for n in 0..PRODUCTS {
                        // In tiles the matrix is transposed, and the products' parts of a row lie side by side.
                        let (first, stride) = match products.are_tiles() {
                            true => (n * c, PRODUCTS * c),
                            false => (n * c * width, width),
                        };
                        Outer {
                            a: &planes[segments[n]..],
                            a_rows: &places,
                            a_segments: &[0],
                            depth: c,
                            g: &terms[n * width..],
                            g_rows: &g_rows[..places.len()],
                            segments: &[0],
                            segment: width,
                            out: &mut sum[first..],
                            stride,
                            products,
                            partner: PRODUCTS * width,
                            lone: 0,
                        }
                        .run();
                    }
                }
            });
        });
        let mut gradient = vec![0f32; o * c * 9];
        gradient.par_chunks_exact_mut(9).with_min_len(1 << 10).enumerate().for_each(|(at, kernel)| {
            for (product, (row, col)) in FACTORS.into_iter().enumerate() {
                let (input, output) = (product * c + at % c, at / c);
                let sum = match products.are_tiles() {
                    true => sums.get_turned(input, output, PRODUCTS * c),
                    false => sums.get(input, output),
                };
                for (tap, x) in kernel.iter_mut().enumerate() {
                    *x += TAPS[tap / 3][row] * TAPS[tap % 3][col] * sum;
                }
            }
        });
        gradient
    }
}

vectorised! {
    /// Writes the four images of a strip: the pixels, their differences along columns, along rows, and along both. A row and
    /// a column more than the strip has are written, for the differences of the pixels after it.
    fn differences<E: Element>(plan: &'a Plan, image: &'a [E], rows: &'a Range<usize>, planes: &'a mut [f32]) {
        let (w, c) = (plan.w, plan.c);
        let (pitch, zeros) = ((w + 1) * c, vec![E::default(); w * c]);
        let row = |y: isize| match usize::try_from(y) {
            Ok(y) if y < plan.h => &image[y * w * c..][..w * c],
            _ => &zeros,
        };
        let plane = plan.plane(rows.len()) * c;
        let (upper, lower) = planes.split_at_mut(2 * plane);
        let (plain, along_cols) = upper.split_at_mut(plane);
        let (along_rows, along_both) = lower.split_at_mut(plane);
        for (i, y) in (rows.start as isize..=rows.end as isize).enumerate() {
            let at = i * pitch..i * pitch + w * c;
            for (to, here) in plain[at.clone()].iter_mut().zip(row(y)) {
                *to = here.widen();
            }
            for ((to, before), here) in along_rows[at].iter_mut().zip(row(y - 1)).zip(row(y)) {
                *to = before.widen() - here.widen();
            }
        }
        for (from, to) in [(plain, along_cols), (along_rows, along_both)] {
            let count = (rows.len() + 1) * pitch;
            for (from, to) in from[..count].chunks_exact(pitch).zip(to[..count].chunks_exact_mut(pitch)) {
                let from = &from[..w * c];
                for (to, &here) in to.iter_mut().zip(&from[..c]) {
                    *to = -here;
                }
                for ((to, before), here) in to[c..].iter_mut().zip(from).zip(&from[c..]) {
                    *to = before - here;
                }
                to[w * c..].copy_from_slice(&from[(w - 1) * c..]);
            }
        }
    }

    /// Writes, for the pixels of a strip, what each product's factor meets in the input's gradient: `PRODUCTS * o` numbers for
    /// each small pixel. Along one axis these are `y[2i] + y[2i+1]`, `y[2i+2] - y[2i]` and `y[2i+1] - y[2i-1]`.
    fn input_terms<E: Element>(
        plan: &'a Plan,
        grad: &'a [E],
        rows: &'a Range<usize>,
        terms: &'a mut [f32],
        lines: &'a mut [f32],
    ) {
        let (w, o) = (plan.w, plan.o);
        let line = 2 * w * o;
        let zeros = vec![E::default(); line];
        let row = |y: isize| match usize::try_from(y) {
            Ok(y) if y < 2 * plan.h => &grad[y * line..][..line],
            _ => &zeros,
        };
        for (y, terms) in rows.clone().zip(terms.chunks_exact_mut(w * PRODUCTS * o)) {
            let y = 2 * y as isize;
            // Combinations of rows, with a pixel of zeros on either side.
            let lines = &mut lines[..3 * (line + 2 * o)];
            for (n, to) in lines.chunks_exact_mut(line + 2 * o).enumerate() {
                to[..o].fill(0.);
                to[line + o..].fill(0.);
                let (a, b, sign) = [(y, y + 1, 1f32), (y + 2, y, -1.), (y + 1, y - 1, -1.)][n];
                for ((to, a), b) in to[o..].iter_mut().zip(row(a)).zip(row(b)) {
                    *to = a.widen() + sign * b.widen();
                }
            }
            for (x, terms) in terms.chunks_exact_mut(PRODUCTS * o).enumerate() {
                for (term, (of_rows, of_cols)) in terms.chunks_exact_mut(o).zip(FACTORS) {
                    let line = &lines[of_rows * (line + 2 * o)..][..line + 2 * o];
                    let pixel = |x: usize| &line[x * o..][..o];
                    // Pixel x of the line has a zero before it, hence 2x + 1 for the even one.
                    let (a, b, sign) =
                        [(2 * x + 1, 2 * x + 2, 1f32), (2 * x + 3, 2 * x + 1, -1.), (2 * x + 2, 2 * x, -1.)][of_cols];
                    for ((to, a), b) in term.iter_mut().zip(pixel(a)).zip(pixel(b)) {
                        *to = a + sign * b;
                    }
                }
            }
        }
    }

    /// Writes, for some channels of the pixels of a strip, what each product contributed to: the sums of the output pixels'
    /// gradients, `PRODUCTS * width` numbers for each small pixel.
    fn weight_terms<E: Element>(
        plan: &'a Plan,
        grad: &'a [E],
        rows: &'a Range<usize>,
        columns: &'a Range<usize>,
        terms: &'a mut [f32],
    ) {
        let (w, o, width) = (plan.w, plan.o, columns.len());
        for (pixel, terms) in terms.chunks_exact_mut(PRODUCTS * width).enumerate() {
            let (y, x) = (rows.start + pixel / w, pixel % w);
            let phase = |row: usize, col: usize| &grad[((2 * y + row) * 2 * w + 2 * x + col) * o..][columns.clone()];
            let [a, b, c, d] = [phase(0, 0), phase(0, 1), phase(1, 0), phase(1, 1)];
            let (sums, plain) = terms.split_at_mut(5 * width);
            for (n, to) in plain.chunks_exact_mut(width).enumerate() {
                for (to, x) in to.iter_mut().zip([a, b, c, d][n]) {
                    *to = x.widen();
                }
            }
            let (all, sums) = sums.split_at_mut(width);
            let pairs = [(a, c), (b, d), (a, b), (c, d)];
            for (to, (first, second)) in sums.chunks_exact_mut(width).zip(pairs) {
                for ((to, first), second) in to.iter_mut().zip(first).zip(second) {
                    *to = first.widen() + second.widen();
                }
            }
            for ((to, upper), lower) in all.iter_mut().zip(&sums[2 * width..]).zip(&sums[3 * width..]) {
                *to = upper + lower;
            }
        }
    }
}

/// What each tap of a kernel contributes to the weight of each product.
fn factors() -> [[f32; 9]; PRODUCTS] {
    FACTORS.map(|(row, col)| std::array::from_fn(|tap| TAPS[tap / 3][row] * TAPS[tap % 3][col]))
}

impl Weighted for UpsampledConv {
    const NAME: &'static str = NAME;

    fn forward(
        &self,
        (xs, xs_l): (&CpuStorage, &Layout),
        (w, w_l): (&CpuStorage, &Layout),
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let plan = Plan::new(xs_l.dims(), w_l.dims(), self.0)?;
        let weight = slice(NAME, w, w_l)?;
        of_type!(xs.dtype(), E => {
            let ys = plan.forward(slice::<E>(NAME, xs, xs_l)?, weight, bias);
            Ok((E::storage(ys), plan.out_shape(xs_l.dims()[0])))
        })
    }

    fn gradients(&self, xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let plan = Plan::new(xs.dims(), weight.dims(), self.0)?;
        of_type!(xs.dtype(), E => {
            let by_xs = |weight: &[f32], grad: &[E]| plan.input_gradient(weight, grad);
            weighted::gradients(NAME, [xs, weight, grad], by_xs, |xs, grad| plan.weight_gradient(xs, grad))
        })
    }
}
