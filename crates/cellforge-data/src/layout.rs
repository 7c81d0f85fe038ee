//! What the folders above images mean: classes, groups (patients), or the parts of a split.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use unicode_normalization::UnicodeNormalization;

use crate::split::SplitPart;
use crate::{Error, Result};

/// What one level of folders means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The class of the images below.
    Class,
    /// Their group, such as a patient.
    Group,
    /// Their part of a split: training, validation or test.
    Part,
    /// Nothing.
    Any,
}

/// What the levels of folders above the images mean, from the outermost to the innermost.
///
/// ```
/// use cellforge_data::Layout;
///
/// let layout: Layout = "part/class/group".parse()?;
/// assert_eq!(layout.to_string(), "part/class/group");
/// assert!("class/class".parse::<Layout>().is_err());
/// # Ok::<(), cellforge_data::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout(Vec<Level>);

impl FromStr for Layout {
    type Err = Error;

    /// `class`, `group` (or `patient`), `part` (or `split`) and `*`, with `/` between them.
    fn from_str(text: &str) -> Result<Self> {
        let level = |word: &str| match word {
            "class" => Some(Level::Class),
            "group" | "patient" => Some(Level::Group),
            "part" | "split" => Some(Level::Part),
            "*" => Some(Level::Any),
            _ => None,
        };
        let levels: Option<Vec<Level>> = text.trim_matches('/').split('/').map(level).collect();
        let once = |levels: &[Level], level| levels.iter().filter(|other| **other == level).count() <= 1;
        match levels {
            Some(levels) if [Level::Class, Level::Group, Level::Part].into_iter().all(|level| once(&levels, level)) => {
                Ok(Self(levels))
            }
            _ => Err(Error::Invalid(format!(
                "a layout names what each level of folders is, as in class/group: class, group, part (each once) or *, not {text:?}"
            ))),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |level: &Level| match level {
            Level::Class => "class",
            Level::Group => "group",
            Level::Part => "part",
            Level::Any => "*",
        };
        f.write_str(&self.0.iter().map(word).collect::<Vec<_>>().join("/"))
    }
}

/// The part of a split that a folder, an array or a word of a table names, in any case: `train` or `Training`, `val`, `valid` or
/// `validation`, `test` or `testing`; also with `set`, `data` or `images` after it.
pub(crate) fn part_of(word: &str) -> Option<SplitPart> {
    let lower = word.trim().to_ascii_lowercase();
    let mut name = lower.as_str();
    for end in ["dataset", "images", "data", "set", "split"] {
        if let Some(rest) = name.strip_suffix(end) {
            name = rest.trim_end_matches(['_', '-', ' ']);
            break;
        }
    }
    match name {
        "train" | "training" => Some(SplitPart::Train),
        "val" | "valid" | "validation" | "validate" | "dev" => Some(SplitPart::Val),
        "test" | "testing" => Some(SplitPart::Test),
        _ => None,
    }
}

/// A name in one of the forms that Unicode has for it, so that names compare whatever system wrote them.
pub(crate) fn normal(name: &str) -> String {
    if name.is_ascii() { name.to_owned() } else { name.nfc().collect() }
}

/// What its folders say of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) class: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) part: Option<SplitPart>,
}

/// How the folders of a source were understood.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// The levels that mean something.
    pub(crate) layout: Layout,
    /// What is said of each image, in their order; none of one that lies elsewhere.
    pub(crate) placed: Vec<Option<Placed>>,
    /// The number of folders above a class's folder, where a class's folder holds its images and nothing lies between.
    pub(crate) class_depth: Option<usize>,
}

/// Folders that can be read in several ways.
#[derive(Debug)]
pub(crate) struct Ambiguous(pub(crate) String);

/// The folders above a file, outermost first.
fn folders(path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    parts
}

/// Reads the folders of images by a layout that is given.
pub(crate) fn by(layout: &Layout, paths: &[&str]) -> Reading {
    let levels = &layout.0;
    let placed = paths.iter().map(|path| {
        let folders = folders(path);
        let inner = &folders[folders.len().checked_sub(levels.len())?..];
        let mut placed = Placed::default();
        for (level, name) in levels.iter().zip(inner) {
            match level {
                Level::Class => placed.class = Some(normal(name)),
                Level::Group => placed.group = Some(normal(name)),
                // A folder that names no part of a split leaves its images out of it.
                Level::Part => placed.part = part_of(name),
                Level::Any => {}
            }
        }
        Some(placed)
    });
    Reading { layout: layout.clone(), placed: placed.collect(), class_depth: None }
}

/// As if there were no folders.
pub(crate) fn by_nothing(images: usize) -> Reading {
    Reading { layout: Layout(Vec::new()), placed: vec![Some(Placed::default()); images], class_depth: None }
}

