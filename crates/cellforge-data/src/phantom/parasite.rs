//! The stages of *Plasmodium* inside a red cell, as drawings: ring, trophozoite, schizont, gametocyte.

use std::f32::consts::TAU;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use super::cell::{Outline, Rgb, smooth};

/// A soft-edged spot of stain: part of a parasite, or an artefact. Coordinates are those of the crop, [-1, 1].
pub(super) struct Blob {
    shape: Shape,
    /// Width of the soft edge.
    soft: f32,
    pub colour: Rgb,
    /// How much of the cell's colour it hides at most.
    pub strength: f32,
    /// Whether it belongs to a parasite, and so to the mask.
    pub parasite: bool,
}

enum Shape {
    /// An ellipse with a wavy rim: centre, radii, rotation, waviness and its phase.
    Ellipse { at: [f32; 2], radii: [f32; 2], turn: f32, wave: f32, phase: f32 },
    /// An arc of a circle drawn with a pen: centre, radius, half the pen's width, where it starts and how far it goes.
    Arc { at: [f32; 2], radius: f32, pen: f32, start: f32, sweep: f32 },
}

impl Blob {
    pub(super) fn disc(x: f32, y: f32, radius: f32, soft: f32, colour: Rgb, strength: f32, parasite: bool) -> Self {
        let shape = Shape::Ellipse { at: [x, y], radii: [radius; 2], turn: 0.0, wave: 0.0, phase: 0.0 };
        Self { shape, soft, colour, strength, parasite }
    }

    /// How far inside of the shape (x, y) is, 0 to 1: one half on its rim.
    pub(super) fn cover(&self, x: f32, y: f32) -> f32 {
        // Signed distance to the rim, positive inside.
        let inside = match self.shape {
            Shape::Ellipse { at, radii, turn, wave, phase } => {
                let (dx, dy) = (x - at[0], y - at[1]);
                if dx.abs().max(dy.abs()) > radii[0].max(radii[1]) * 1.5 + self.soft {
                    return 0.0;
                }
                let (sin, cos) = turn.sin_cos();
                let (u, v) = ((dx * cos + dy * sin) / radii[0], (dy * cos - dx * sin) / radii[1]);
                let ripple = if wave > 0.0 { wave * (3.0 * v.atan2(u) + phase).sin() } else { 0.0 };
                (1.0 + ripple - u.hypot(v)) * radii[0].min(radii[1])
            }
            Shape::Arc { at, radius, pen, start, sweep } => {
                let (dx, dy) = (x - at[0], y - at[1]);
                let distance = dx.hypot(dy);
                if (distance - radius).abs() > pen + self.soft {
                    return 0.0;
                }
                let along = (dy.atan2(dx) - start).rem_euclid(TAU);
                let to_arc = if along <= sweep {
                    (distance - radius).abs()
                } else {
                    let end = if along - sweep < TAU - along { start + sweep } else { start };
                    (dx - radius * end.cos()).hypot(dy - radius * end.sin())
                };
                pen - to_arc
            }
        };
        smooth(inside / self.soft + 0.5)
    }
}

/// A random place at most `reach` from (0, 0), uniform over the area.
pub(super) fn place(reach: f32, rng: &mut ChaCha12Rng) -> (f32, f32) {
    let (radius, angle) = (reach * rng.random_range(0.0f32..1.0).sqrt(), rng.random_range(0.0..TAU));
    (radius * angle.cos(), radius * angle.sin())
}

/// The colours of a parasite.
struct Paint {
    chromatin: Rgb,
    cytoplasm: Rgb,
    /// The cell's own colour where a vacuole thins it.
    pale: Rgb,
}

/// One or more parasites of a random stage inside `outline`, in a cell coloured `stain` with the smear's `chromatin`.
pub(super) fn infect(outline: &Outline, stain: Rgb, chromatin: Rgb, rng: &mut ChaCha12Rng) -> Vec<Blob> {
    let mix = |part: f32| -> Rgb { std::array::from_fn(|i| chromatin[i] * (1.0 - part) + stain[i] * part) };
    let bluish = mix(0.45);
    // Some parasites take the stain poorly.
    let faint = rng.random_range(0.0f32..1.0).powi(3) * 0.5;
    let paint = Paint {
        chromatin: mix(faint),
        cytoplasm: [bluish[0] - 0.03, bluish[1] + 0.02, bluish[2] + 0.10],
        pale: stain.map(|c| (c + 0.11).min(0.97)),
    };
    let mut blobs = Vec::new();
    match rng.random_range(0..100) {
        0..52 => {
            let rings = [1, 1, 1, 1, 2, 2, 3][rng.random_range(0..7)];
            for _ in 0..rings {
                ring(&paint, outline, rng, &mut blobs);
            }
        }
        52..82 => trophozoite(&paint, outline, rng, &mut blobs),
        82..92 => schizont(&paint, outline, rng, &mut blobs),
        _ => gametocyte(&paint, outline, rng, &mut blobs),
    }
    blobs
}

