//! Layouts that images come in, and what is said of what is no image: each is read as it is meant, or an error names it.

use std::path::Path;

use crate::common::{png, write_folder, write_zip};
use cellforge_data::{
    Duplicates, Error, Groups, Index, Masks, OpenOptions, SplitOptions, SplitPart, SplitRule, Table, View, k_fold,
    split,
};

fn options() -> OpenOptions {
    let mut options = OpenOptions::new(8, 3);
    options.allow_one_class = true;
    options
}

/// A PNG whose pixels differ, and which no other value gives.
fn textured(value: u8) -> Vec<u8> {
    let image = image::RgbImage::from_fn(8, 8, |x, y| image::Rgb([value, (x * 30) as u8, (y * 31) as u8]));
    encoded(image, image::ImageFormat::Png)
}

fn encoded(image: image::RgbImage, format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A folder of files.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_folder(dir.path(), files);
    dir
}

/// Images named by these paths, each with pixels of its own.
fn folder_of(paths: &[String]) -> tempfile::TempDir {
    let images: Vec<Vec<u8>> = (0..paths.len()).map(|i| textured(i as u8)).collect();
    let files: Vec<(&str, &[u8])> = paths.iter().map(String::as_str).zip(images.iter().map(Vec::as_slice)).collect();
    folder(&files)
}

fn counts(left_out: &[cellforge_data::LeftOut]) -> Vec<(String, usize)> {
    left_out.iter().map(|left| (left.ending.clone(), left.files)).collect()
}

#[test]
fn folders_of_parts_are_the_split() {
    for [train, test] in [["train", "test"], ["Training", "Testing"], ["TRAIN_SET", "Test"]] {
        let paths: Vec<String> = [(train, 20), (test, 6)]
            .iter()
            .flat_map(|(part, n)| (0..*n).map(move |i| format!("set/{part}/{}/{i}.png", ["ill", "well"][i % 2])))
            .collect();
        let dir = folder_of(&paths);
        let view = View::open(dir.path(), &options()).unwrap();
        assert_eq!(
            (view.classes(), view.facts().layout.as_str()),
            (&["ill".to_owned(), "well".to_owned()][..], "part/class")
        );
        assert_eq!(SplitRule::Auto.settled(&view), SplitRule::Given);
        let parts = split(&view, &SplitOptions::default()).unwrap();
        // What there is no folder for is drawn from the training part.
        assert!(!parts.val.is_empty() && parts.test.len() == 6);
        assert!(parts.test.iter().all(|i| view.given_part(*i) == Some(SplitPart::Test)));
        assert_eq!(parts.train.len() + parts.val.len(), 20);
        let whole = split(&view, &SplitOptions { val: 0.0, ..SplitOptions::default() }).unwrap();
        assert_eq!((whole.train.len(), whole.val.len(), whole.test.len()), (20, 0, 6));
        // Folds are of all images.
        let folds = k_fold(&view, 2, SplitRule::Auto, 0).unwrap();
        assert_eq!(folds[0].test.len() + folds[1].test.len(), 26);
        assert!(split(&view, &SplitOptions { by: SplitRule::Image, ..SplitOptions::default() }).is_ok());
    }
}

#[test]
fn folders_of_patients_are_groups() {
    let inside: Vec<String> = (0..12).map(|i| format!("{}/p{i}/1.png", ["ill", "well"][i % 2])).collect();
    let outside: Vec<String> = (0..12).map(|i| format!("p{i}/{}/1.png", ["ill", "well"][i % 2])).collect();
    for paths in [inside, outside] {
        let dir = folder_of(&paths);
        let view = View::open(dir.path(), &options()).unwrap();
        assert_eq!((view.class_counts(), view.group_names().len()), (vec![6, 6], 12));
        let mut none = options();
        none.groups = Groups::None;
        assert!(!View::open(dir.path(), &none).unwrap().has_groups());
    }
}

#[test]
fn images_without_classes_are_one() {
    let dir = folder_of(&(0..5).map(|i| format!("{i}.png")).collect::<Vec<_>>());
    let named = dir.path().join("radiographs");
    std::fs::create_dir(&named).unwrap();
    for i in 0..5 {
        std::fs::rename(dir.path().join(format!("{i}.png")), named.join(format!("{i}.png"))).unwrap();
    }
    let view = View::open(&named, &options()).unwrap();
    assert_eq!((view.classes(), view.len()), (&["radiographs".to_owned()][..], 5));
    assert_eq!(View::open_unlabelled(&named, &options()).unwrap().classes(), [""]);
    let strict = OpenOptions::new(8, 3);
    let error = View::open(&named, &strict).unwrap_err();
    assert!(
        matches!(&error, Error::OneClass { .. }) && error.to_string().contains("no folders of their own"),
        "{error}"
    );
    let zip = dir.path().join("scans.zip");
    write_zip(&zip, &[("a.png", &png(1)), ("b.png", &png(2))]);
    assert_eq!(View::open(&zip, &options()).unwrap().classes(), ["scans"]);
}

