//! Sets of "synthetic" images that leak training images, and sets that do not: which does the search for copies find?
//!
//! ```sh
//! cargo run --release --example attacks                        # the phantom, in a minute or two
//! cargo run --release --example attacks -- cells.zip 1000      # one's own images with patients in their names, so many a set
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::{collections::BTreeMap, time::Instant};

use cellforge::{
    assess::{
        Control,
        copies::{CopyConfig, Known, Search},
    },
    data::{SplitOptions, SplitRule, View, ViewParts, phantom, split},
    study::nih,
};

/// Random numbers, one after the other, by SplitMix64.
struct Lot(u64);

impl Lot {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn within(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.next() >> 40) as f32 / (1_u64 << 24) as f32
    }

    fn shuffled(&mut self, mut rows: Vec<usize>) -> Vec<usize> {
        for i in (1..rows.len()).rev() {
            rows.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
        rows
    }
}

/// How an image is changed: turned by an angle, zoomed and shifted, mirrored, recoloured and noised.
#[derive(Clone, Copy, Default)]
struct Change {
    degrees: [f32; 2],
    zoom: f32,
    shift: f32,
    mirror: bool,
    colour: f32,
    noise: f32,
    /// Side of the square over which pixels are averaged, less 1, in pixels.
    blur: usize,
    /// The right half is another image's.
    halves: bool,
}

/// An image averaged over a square around each pixel.
fn blurred(image: &[u8], side: usize, channels: usize, reach: usize) -> Vec<u8> {
    let around = |at: usize| at.saturating_sub(reach)..(at + reach + 1).min(side);
    let value = |i: usize| {
        let (y, x, channel) = (i / channels / side, i / channels % side, i % channels);
        let square = around(y).flat_map(|y| around(x).map(move |x| (y * side + x) * channels + channel));
        let (sum, n) = square.fold((0, 0), |(sum, n), at| (sum + u32::from(image[at]), n + 1));
        (sum / n) as u8
    };
    (0..image.len()).map(value).collect()
}

