use image::{DynamicImage, RgbImage};

use super::{SingleClass, View, ViewParts};
use crate::names::folder_name;
use crate::{Error, ImageSize};

fn parts() -> ViewParts {
    ViewParts {
        classes: vec!["a".into(), "b".into()],
        names: vec!["a/1".into(), "b/2".into()],
        labels: vec![0, 1],
        groups: vec![Some("P1".into()), Some("P2".into())],
        size: 2.into(),
        channels: 1,
        pixels: (0..8).collect(),
    }
}

fn two() -> View {
    View::new(parts()).unwrap()
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let make = |labels: Vec<u32>, channels, bytes| {
        let (classes, names, groups) = (vec!["a".into()], vec!["x".to_owned()], vec![None]);
        View::new(ViewParts { classes, names, labels, groups, size: 2.into(), channels, pixels: vec![0; bytes] })
    };
    assert!(make(vec![0], 1, 4).is_ok());
    assert!(make(vec![1], 1, 4).unwrap_err().to_string().contains("label 1"));
    assert!(make(vec![0], 2, 8).is_err());
    assert!(make(vec![0], 1, 5).is_err());
    assert!(make(vec![0, 0], 1, 4).is_err());
    // What is left out is filled in; what is given must be of one length.
    assert_eq!(make(vec![], 1, 4).unwrap().labels(), [0]);
    assert!(View::new(ViewParts { size: 2.into(), channels: 1, pixels: vec![0; 7], ..ViewParts::default() }).is_err());
    assert!(View::new(ViewParts { size: 0.into(), channels: 1, ..ViewParts::default() }).is_err());
    assert!(View::new(ViewParts { groups: vec![None; 3], ..parts() }).is_err());
}

#[test]
fn a_part_and_its_fingerprint_follow_the_content() {
    let set = two();
    assert_eq!(set.part(&[1]).image(0), &[4, 5, 6, 7]);
    assert_eq!(set.class_counts(), [1, 1]);
    assert_eq!(set.fingerprint(), set.part(&[0, 1]).fingerprint());
    assert_ne!(set.fingerprint(), set.part(&[1, 0]).fingerprint());
    let other = View::new(ViewParts { groups: vec![Some("P3".into()), Some("P2".into())], ..parts() }).unwrap();
    assert_ne!(set.fingerprint(), other.fingerprint());
}

#[test]
fn the_fingerprint_is_pinned() {
    // Runs that were begun with another version go on only with the same value.
    assert_eq!(two().fingerprint(), "ebad3a28903e14030bc5a89fa8da10f88d07a8cf94813fd210f259841b6a2c4a");
}

#[test]
fn views_of_views_know_their_rows() {
    let pixels = (0..6 * 4).collect();
    let classes = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
    let labels = vec![0, 1, 2, 0, 1, 2];
    let all = View::new(ViewParts { classes, labels, size: 2.into(), channels: 1, pixels, ..ViewParts::default() });
    let all = all.unwrap();
    let part = all.part(&[5, 4, 1, 4]);
    assert_eq!((part.rows(), part.labels()), (vec![5, 4, 1, 4], vec![2, 1, 1, 1]));
    let of_b = part.class(1);
    assert_eq!((of_b.rows(), of_b.labels(), of_b.classes()), (vec![4, 1, 4], vec![0; 3], &["b".to_owned()][..]));
    assert_eq!(of_b.first(2).rows(), [4, 1]);
    assert_eq!(of_b.first(9).len(), 3);
    assert_eq!(of_b.part(&[1]).name(0), "000002");
    assert_eq!((of_b.whole(), of_b.whole().rows()), (all.clone(), (0..6).collect()));
    assert_eq!(part.first_shared(&all.part(&[0, 1])), Some(2));
    assert_eq!(part.first_shared(&all.part(&[0, 2])), None);
    // An equal image of another set is another image.
    assert_eq!(part.first_shared(&View::new(all.to_parts()).unwrap()), None);
    assert_eq!(View::new(all.to_parts()).unwrap(), all);
}

#[test]
#[should_panic(expected = "position 2 is past the end of 2 images")]
fn a_part_is_of_the_view() {
    let _ = two().part(&[0, 2]);
}