#[test]
fn a_table_tells_classes_groups_and_parts() {
    let dir = folder_of(&(0..8).map(|i| format!("images/{i}.png")).collect::<Vec<_>>());
    let table = dir.path().join("metadata.csv");
    let lines: Vec<String> = (0..9)
        .map(|i| {
            format!(
                "{}\t{}\tP{}\t\"{i}.png\"\t{}",
                50 + i,
                ["ill", "well"][i % 2],
                i / 2,
                if i < 6 { "train" } else { "test" }
            )
        })
        .collect();
    std::fs::write(&table, format!("\u{feff}age\tfinding\tpatient\timage\tfold\n{}\n", lines.join("\n"))).unwrap();
    let mut given = options();
    given.table = Some(Table {
        path: table.clone(),
        label: vec!["finding".into()],
        group: Some("patient".into()),
        part: Some("fold".into()),
        ..Table::default()
    });
    let view = View::open(dir.path(), &given).unwrap();
    assert_eq!(
        (view.class_counts(), view.group(3), view.given_part(7)),
        (vec![4, 4], Some("P1"), Some(SplitPart::Test))
    );
    // One that the table does not name.
    std::fs::write(dir.path().join("images/new.png"), textured(99)).unwrap();
    assert!(View::open(dir.path(), &given).unwrap_err().to_string().contains("images/new.png"));
    given.skip_bad = true;
    assert_eq!(View::open(dir.path(), &given).unwrap().skipped()[0].name, "images/new.png");
    // The table itself is counted, and not taken for an image.
    assert_eq!(counts(&View::open(dir.path(), &options()).unwrap().facts().left_out), [(".csv".to_owned(), 1)]);
    // Groups alone want two columns.
    given.table = None;
    given.groups = Groups::Csv(vec![table]);
    assert!(matches!(View::open(dir.path(), &given), Err(Error::Columns { columns: 5, .. })));
}