/// The same with folders of groups where it has classes.
pub(crate) fn by_groups(mut reading: Reading) -> Reading {
    for placed in reading.placed.iter_mut().flatten() {
        placed.group = placed.class.take();
    }
    for level in &mut reading.layout.0 {
        if *level == Level::Class {
            *level = Level::Group;
        }
    }
    reading.class_depth = None;
    reading
}

/// Finds out what the folders of images mean: parts of a split by their names, and of the other levels that differ the classes and, where
/// there are two or more, the groups. Images that lie at another depth than most of them are elsewhere.
pub(crate) fn found(paths: &[&str]) -> std::result::Result<Reading, Ambiguous> {
    let all: Vec<Vec<&str>> = paths.iter().map(|path| folders(path)).collect();
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for folders in &all {
        *counts.entry(folders.len()).or_default() += 1;
    }
    // The most frequent depth, and of several the least.
    let depth = counts.iter().rev().max_by_key(|(_, count)| **count).map_or(0, |(depth, _)| *depth);
    let kept = || all.iter().filter(|folders| folders.len() == depth);
    let names: Vec<BTreeSet<&str>> = (0..depth).map(|at| kept().map(|folders| folders[at]).collect()).collect();
    let mut levels: Vec<Level> = vec![Level::Any; depth];
    let differ: Vec<usize> = (0..depth).filter(|at| names[*at].len() > 1).collect();
    let part = differ.iter().copied().find(|at| {
        let parts: Option<BTreeSet<SplitPart>> = names[*at].iter().map(|name| part_of(name)).collect();
        parts.is_some_and(|parts| parts.len() > 1)
    });
    if let Some(at) = part {
        levels[at] = Level::Part;
    }
    let rest: Vec<usize> = differ.into_iter().filter(|at| Some(*at) != part).collect();
    match rest.as_slice() {
        // All lie in one folder, whose name is their class's, unless it is the source itself.
        [] if depth > 0 && part.is_none() => levels[depth - 1] = Level::Class,
        [] => {}
        [class] => levels[*class] = Level::Class,
        several => {
            let (class, group) = class_and_group(several, &names)?;
            levels[class] = Level::Class;
            levels[group] = Level::Group;
        }
    }
    let class = levels.iter().position(|level| *level == Level::Class);
    let mut reading = by(&Layout(levels), paths);
    for (placed, folders) in reading.placed.iter_mut().zip(&all) {
        if folders.len() != depth {
            *placed = None;
        }
    }
    reading.class_depth = class.filter(|class| class + 1 == depth);
    reading.layout.0.retain(|level| *level != Level::Any);
    Ok(reading)
}