fn changed(view: &View, i: usize, change: Change, lot: &mut Lot) -> Vec<u8> {
    let (side, channels) = (view.size().height, view.channels());
    let image = &blurred(view.image(i), side, channels, change.blur / 2);
    let half = (side as f32 - 1.0) / 2.0;
    let (sin, cos) = lot.within(change.degrees[0], change.degrees[1]).to_radians().sin_cos();
    let zoom = 1.0 + lot.within(-change.zoom, change.zoom);
    let shift = [(); 2].map(|()| side as f32 * lot.within(-change.shift, change.shift));
    let mirror = if change.mirror && lot.next().is_multiple_of(2) { -1.0 } else { 1.0 };
    let gains: Vec<f32> = (0..channels).map(|_| 1.0 + lot.within(-change.colour, change.colour)).collect();
    let mut out = Vec::with_capacity(image.len());
    for y in 0..side {
        for x in 0..side {
            let (py, px) = (y as f32 - half, mirror * (x as f32 - half));
            let y = (zoom * (cos * py - sin * px) + shift[0] + half).clamp(0.0, side as f32 - 1.0);
            let x = (zoom * (sin * py + cos * px) + shift[1] + half).clamp(0.0, side as f32 - 1.0);
            let (y0, x0) = (y as usize, x as usize);
            let (y1, x1) = ((y0 + 1).min(side - 1), (x0 + 1).min(side - 1));
            let (fy, fx) = (y - y0 as f32, x - x0 as f32);
            for (channel, gain) in gains.iter().enumerate() {
                let at = |y: usize, x: usize| f32::from(image[(y * side + x) * channels + channel]);
                let (top, bottom) =
                    (at(y0, x0) + fx * (at(y0, x1) - at(y0, x0)), at(y1, x0) + fx * (at(y1, x1) - at(y1, x0)));
                let value = gain * (top + fy * (bottom - top)) + lot.within(-change.noise, change.noise);
                out.push((value + 0.5).clamp(0.0, 255.0) as u8);
            }
        }
    }
    out
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let all = match args.next().as_deref() {
        None | Some("phantom") => phantom::render(&phantom::PhantomConfig {
            images_per_class: 400,
            patients: 40,
            ..phantom::PhantomConfig::default()
        })?,
        Some(path) => View::open(path, &nih::open_options(64, 3))?,
    };
    let wanted: usize = args.next().map_or(Ok(200), |text| text.parse())?;
    let by = SplitRule::Group;
    let parts = split(&all, &SplitOptions { by, val: 0.25, test: 0.2, seed: 1, ..SplitOptions::default() })?;
    // Patients of a third kind stand for what a good generator makes: new images.
    let (training, holdout, third) = (all.part(&parts.train), all.part(&parts.test), all.part(&parts.val));
    let patients = |view: &View| view.groups().ok_or("the patients of the images are not known");
    let (of_training, of_holdout) = (patients(&training)?, patients(&holdout)?);
    println!("{} training images, {} held out, {} of third patients", training.len(), holdout.len(), third.len());

    let mut lot = Lot(1);
    let mut by_patient: BTreeMap<&String, Vec<usize>> = BTreeMap::new();
    of_training.iter().enumerate().for_each(|(i, patient)| by_patient.entry(patient).or_default().push(i));
    let order = lot.shuffled((0..by_patient.len()).collect());
    let of_patients = |n: usize, least: usize| -> Vec<usize> {
        let large = order.iter().filter_map(|&at| by_patient.values().nth(at).filter(|rows| rows.len() >= least));
        large.take(n).flatten().copied().collect()
    };
    let whole: Vec<usize> = (0..training.len()).collect();
    let tenth = wanted / 10;
    let noise = |noise| Change { noise, ..Change::default() };
    let turned = Change { degrees: [15.0, 75.0], mirror: true, colour: 0.15, noise: 2.0, ..Change::default() };
    let cropped = Change { zoom: 0.15, shift: 0.05, noise: 2.0, ..Change::default() };
    // Name, the training images that leak, how many of them, and how they are changed.
    let attacks: Vec<(&str, Vec<usize>, usize, Change)> = vec![
        ("none: images of third patients", Vec::new(), 0, Change::default()),
        ("10% of one patient, noise 1", of_patients(1, tenth.min(20)), tenth, noise(1.0)),
        ("10% of five patients, noise 2", of_patients(5, 4), tenth, noise(2.0)),
        ("2% of all patients, noise 2", whole.clone(), wanted / 50, noise(2.0)),
        ("1% of one patient, turned and recoloured", of_patients(1, 5), wanted / 100, turned),
        ("5% of all patients, cropped and shifted", whole.clone(), wanted / 20, cropped),
        ("5% of all patients, blurred over 5 x 5", whole.clone(), wanted / 20, Change { blur: 4, ..noise(1.0) }),
        ("5% are halves of two images", whole.clone(), wanted / 20, Change { halves: true, ..noise(1.0) }),
        ("all, turned, mirrored and recoloured", whole, wanted, turned),
    ];
    println!("{:<44} {:>7} {:>7} {:>7} {:>9} {:>7}", "", "copies", "found", "wrongly", "limit", "seconds");
    let folder = std::env::temp_dir().join(format!("cellforge-attacks-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let control = Control::default();
    let mut told = None;
    for (number, (name, rows, copies, change)) in attacks.into_iter().enumerate() {
        let start = Instant::now();
        let mut pixels = Vec::new();
        for _ in 0..copies {
            let mut draw = || changed(&training, rows[lot.next() as usize % rows.len()], change, &mut lot);
            let mut image = draw();
            if change.halves {
                let (other, width) = (draw(), all.size().width * all.channels());
                let right = |i: &usize| i % width >= width / 2;
                (0..image.len()).filter(right).for_each(|i| image[i] = other[i]);
            }
            pixels.extend(image);
        }
        let fresh = lot.shuffled((0..third.len()).collect());
        let fresh: Vec<usize> = fresh.into_iter().take(wanted - copies).collect();
        pixels.extend(third.part(&fresh).pixels());
        let synthetic =
            View::new(ViewParts { size: all.size(), channels: all.channels(), pixels, ..ViewParts::default() })?;
        // The copies that are made on purpose are the same for every set.
        let config = CopyConfig { planted: if number == 0 { 60 } else { 0 }, ..CopyConfig::default() };
        let search =
            Search { config: &config, alpha: 0.025, seed: 1, spaces: Ok(&[]), folder: &folder, control: &control };
        let found = search.run(
            Known { view: &training, patients: Some(&of_training) },
            Some(Known { view: &holdout, patients: Some(&of_holdout) }),
            &synthetic,
        )?;
        let right = found.found.iter().filter(|copy| copy.index < copies).count();
        let near = found.near.ok_or("near copies were not looked for")?;
        println!(
            "{name:<44} {copies:>7} {right:>7} {:>7} {:>9.3} {:>7.1}",
            found.found.len() - right,
            near.spaces[0].threshold,
            start.elapsed().as_secs_f64()
        );
        if found.found.len() > right {
            let ratios =
                found.found.iter().filter(|copy| copy.index >= copies).map(|copy| format!("{:.3}", copy.ratio));
            println!("    ratios of those taken wrongly: {}", ratios.collect::<Vec<_>>().join(" "));
        }
        told = told.or(Some(near));
    }
    std::fs::remove_dir_all(&folder)?;
    if let Some(near) = told {
        let alarms = &near.false_alarms;
        println!("\nof {} patients {} would have been accused by the others' limit", alarms.units, alarms.accused);
        for power in &near.power {
            println!("{:<32} found one by one: {:.0}%", power.kind, 100.0 * power.found.rate);
        }
    }
    Ok(())
}