#[test]
fn patterns_find_groups_in_names_and_paths() {
    let dir = folder_of(&(0..6).map(|i| format!("{}/s{}_{i}.png", ["a", "b"][i % 2], i / 2)).collect::<Vec<_>>());
    let by = |pattern: &str| {
        let mut options = options();
        options.groups = Groups::Names(cellforge_data::GroupPattern::new(pattern).unwrap());
        View::open(dir.path(), &options).unwrap().group_names().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(by("^(s[0-9]+)_"), ["s0", "s1", "s2"]);
    assert_eq!(by("^([ab])/"), ["a", "b"]);
}

#[test]
fn what_is_left_out_is_counted_by_ending() {
    let files: &[(&str, &[u8])] = &[
        ("a/1.png", &png(1)),
        ("b/2.png", &png(2)),
        ("a/1.jp2", b"\0\0\0\x0cjP  "),
        ("a/2.JP2", b"\0\0\0\x0cjP  "),
        ("b/notes", b"words"),
        ("b/.hidden", b"x"),
    ];
    let dir = folder(files);
    let index = Index::open(dir.path(), &options()).unwrap();
    assert_eq!(counts(&index.left_out), [("", 1), ("", 1), (".jp2", 2)].map(|(e, n)| (e.to_owned(), n)));
    let none = folder(&files[2..4]);
    let error = Index::open(none.path(), &options()).unwrap_err().to_string();
    assert!(error.contains("2 .jp2") && error.contains("PNG"), "{error}");
}

#[test]
fn images_are_known_by_content() {
    let image = |value| image::RgbImage::from_pixel(8, 8, image::Rgb([value, 9, 9]));
    let webp = encoded(image(1), image::ImageFormat::WebP);
    let gif = encoded(image(2), image::ImageFormat::Gif);
    let pnm = encoded(image(3), image::ImageFormat::Pnm);
    let jpeg = encoded(image(4), image::ImageFormat::Jpeg);
    let dir = folder(&[
        ("a/1.webp", &webp),
        ("a/2", &gif),
        ("a/3.ppm", &pnm),
        ("b/4.jfif", &jpeg),
        ("b/5.dat", &png(5)),
        ("b/6.png", &jpeg),
    ]);
    let view = View::open(dir.path(), &options()).unwrap();
    assert_eq!(view.class_counts(), [3, 3]);
    let reds: Vec<u8> = (0..6).map(|i| view.image(i)[0]).collect();
    assert!(reds.iter().zip([1, 2, 3, 4, 5, 4]).all(|(found, want)| found.abs_diff(want) <= 4), "{reds:?}");
}

#[test]
fn masks_beside_images_are_left_out() {
    let mask = encoded(
        image::RgbImage::from_fn(8, 8, |x, _| image::Rgb([if x < 4 { 0 } else { 255 }; 3])),
        image::ImageFormat::Png,
    );
    let image = textured(1);
    let files: &[(&str, &[u8])] = &[
        ("a/1.png", &image),
        ("a/1_mask.png", &mask),
        ("a/2.png", &image),
        ("a/2_lesion.png", &mask),
        ("b/3.png", &image),
        ("b/3_b.png", &image),
    ];
    let dir = folder(files);
    let index = Index::open(dir.path(), &options()).unwrap();
    assert_eq!(index.class_counts(), [2, 2]);
    assert_eq!(index.left_out.iter().map(|left| left.files).sum::<usize>(), 2);
    let mut keep = options();
    keep.masks = Masks::Keep;
    assert_eq!(Index::open(dir.path(), &keep).unwrap().class_counts(), [4, 2]);
    let beside = folder(&[("a/images/1.png", &image), ("a/masks/1.png", &mask), ("b/images/2.png", &image)]);
    assert_eq!(Index::open(beside.path(), &options()).unwrap().class_counts(), [1, 1]);
}

#[test]
fn identical_images_stay_on_one_side() {
    // Ten of the thirty images of class a are in class b too.
    let paths: Vec<String> =
        (0..30).map(|i| format!("a/{i:02}.png")).chain((0..10).map(|i| format!("b/{i:02}.png"))).collect();
    let images: Vec<Vec<u8>> = (0..40).map(|i| textured(if i < 30 { i } else { i - 30 })).collect();
    let mut files: Vec<(&str, &[u8])> =
        paths.iter().map(String::as_str).zip(images.iter().map(Vec::as_slice)).collect();
    let own: Vec<(String, Vec<u8>)> = (0..20).map(|i| (format!("b/x{i}.png"), textured(100 + i))).collect();
    files.extend(own.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    let dir = folder(&files);
    let view = View::open(dir.path(), &options()).unwrap();
    let twins = view.twin_counts();
    assert_eq!((twins.images, twins.pictures, twins.across_classes), (20, 10, 10));
    for seed in 0..10 {
        let parts = split(&view, &SplitOptions { seed, ..SplitOptions::default() }).unwrap();
        let side = |i: usize| [&parts.train, &parts.val, &parts.test].iter().position(|part| part.contains(&i));
        for (i, twin) in view.twins().into_iter().enumerate() {
            assert_eq!(side(i), side(twin), "seed {seed}: {} and {}", view.name(i), view.name(twin));
        }
    }
    let mut drop = options();
    drop.duplicates = Duplicates::Drop;
    assert_eq!(View::open(dir.path(), &drop).unwrap().class_counts(), [20, 20]);
}

#[test]
fn a_blank_or_bad_image_condemns_no_zip() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("images.zip");
    let blank = encoded(image::RgbImage::new(1024, 1024), image::ImageFormat::Bmp);
    write_zip(&path, &[("a/1.png", &png(1)), ("a/blank.bmp", &blank), ("b/2.png", &png(2)), ("b\\3.png", &png(3))]);
    let view = View::open(&path, &options()).unwrap();
    assert_eq!(view.class_counts(), [2, 2]);
}

#[test]
fn names_of_every_normal_form_are_one() {
    let dir = folder_of(&[
        "train/ü/1.png".into(),
        "test/u\u{308}/2.png".into(),
        "train/b/3.png".into(),
        "test/b/4.png".into(),
    ]);
    assert_eq!(View::open(dir.path(), &options()).unwrap().classes(), ["b", "ü"]);
}

#[test]
fn one_image_is_no_set() {
    let dir = folder(&[("x.png", &png(1))]);
    assert!(matches!(View::open(dir.path().join("x.png"), &options()), Err(Error::LoneImage(_))));
    let open = |path: &Path| Index::open(path, &options());
    std::fs::write(dir.path().join("words.txt"), "words").unwrap();
    assert!(matches!(open(&dir.path().join("words.txt")), Err(Error::NoSet(_))));
}