/// Which of several levels of folders names classes and which groups. Numbers tell groups from classes, or else there are many more of them.
fn class_and_group(levels: &[usize], names: &[BTreeSet<&str>]) -> std::result::Result<(usize, usize), Ambiguous> {
    let has_digit = |name: &&str| name.bytes().any(|byte| byte.is_ascii_digit());
    let named: Vec<usize> = levels.iter().copied().filter(|at| !names[*at].iter().any(&has_digit)).collect();
    let numbered: Vec<usize> = levels.iter().copied().filter(|at| names[*at].iter().all(&has_digit)).collect();
    let count = |at: &usize| names[*at].len();
    let mut by_count = levels.to_vec();
    by_count.sort_by_key(count);
    let (fewest, next, most) = (by_count[0], by_count[1], by_count[by_count.len() - 1]);
    if let [class] = named.as_slice()
        && let Some(group) = numbered.iter().copied().max_by_key(count)
    {
        return Ok((*class, group));
    }
    // Numbers of classes are short: 0 and 1, or stage2.
    let short = |at: &usize| names[*at].iter().all(|name| name.bytes().filter(u8::is_ascii_digit).count() == 1);
    if named.is_empty() && short(&fewest) && count(&next) >= 2 * count(&fewest) {
        return Ok((fewest, most));
    }
    let examples = levels.iter().map(|at| {
        let examples: Vec<String> = names[*at].iter().take(3).map(|name| format!("{name:?}")).collect();
        format!("{} ({}{})", count(at), examples.join(", "), if count(at) > 3 { ", ..." } else { "" })
    });
    Err(Ambiguous(examples.collect::<Vec<_>>().join(", and below them ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(paths: &[&str]) -> (String, Vec<Option<Placed>>) {
        let reading = found(paths).unwrap();
        (reading.layout.to_string(), reading.placed)
    }

    fn placed(class: Option<&str>, group: Option<&str>, part: Option<SplitPart>) -> Option<Placed> {
        Some(Placed { class: class.map(str::to_owned), group: group.map(str::to_owned), part })
    }

    #[test]
    fn layouts_are_found() {
        let (layout, images) = read(&["set/ill/1.png", "set/well/2.png"]);
        assert_eq!((layout.as_str(), &images[0]), ("class", &placed(Some("ill"), None, None)));
        let (layout, images) = read(&["Training/ill/1.png", "Training/well/2.png", "Testing/ill/3.png"]);
        assert_eq!((layout.as_str(), &images[2]), ("part/class", &placed(Some("ill"), None, Some(SplitPart::Test))));
        let (layout, images) = read(&["ill/VALID/1.png", "ill/train_set/2.png", "well/TRAIN/3.png"]);
        assert_eq!((layout.as_str(), &images[0]), ("class/part", &placed(Some("ill"), None, Some(SplitPart::Val))));
        let (layout, images) = read(&["ill/p1/1.png", "ill/p2/1.png", "well/p3/1.png", "well/p4/1.png"]);
        assert_eq!((layout.as_str(), &images[2]), ("class/group", &placed(Some("well"), Some("p3"), None)));
        let (layout, images) = read(&["p1/ill/1.png", "p1/well/1.png", "p2/well/1.png"]);
        assert_eq!((layout.as_str(), &images[1]), ("group/class", &placed(Some("well"), Some("p1"), None)));
        let (layout, _) = read(&["8863/0/a.png", "8863/1/a.png", "9012/0/a.png", "9123/1/a.png", "9124/1/a.png"]);
        assert_eq!(layout, "group/class");
        let (layout, images) = read(&["train/ill/p1/x.png", "train/well/p2/x.png", "test/ill/p3/x.png"]);
        assert_eq!(
            (layout.as_str(), &images[0]),
            ("part/class/group", &placed(Some("ill"), Some("p1"), Some(SplitPart::Train)))
        );
        // What is the same for all means nothing.
        let (layout, images) = read(&["d/ill/images/1.png", "d/well/images/2.png"]);
        assert_eq!((layout.as_str(), &images[1]), ("class", &placed(Some("well"), None, None)));
        assert_eq!(read(&["1.png", "2.png"]), (String::new(), vec![placed(None, None, None); 2]));
        assert_eq!(read(&["ill/1.png"]).1, [placed(Some("ill"), None, None)]);
        let (layout, images) = read(&["train/1.png", "test/2.png"]);
        assert_eq!((layout.as_str(), &images[1]), ("part", &placed(None, None, Some(SplitPart::Test))));
    }

    #[test]
    fn what_lies_elsewhere_is_told() {
        let (_, images) = read(&["a/1.png", "b/2.png", "c/deep/3.png", "4.png"]);
        assert_eq!(images.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, false]);
    }

    #[test]
    fn what_could_be_two_things_is_no_ones_guess() {
        for paths in [
            &["left/ill/1.png", "left/well/1.png", "right/ill/1.png", "right/well/1.png"][..],
            &["benign/adenosis/1.png", "benign/fibroma/1.png", "malignant/ductal/1.png", "malignant/lobular/1.png"],
            &["images/a/1.png", "images/b/1.png", "others/c/1.png"],
            &["PA01/SE01/1", "PA02/SE01/1", "PA03/SE02/1", "PA04/SE02/1"],
        ] {
            assert!(found(paths).is_err(), "{paths:?}");
        }
        let Ambiguous(words) = found(&["x/a/1.png", "y/b/1.png"]).unwrap_err();
        assert_eq!(words, "2 (\"x\", \"y\"), and below them 2 (\"a\", \"b\")");
    }

    #[test]
    fn a_layout_that_is_given_counts_from_the_image() {
        let layout: Layout = "class/*/patient".parse().unwrap();
        let reading = by(&layout, &["set/ill/sob/p1/1.png", "p1/1.png"]);
        assert_eq!(reading.placed, [placed(Some("ill"), Some("p1"), None), None]);
        for text in ["", "class/class", "class/what", "class//group"] {
            assert!(text.parse::<Layout>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn parts_have_many_names() {
        for (word, part) in [
            ("train", Some(SplitPart::Train)),
            ("TRAINING", Some(SplitPart::Train)),
            ("train_images", Some(SplitPart::Train)),
            ("Training_Set", Some(SplitPart::Train)),
            ("testset", Some(SplitPart::Test)),
            ("Testing", Some(SplitPart::Test)),
            ("valid", Some(SplitPart::Val)),
            ("trainer", None),
            ("images", None),
            ("testis", None),
        ] {
            assert_eq!(part_of(word), part, "{word}");
        }
    }

    #[test]
    fn names_compare_whatever_wrote_them() {
        assert_eq!(normal("u\u{308}"), normal("ü"));
        assert_eq!(
            read(&["train/u\u{308}/1.png", "test/ü/2.png", "test/b/3.png"]).1[0].as_ref().unwrap().class.as_deref(),
            Some("ü")
        );
    }
}
