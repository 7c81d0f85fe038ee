//! The generative networks: their grids and their losses.

use std::{collections::BTreeMap, path::Path};

use maud::{Markup, html};

use crate::{
    Result,
    results::{GanResult, LossPoint, Results},
};
use cellforge_assess::report::{embed, format::count, training::gan_curves};

/// The GANs with the names of their classes, several where one GAN makes the images of all.
pub(super) fn by_gan(gans: &BTreeMap<String, GanResult>) -> Vec<(String, &GanResult)> {
    let mut found: Vec<(String, &GanResult)> = Vec::new();
    for (class, gan) in gans {
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
    for (names, gan) in by_gan(&results.gan) {
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
    let beside = format!("validation {}", results.data.words.many);
    html! {
        h3 { "GANs" }
        p { "Losses of single batches. The discriminator's losses and the generator's pull against each other; neither says how
            good the pictures are. With the logistic loss, a discriminator that cannot tell real from synthetic has about 0.69." }
        div.plots { @for (names, gan) in by_gan(&results.gan) { (gan_curves(&names, &curves(gan), &beside)) } }
    }
}

/// The curves of a GAN by name. Losses that were not finite are gaps.
fn curves(gan: &GanResult) -> BTreeMap<String, Vec<(u64, f64)>> {
    let points =
        |curve: &Vec<LossPoint>| curve.iter().map(|point| (point.iteration, point.value.unwrap_or(f64::NAN))).collect();
    gan.losses.iter().map(|(name, curve)| (name.clone(), points(curve))).collect()
}
