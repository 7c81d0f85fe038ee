//! Splits that the source itself states.

use super::{Split, SplitOptions, SplitPart, SplitRule, sides};
use crate::duplicates::Duplicates;
use crate::{Error, Result, View, counted};

/// The parts that folders, a table or the file put the images into. Where a validation or a test part is asked for and there is none, it is
/// drawn from the training part. Of identical images in two parts, those of the part that learns are left out.
pub(super) fn given(view: &View, options: &SplitOptions) -> Result<Split> {
    if !view.has_given_parts() {
        return Err(Error::Invalid(
            "the source states no split: nothing says which images are for training and which for validation or the test".to_owned(),
        ));
    }
    let of = |part| (0..view.len()).filter(|i| view.given_part(*i) == Some(part)).collect::<Vec<_>>();
    let mut split = Split { train: of(SplitPart::Train), val: of(SplitPart::Val), test: of(SplitPart::Test) };
    let train = 1.0 - options.val - options.test;
    for (share, part) in [(options.val, &mut split.val), (options.test, &mut split.test)] {
        if share > 0.0 && part.is_empty() {
            let share = share / (train + share);
            let learn = view.part(&split.train);
            let rule = SplitRule::drawn(&learn);
            let [rest, drawn] = sides(&learn, rule, &[1.0 - share, share], options.seed, options.duplicates)?
                .try_into()
                .map_err(|_| Error::Invalid("a split has two sides".to_owned()))?;
            *part = drawn.into_iter().map(|i| split.train[i]).collect();
            split.train = rest.into_iter().map(|i| split.train[i]).collect();
        }
    }
    let unused = view.len() - split.train.len() - split.val.len() - split.test.len();
    if unused > 0 {
        tracing::warn!(
            "{} that the source puts into no part of its split: left out of it",
            counted(unused, "image", "images")
        );
    }
    if options.duplicates == Duplicates::SameSide {
        part_twins(view, &mut split);
    }
    warn_of_groups(view, &split);
    Ok(split)
}

/// Takes training images out that are identical to one of another part, and validation images that are to one of the test.
fn part_twins(view: &View, split: &mut Split) {
    let twins = view.twins();
    let pictures = |images: &[usize]| images.iter().map(|i| twins[*i]).collect::<std::collections::BTreeSet<_>>();
    let test = pictures(&split.test);
    let before = split.train.len() + split.val.len();
    split.val.retain(|i| !test.contains(&twins[*i]));
    let val = pictures(&split.val);
    split.train.retain(|i| !test.contains(&twins[*i]) && !val.contains(&twins[*i]));
    let dropped = before - split.train.len() - split.val.len();
    if dropped > 0 {
        tracing::warn!(
            "{} of the training or validation part of the source's split are identical to one of a later part: left out of it",
            counted(dropped, "image", "images")
        );
    }
}

fn warn_of_groups(view: &View, split: &Split) {
    let names = |images: &[usize]| {
        view.part(images).group_names().into_iter().map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let (train, test) = (names(&split.train), names(&split.test));
    let both = train.intersection(&test).count();
    if both > 0 {
        tracing::warn!(
            "{} of the source's split have images in its training part and in its test part",
            counted(both, "group (patient)", "groups (patients)")
        );
    }
}
