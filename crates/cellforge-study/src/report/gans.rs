//! The generative networks: their grids and their losses.

use std::path::Path;

use cellforge_train::{figures, losses};
use maud::{Markup, html};

use crate::{
    Result,
    results::{GanResult, Results},
};
use cellforge_assess::{
    plots::{Axes, Series},
    report::{
        embed,
        format::{count, plot},
    },
};

/// The GANs with the names of their classes, several where one GAN makes the images of all.
pub(super) fn by_gan(results: &Results) -> Vec<(String, &GanResult)> {
    let mut found: Vec<(String, &GanResult)> = Vec::new();
    for (class, gan) in &results.gan {
        match found.last_mut() {
            // Grids lie in the folder of the run that drew them.
            Some((names, last)) if last.grids == gan.grids && !gan.grids.is_empty() => {
                names.push_str(&format!(", {class}"))
            }
            _ => found.push((class.clone(), gan)),
        }
    }
    found
}

/// The grids of every GAN, embedded.
pub(super) fn grids(results: &Results, base_dir: &Path) -> Result<Markup> {
    let mut gans = Vec::new();
    for (names, gan) in by_gan(results) {
        let images: Vec<_> =
            gan.grids.iter().map(|grid| Ok((grid, embed(&grid.path, base_dir)?))).collect::<Result<_>>()?;
        gans.push((names, gan, images));
    }
    let reads = if results.data.is_phantom { "phantom " } else { "" };
    let many = &results.data.words.many;
    let shared = gans.len() < results.gan.len();
    Ok(html! {
        p { "Each place in a grid shows the same noise vector throughout, so that the pictures of a class can be compared place by place."
            @if shared { " One GAN makes the " (many) " of all classes: its grids show the same noise as each of them, one class below the other." } }
        @for (names, gan, images) in &gans {
            h3 { (names) }
            p.note { "Generator of " (count(gan.params_g as u64)) " parameters, discriminator of " (count(gan.params_d as u64)) ", "
                (count(gan.iterations)) " iterations"
                @if results.published.is_some() { " (the study calls them epochs)" } "." }
            div.grids {
                @for (grid, image) in images {
                    figure {
                        img src={ "data:image/png;base64," (image.base64) } width=(image.width) height=(image.height)
                            alt={ "Grid of synthetic " (reads) (names) " " (many) " after " (count(grid.iteration)) " iterations" };
                        figcaption { "Iteration " (count(grid.iteration)) }
                    }
                }
            }
        }
    })
}

/// Loss curves of every GAN, and the figures of its images while it learned.
pub(super) fn losses(results: &Results) -> Markup {
    let many = &results.data.words.many;
    html! {
        h3 { "GANs" }
        p { "Losses of single batches. The discriminator's losses and the generator's pull against each other; neither says how
            good the pictures are. With the logistic loss, a discriminator that cannot tell real from synthetic has about 0.69." }
        div.plots {
            @for (names, gan) in by_gan(results) {
                (curves(gan, &format!("{names}: GAN losses"), "loss", is_loss))
                @if gan.losses.contains_key(figures::FD) {
                    (curves(gan, &format!("{names}: Fréchet distance to validation {many}"), "distance", |name| name == figures::FD))
                    (curves(gan, &format!("{names}: against validation {many}"), "share", is_share))
                }
            }
        }
    }
}

/// Logs hold other series beside losses, which do not belong on the same axis.
fn is_loss(name: &str) -> bool {
    matches!(name, losses::D | losses::D_REAL | losses::D_FAKE | losses::G | losses::R1 | losses::R2)
}

fn is_share(name: &str) -> bool {
    matches!(name, "precision" | "recall" | "coverage" | "recognised" | "diversity")
}

fn curves(gan: &GanResult, heading: &str, y: &'static str, wanted: impl Fn(&str) -> bool) -> Markup {
    let series: Vec<Series> = gan
        .losses
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, points)| Series {
            name: title(name).to_owned(),
            points: points.iter().map(|p| (p.iteration as f64, p.value)).collect(),
        })
        .collect();
    let axes = Axes { x: "iteration", y, dots: false, share: y == "share" };
    plot(heading, &series, &axes)
}

fn title(name: &str) -> &str {
    match name {
        losses::D => "discriminator",
        losses::D_REAL => "discriminator on real images",
        losses::D_FAKE => "discriminator on synthetic images",
        "g" => "generator",
        "r1" => "penalty at real images",
        "r2" => "penalty at synthetic images",
        figures::FD => "mean over the classes",
        other => other,
    }
}