/// A thin ring of cytoplasm around a pale vacuole, with one or two dots of chromatin on it.
fn ring(paint: &Paint, outline: &Outline, rng: &mut ChaCha12Rng, blobs: &mut Vec<Blob>) {
    let radius = rng.random_range(0.11f32..0.22);
    let (x, y) = outline.place(0.85, radius * 0.7, rng);
    let start = rng.random_range(0.0..TAU);
    let sweep = rng.random_range(0.65f32..1.0) * TAU;
    let pen = rng.random_range(0.018f32..0.038);
    blobs.push(Blob::disc(x, y, radius, 0.06, paint.pale, rng.random_range(0.2f32..0.8), true));
    let shape = Shape::Arc { at: [x, y], radius, pen, start, sweep };
    let strength = rng.random_range(0.45f32..0.85);
    blobs.push(Blob { shape, soft: 0.05, colour: paint.cytoplasm, strength, parasite: true });
    for _ in 0..rng.random_range(1..3) {
        let angle = start + rng.random_range(0.0f32..1.0) * sweep;
        let size = rng.random_range(0.05f32..0.085);
        let shape = Shape::Ellipse {
            at: [x + radius * angle.cos(), y + radius * angle.sin()],
            radii: [size * rng.random_range(1.0f32..1.6), size],
            turn: angle + TAU / 4.0,
            wave: 0.08,
            phase: start,
        };
        let strength = rng.random_range(0.8f32..1.0);
        blobs.push(Blob { shape, soft: 0.05, colour: paint.chromatin, strength, parasite: true });
    }
}

/// A larger irregular body of cytoplasm with dense chromatin, often a vacuole, and specks of brown pigment (hemozoin).
fn trophozoite(paint: &Paint, outline: &Outline, rng: &mut ChaCha12Rng, blobs: &mut Vec<Blob>) {
    let size = rng.random_range(0.15f32..0.30);
    let (x, y) = outline.place(0.75, size * 0.7, rng);
    let strength = rng.random_range(0.5f32..0.85);
    let body = |at: [f32; 2], size: f32, rng: &mut ChaCha12Rng| Blob {
        shape: Shape::Ellipse {
            at,
            radii: [size, size * rng.random_range(0.55f32..0.95)],
            turn: rng.random_range(0.0..TAU),
            wave: rng.random_range(0.08f32..0.25),
            phase: rng.random_range(0.0..TAU),
        },
        soft: 0.09,
        colour: paint.cytoplasm,
        strength,
        parasite: true,
    };
    blobs.push(body([x, y], size, rng));
    for _ in 0..rng.random_range(1..4) {
        let (dx, dy) = place(size * 0.8, rng);
        blobs.push(body([x + dx, y + dy], size * rng.random_range(0.35f32..0.6), rng));
    }
    if rng.random_bool(0.4) {
        let (dx, dy) = place(size * 0.4, rng);
        blobs.push(Blob::disc(x + dx, y + dy, size * 0.3, 0.06, paint.pale, 0.7, true));
    }
    for _ in 0..rng.random_range(1..3) {
        let (dx, dy) = place(size * 0.6, rng);
        let shape = Shape::Ellipse {
            at: [x + dx, y + dy],
            radii: [rng.random_range(0.08f32..0.13), rng.random_range(0.05f32..0.09)],
            turn: rng.random_range(0.0..TAU),
            wave: 0.12,
            phase: rng.random_range(0.0..TAU),
        };
        blobs.push(Blob { shape, soft: 0.06, colour: paint.chromatin, strength: 0.92, parasite: true });
    }
    for _ in 0..rng.random_range(0..4) {
        let (dx, dy) = place(size * 0.7, rng);
        blobs.push(Blob::disc(x + dx, y + dy, 0.025, 0.04, [0.36, 0.24, 0.16], 0.7, true));
    }
}

