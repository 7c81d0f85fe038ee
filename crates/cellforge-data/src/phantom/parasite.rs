//! The stages of *Plasmodium* inside a red cell, as drawings: ring, trophozoite, schizont, gametocyte.

use std::f32::consts::TAU;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use super::cell::Rgb;

/// A soft-edged spot of stain: part of a parasite, or an artefact. Coordinates are those of the crop, [-1, 1].
pub(super) struct Blob {
    shape: Shape,
    /// Width of the soft edge.
    soft: f32,
    pub colour: Rgb,
    /// How much of the cell's colour it hides at most.
    strength: f32,
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

    /// How much of the colour at (x, y) this hides, 0 to 1.
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
        let t = (inside / self.soft + 0.5).clamp(0.0, 1.0);
        t * t * (3.0 - 2.0 * t) * self.strength
    }
}

/// A random place at most `reach` from the middle of the cell, uniform over the area.
pub(super) fn place(reach: f32, rng: &mut ChaCha12Rng) -> (f32, f32) {
    let (radius, angle) = (reach * rng.random_range(0.0f32..1.0).sqrt(), rng.random_range(0.0..TAU));
    (radius * angle.cos(), radius * angle.sin())
}

/// One or more parasites of a random stage, in the smear's colour of chromatin.
pub(super) fn infect(chromatin: Rgb, rng: &mut ChaCha12Rng) -> Vec<Blob> {
    let cytoplasm = [chromatin[0] * 0.75 + 0.22, chromatin[1] * 0.6 + 0.30, chromatin[2] * 0.7 + 0.30];
    let mut blobs = Vec::new();
    match rng.random_range(0..100) {
        0..50 => {
            let rings = if rng.random_bool(0.2) { 2 } else { 1 };
            for _ in 0..rings {
                ring(chromatin, cytoplasm, rng, &mut blobs);
            }
        }
        50..82 => trophozoite(chromatin, cytoplasm, rng, &mut blobs),
        82..92 => schizont(chromatin, cytoplasm, rng, &mut blobs),
        _ => gametocyte(chromatin, cytoplasm, rng, &mut blobs),
    }
    blobs
}

/// A thin ring of cytoplasm with one or two dots of chromatin on it.
fn ring(chromatin: Rgb, cytoplasm: Rgb, rng: &mut ChaCha12Rng, blobs: &mut Vec<Blob>) {
    let (x, y) = place(0.72, rng);
    let radius = rng.random_range(0.10f32..0.19);
    let start = rng.random_range(0.0..TAU);
    let sweep = rng.random_range(0.7f32..1.0) * TAU;
    let pen = rng.random_range(0.025f32..0.045);
    let shape = Shape::Arc { at: [x, y], radius, pen, start, sweep };
    blobs.push(Blob { shape, soft: 0.05, colour: cytoplasm, strength: rng.random_range(0.55f32..0.85), parasite: true });
    for _ in 0..rng.random_range(1..3) {
        let angle = start + rng.random_range(0.0f32..1.0) * sweep;
        let size = rng.random_range(0.06f32..0.10);
        let (cx, cy) = (x + radius * angle.cos(), y + radius * angle.sin());
        blobs.push(Blob::disc(cx, cy, size, 0.05, chromatin, rng.random_range(0.85f32..1.0), true));
    }
}

/// A larger irregular body of cytoplasm with dense chromatin and specks of brown pigment.
fn trophozoite(chromatin: Rgb, cytoplasm: Rgb, rng: &mut ChaCha12Rng, blobs: &mut Vec<Blob>) {
    let (x, y) = place(0.55, rng);
    let size = rng.random_range(0.16f32..0.30);
    let body = |at: [f32; 2], size: f32, rng: &mut ChaCha12Rng| Blob {
        shape: Shape::Ellipse {
            at,
            radii: [size, size * rng.random_range(0.55f32..0.95)],
            turn: rng.random_range(0.0..TAU),
            wave: rng.random_range(0.08f32..0.25),
            phase: rng.random_range(0.0..TAU),
        },
        soft: 0.08,
        colour: cytoplasm,
        strength: rng.random_range(0.55f32..0.8),
        parasite: true,
    };
    blobs.push(body([x, y], size, rng));
    for _ in 0..rng.random_range(1..4) {
        let (dx, dy) = place(size * 0.8, rng);
        blobs.push(body([x + dx, y + dy], size * rng.random_range(0.35f32..0.6), rng));
    }
    for _ in 0..rng.random_range(1..3) {
        let (dx, dy) = place(size * 0.6, rng);
        let dot = rng.random_range(0.07f32..0.12);
        blobs.push(Blob::disc(x + dx, y + dy, dot, 0.06, chromatin, 0.95, true));
    }
    for _ in 0..rng.random_range(0..4) {
        let (dx, dy) = place(size * 0.7, rng);
        blobs.push(Blob::disc(x + dx, y + dy, 0.03, 0.04, [0.30, 0.20, 0.16], 0.7, true));
    }
}

/// A cluster of dots of chromatin (merozoites) around a clump of pigment.
fn schizont(chromatin: Rgb, cytoplasm: Rgb, rng: &mut ChaCha12Rng, blobs: &mut Vec<Blob>) {
    let (x, y) = place(0.35, rng);
    let size = rng.random_range(0.28f32..0.45);
    blobs.push(Blob::disc(x, y, size, 0.14, cytoplasm, 0.55, true));
    let dots = rng.random_range(7..15);
    for i in 0..dots {
        let angle = i as f32 / dots as f32 * TAU + rng.random_range(-0.2f32..0.2);
        let out = size * rng.random_range(0.45f32..0.9);
        let dot = rng.random_range(0.045f32..0.075);
        blobs.push(Blob::disc(x + out * angle.cos(), y + out * angle.sin(), dot, 0.05, chromatin, 0.95, true));
    }
    blobs.push(Blob::disc(x, y, 0.07, 0.06, [0.32, 0.22, 0.18], 0.75, true));
}

/// A banana-shaped body with chromatin in its middle.
fn gametocyte(chromatin: Rgb, cytoplasm: Rgb, rng: &mut ChaCha12Rng, blobs: &mut Vec<Blob>) {
    let (x, y) = place(0.15, rng);
    let radius = rng.random_range(0.45f32..0.6);
    let start = rng.random_range(0.0..TAU);
    let sweep = rng.random_range(1.4f32..2.2);
    let middle = start + sweep / 2.0;
    let at = [x - radius * 0.7 * middle.cos(), y - radius * 0.7 * middle.sin()];
    let shape = Shape::Arc { at, radius, pen: rng.random_range(0.09f32..0.14), start, sweep };
    let colour = [cytoplasm[0] * 0.85, cytoplasm[1] * 0.85, cytoplasm[2] * 0.9];
    blobs.push(Blob { shape, soft: 0.07, colour, strength: 0.85, parasite: true });
    for offset in [-0.12f32, 0.05, 0.18] {
        let angle = middle + offset;
        let (cx, cy) = (at[0] + radius * angle.cos(), at[1] + radius * angle.sin());
        blobs.push(Blob::disc(cx, cy, rng.random_range(0.05f32..0.09), 0.06, chromatin, 0.9, true));
    }
}
