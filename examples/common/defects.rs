//! Defects that a whole set of images can have, for the examples that look at whether they are found.

use anyhow::Result;
use cellforge::data::View;

/// With half the pixels, enlarged again.
pub fn enlarged(images: &View) -> Result<View> {
    let half = images.resized(images.size().height / 2, images.channels())?;
    Ok(half.resized(images.size(), images.channels())?)
}

/// As many images of each class, which are the first `different` of it, each many times over.
pub fn repeated(images: &View, different: usize) -> View {
    let rows: Vec<usize> = (0..images.classes().len())
        .flat_map(|label| {
            let of_class = images.class_indices(label as u32);
            let kept = of_class.len().min(different);
            (0..of_class.len()).map(move |i| of_class[i % kept])
        })
        .collect();
    images.part(&rows)
}