/// A cluster of dots of chromatin (merozoites) around a clump of pigment.
fn schizont(paint: &Paint, outline: &Outline, rng: &mut ChaCha12Rng, blobs: &mut Vec<Blob>) {
    let size = rng.random_range(0.26f32..0.45);
    let (x, y) = outline.place(0.5, size * 0.7, rng);
    blobs.push(Blob::disc(x, y, size, 0.16, paint.cytoplasm, 0.6, true));
    let dots = rng.random_range(7..15);
    for i in 0..dots {
        let angle = i as f32 / dots as f32 * TAU + rng.random_range(-0.3f32..0.3);
        let out = size * rng.random_range(0.35f32..0.95);
        let at = (x + out * angle.cos(), y + out * angle.sin());
        let strength = rng.random_range(0.75f32..0.95);
        blobs.push(Blob::disc(at.0, at.1, rng.random_range(0.04f32..0.07), 0.06, paint.chromatin, strength, true));
    }
    blobs.push(Blob::disc(x, y, 0.07, 0.07, [0.36, 0.24, 0.18], 0.75, true));
}

/// A banana-shaped body with chromatin and pigment in its middle.
fn gametocyte(paint: &Paint, outline: &Outline, rng: &mut ChaCha12Rng, blobs: &mut Vec<Blob>) {
    let (x, y) = outline.place(0.2, 0.3, rng);
    let radius = rng.random_range(0.45f32..0.6);
    let start = rng.random_range(0.0..TAU);
    let sweep = rng.random_range(1.3f32..2.0);
    let middle = start + sweep / 2.0;
    let at = [x - radius * middle.cos(), y - radius * middle.sin()];
    let shape = Shape::Arc { at, radius, pen: rng.random_range(0.09f32..0.14), start, sweep };
    let colour = paint.cytoplasm.map(|c| c * 0.92);
    let strength = rng.random_range(0.7f32..0.9);
    blobs.push(Blob { shape, soft: 0.09, colour, strength, parasite: true });
    for offset in [-0.15f32, 0.05, 0.2] {
        let angle = middle + offset * rng.random_range(0.6f32..1.2);
        let (cx, cy) = (at[0] + radius * angle.cos(), at[1] + radius * angle.sin());
        blobs.push(Blob::disc(cx, cy, rng.random_range(0.05f32..0.08), 0.08, paint.chromatin, 0.75, true));
    }
    for _ in 0..rng.random_range(1..4) {
        let angle = middle + rng.random_range(-0.3f32..0.3);
        let (cx, cy) = (at[0] + radius * angle.cos(), at[1] + radius * angle.sin());
        blobs.push(Blob::disc(cx, cy, 0.025, 0.04, [0.36, 0.24, 0.16], 0.6, true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::keyed;

    type Draw = fn(&Paint, &Outline, &mut ChaCha12Rng, &mut Vec<Blob>);

    const PAINT: Paint = Paint { chromatin: [0.5, 0.1, 0.5], cytoplasm: [0.6, 0.4, 0.7], pale: [0.9, 0.8, 0.8] };

    /// The same parasite in 100 cells.
    fn drawn(draw: Draw) -> Vec<Vec<Blob>> {
        let one = |seed| {
            let mut rng = keyed("test parasite", &[seed]);
            let outline = Outline::new(1.0, &mut rng);
            let mut blobs = Vec::new();
            draw(&PAINT, &outline, &mut rng, &mut blobs);
            assert!(blobs.iter().all(|blob| blob.parasite), "every part of a parasite is in the mask");
            blobs
        };
        (0..100).map(one).collect()
    }

    /// Half the width of the pen that drew a parasite's arc, if there is one: thin for a ring, thick for a gametocyte.
    fn pen_of(blobs: &[Blob]) -> Option<f32> {
        blobs.iter().find_map(|blob| match blob.shape {
            Shape::Arc { pen, .. } => Some(pen),
            Shape::Ellipse { .. } => None,
        })
    }

    fn dots(blobs: &[Blob]) -> usize {
        blobs.iter().filter(|blob| blob.colour == PAINT.chromatin).count()
    }

    /// The part of the crop that such parasites take up on average.
    fn mean_area(draw: Draw) -> f32 {
        const STEPS: usize = 50;
        let at = |i: usize| (i as f32 + 0.5) / STEPS as f32 * 2.0 - 1.0;
        let parasites = drawn(draw);
        let marked = |blobs: &Vec<Blob>| {
            let is_marked = |p: &usize| blobs.iter().any(|blob| blob.cover(at(p % STEPS), at(p / STEPS)) >= 0.5);
            (0..STEPS * STEPS).filter(is_marked).count()
        };
        parasites.iter().map(marked).sum::<usize>() as f32 / (parasites.len() * STEPS * STEPS) as f32
    }

    #[test]
    fn a_ring_is_a_thin_arc_around_a_vacuole_with_a_dot_or_two() {
        for blobs in drawn(ring) {
            assert!((1..=2).contains(&dots(&blobs)));
            let Shape::Ellipse { at: middle, .. } = blobs[0].shape else { panic!("the vacuole comes first") };
            let Shape::Arc { at, radius, pen, start, .. } = blobs[1].shape else { panic!("the ring comes second") };
            assert!(at == middle && pen < radius / 2.0);
            // The ring is where it is drawn and not in its middle, which the vacuole alone covers.
            let (x, y) = (at[0] + radius * (start + 0.1).cos(), at[1] + radius * (start + 0.1).sin());
            assert!(blobs[1].cover(x, y) > 0.5 && blobs[1].cover(at[0], at[1]) == 0.0);
            assert!(blobs[0].cover(at[0], at[1]) > 0.5 && blobs[0].colour == PAINT.pale);
        }
    }

    #[test]
    fn a_trophozoite_is_a_wavy_body_with_chromatin_in_it() {
        for blobs in drawn(trophozoite) {
            assert!((1..=2).contains(&dots(&blobs)) && pen_of(&blobs).is_none());
            let body: Vec<&Blob> = blobs.iter().filter(|blob| blob.colour == PAINT.cytoplasm).collect();
            // One to three lobes beside the body itself.
            assert!((2..=4).contains(&body.len()));
            assert!(body.iter().all(|blob| matches!(blob.shape, Shape::Ellipse { wave, .. } if wave > 0.0)));
        }
    }

    #[test]
    fn a_schizont_is_a_cluster_of_dots_around_pigment() {
        for blobs in drawn(schizont) {
            assert!((7..=14).contains(&dots(&blobs)) && pen_of(&blobs).is_none());
            let Shape::Ellipse { at: middle, radii, .. } = blobs[0].shape else { panic!("the body comes first") };
            for dot in blobs.iter().filter(|blob| blob.colour == PAINT.chromatin) {
                let Shape::Ellipse { at, .. } = dot.shape else { panic!("dots are discs") };
                let away = (at[0] - middle[0]).hypot(at[1] - middle[1]);
                assert!((0.3 * radii[0]..radii[0]).contains(&away), "{away} of {}", radii[0]);
            }
            let pigment = blobs.last().unwrap();
            assert!(pigment.colour[0] > pigment.colour[2] && pigment.cover(middle[0], middle[1]) > 0.5);
        }
    }

    #[test]
    fn a_gametocyte_is_a_thick_open_arc_with_chromatin_in_its_middle() {
        for blobs in drawn(gametocyte) {
            let Shape::Arc { at, radius, pen, start, sweep } = blobs[0].shape else { panic!("the body comes first") };
            assert!(pen >= 0.09 && sweep < TAU / 3.0 && dots(&blobs) == 3);
            let cover = |angle: f32| blobs[0].cover(at[0] + radius * angle.cos(), at[1] + radius * angle.sin());
            assert!(cover(start + sweep / 2.0) > 0.5 && cover(start + sweep / 2.0 + TAU / 2.0) == 0.0);
        }
    }

    #[test]
    fn forms_differ_in_size() {
        let [small, medium, largest, large] = [ring as Draw, trophozoite, schizont, gametocyte].map(mean_area);
        assert!(small.max(medium) < large && large < largest, "{small} {medium} {large} {largest}");
        assert!(small > 0.015 && largest < 0.2, "{small} {medium} {large} {largest}");
    }

    #[test]
    fn every_form_occurs_in_its_share() {
        let mut counts = [0; 4];
        for seed in 0..2000 {
            let mut rng = keyed("test infection", &[seed]);
            let outline = Outline::new(1.0, &mut rng);
            let blobs = infect(&outline, [0.8, 0.6, 0.6], PAINT.chromatin, &mut rng);
            let wavy = |blob: &Blob| matches!(blob.shape, Shape::Ellipse { wave, .. } if wave > 0.0);
            let form = match pen_of(&blobs) {
                Some(pen) if pen < 0.05 => 0,
                None if blobs.iter().any(wavy) => 1,
                None => 2,
                Some(_) => 3,
            };
            counts[form] += 1;
        }
        // 52, 30, 10 and 8 in a hundred; the largest standard error is 22 of 2000.
        for (count, expected) in counts.into_iter().zip([1040i32, 600, 200, 160]) {
            assert!((count - expected).abs() < 100, "{counts:?}");
        }
    }
}