#[test]
fn classes_go_by_name_or_folder() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let classes = vec!["z".to_owned(), folder_name("x y")];
    let view = View::new(ViewParts { classes, ..parts() }).unwrap();
    let known = names(&["q", "x y", "z"]);
    let relabelled = view.relabelled(&known).unwrap();
    assert_eq!((relabelled.labels(), relabelled.classes()), (vec![2, 1], &known[..]));
    assert_eq!(relabelled.class(2).labels(), [0]);
    assert_eq!(relabelled.class(1).rows(), [1]);
    // Once more, from the new labels.
    assert_eq!(relabelled.relabelled(&names(&["z", "x y"])).unwrap().labels(), [0, 1]);
    let error = view.relabelled(&names(&["z", "q"])).unwrap_err();
    assert!(matches!(&error, Error::UnknownClass { class, .. } if *class == folder_name("x y")), "{error}");
    // A class that no image is of is no matter.
    assert_eq!(view.part(&[0]).relabelled(&names(&["q", "z"])).unwrap().labels(), [1]);
}

#[test]
fn joined_views_share_their_classes_by_name() {
    let classes = vec!["b".to_owned(), "c".to_owned()];
    let other = View::new(ViewParts { classes, ..parts() }).unwrap();
    let joined = View::joined(&[two(), other.clone()]).unwrap();
    assert_eq!((joined.classes().join(" "), joined.labels()), ("a b c".to_owned(), vec![0, 1, 1, 2]));
    assert_eq!((joined.image(3), joined.group(3), joined.name(3)), (&[4, 5, 6, 7][..], Some("P2"), "b/2"));
    assert!(View::joined(&[two(), other.resized(4, 1).unwrap()]).is_err());
    assert!(View::joined(&[]).is_err());
}

#[test]
fn images_come_and_go_as_rgb() {
    let grey = two();
    assert_eq!(grey.rgb(1).get_pixel(1, 0).0, [5; 3]);
    assert_eq!(
        View::from_grey(grey.rgb_images().map(|image| DynamicImage::from(image).into_luma8())).unwrap().image(1),
        grey.image(1)
    );
    assert!(View::from_rgb([]).is_err());
    // Four across and five down.
    assert_eq!(View::from_rgb([RgbImage::new(4, 5)]).unwrap().size(), ImageSize::new(5, 4));
    assert!(View::from_rgb([RgbImage::new(4, 4), RgbImage::new(5, 5)]).is_err());
    assert!(View::from_rgb([RgbImage::new(4, 5), RgbImage::new(5, 4)]).is_err());
}

#[test]
fn groups_of_one_class_are_counted() {
    let groups = ["p", "p", "q", "q", "r"].map(|group| Some(group.to_owned())).to_vec();
    let view = View::new(ViewParts {
        classes: vec!["a".into(), "b".into()],
        labels: vec![0, 1, 1, 1, 0],
        groups,
        size: 1.into(),
        channels: 1,
        pixels: vec![0; 5],
        ..ViewParts::default()
    })
    .unwrap();
    let counts = view.single_class_groups();
    assert_eq!(counts, [SingleClass { groups: 1, images: 1 }, SingleClass { groups: 1, images: 2 }]);
}

#[test]
fn resizing_keeps_a_flat_colour_and_the_labels() {
    let pixels = [10, 200, 30].repeat(16).into_iter().chain([77, 77, 77].repeat(16)).collect();
    let set = View::new(ViewParts { size: 4.into(), channels: 3, pixels, groups: vec![None; 2], ..parts() }).unwrap();
    let larger = set.resized(8, 3).unwrap();
    assert_eq!(larger.image(0), [10, 200, 30].repeat(64));
    assert_eq!(larger.labels(), [0, 1]);
    let grey = set.resized(8, 1).unwrap();
    assert_eq!(grey.image(1), [77; 64]);
}

#[test]
fn an_image_is_known_by_its_pixels_alone() {
    let view = two();
    // The SHA-256 of 02 00 00 00 00 00 00 00, 01, 00 01 02 03, by coreutils' sha256sum.
    assert_eq!(view.pixel_hash(0), 0x8add_3637_6147_5eb1);
    let renamed = View::new(ViewParts { names: vec!["x".into(), "y".into()], groups: vec![], ..parts() }).unwrap();
    assert_eq!(renamed.part(&[1, 0]).pixel_hash(1), view.pixel_hash(0));
    assert_ne!(view.pixel_hash(1), view.pixel_hash(0));
    // The same bytes as one image of another size.
    let column = View::new(ViewParts { size: 1.into(), channels: 1, pixels: vec![0], ..ViewParts::default() }).unwrap();
    let grey =
        View::new(ViewParts { size: 1.into(), channels: 3, pixels: vec![0; 3], ..ViewParts::default() }).unwrap();
    assert_ne!(column.pixel_hash(0), grey.pixel_hash(0));
}
