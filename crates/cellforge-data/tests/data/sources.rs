//! Folders and zips, good and bad: what is found in them, and what the errors name.

use std::io::Write;
use std::path::Path;

use crate::common::{png, write_folder, write_zip};
use cellforge_data::{Error, GroupPattern, Groups, Index, OpenOptions, View};

/// Small images, whose names may begin with a patient.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new(8, 3);
    options.patterns = vec![patients()];
    options
}

fn patients() -> GroupPattern {
    GroupPattern::new("^(C[0-9]+)").unwrap()
}

fn load(path: &Path, skip_bad: bool) -> cellforge_data::Result<View> {
    let mut options = options();
    options.skip_bad = skip_bad;
    View::open(path, &options)
}

fn index(path: &Path) -> cellforge_data::Result<Index> {
    Index::open(path, &options())
}

/// Both a folder and a zip of the same files.
fn both(files: &[(&str, &[u8])], check: impl Fn(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    write_folder(&dir.path().join("folder"), files);
    check(&dir.path().join("folder"));
    write_zip(&dir.path().join("images.zip"), files);
    check(&dir.path().join("images.zip"));
}

#[test]
fn nlm_layout_with_strays() {
    let (a, b) = (png(1), png(2));
    let files: &[(&str, &[u8])] = &[
        ("cell_images/", b""),
        ("cell_images/Uninfected/C2P2ThinF_IMG_1_cell_1.PNG", &b),
        ("cell_images/Parasitized/C1P1ThinF_IMG_1_cell_1.png", &a),
        ("cell_images/Parasitized/Thumbs.db", b"x"),
        ("cell_images/.DS_Store", b"x"),
        ("__MACOSX/cell_images/Parasitized/._C1P1ThinF_IMG_1_cell_1.png", b"x"),
        ("readme.txt", b"x"),
    ];
    both(files, |path| {
        let index = index(path).unwrap();
        assert_eq!(index.classes, ["Parasitized", "Uninfected"]);
        assert_eq!(index.entries[0].name, "cell_images/Parasitized/C1P1ThinF_IMG_1_cell_1.png");
        assert_eq!(index.entries[1].group.as_deref(), Some("C2"));
        assert_eq!(index.class_counts(), [1, 1]);
        let left_out: usize = index.left_out.iter().map(|left| left.files).sum();
        assert!(left_out >= 3 && index.skipped.is_empty(), "{index:?}");
        let set = View::load(&index, &options()).unwrap();
        assert_eq!(set.labels(), [0, 1]);
        assert_eq!((&set.image(0)[..3], &set.image(1)[..3]), (&[1, 0, 254][..], &[2, 0, 253][..]));
    });
}

#[test]
fn folder_and_zip_give_the_same_set_and_names_may_be_any_script() {
    let files: Vec<(String, Vec<u8>)> = (0..6)
        .map(|i| (format!("{}/клетка {i} 细胞.png", ["здоровые", "感染", "ünïcode"][i % 3]), png(i as u8)))
        .collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let dir = tempfile::tempdir().unwrap();
    write_folder(&dir.path().join("клетки"), &files);
    write_zip(&dir.path().join("клетки.zip"), &files);
    let folder = load(&dir.path().join("клетки"), false).unwrap();
    assert_eq!(folder.classes().len(), 3);
    assert_eq!(folder.fingerprint(), load(&dir.path().join("клетки.zip"), false).unwrap().fingerprint());
}

#[test]
fn layouts_that_cannot_be_classes() {
    let a = png(1);
    both(&[("a/readme.txt", b"x")], |path| {
        let error = index(path).unwrap_err().to_string();
        assert!(error.contains("1 .txt: not a format") && error.contains("PNG, JPEG"), "{error}");
    });
    both(&[("a/x.png", &a), ("b/y.png", &a), ("c/deep/z.png", &a)], |path| {
        let error = index(path).unwrap_err().to_string();
        assert!(error.contains("a/x.png") && error.contains("c/deep/z.png"), "{error}");
        let set = load(path, true).unwrap();
        assert_eq!(set.classes(), ["a", "b"]);
        assert!(set.skipped().iter().any(|skipped| skipped.name == "c/deep/z.png"));
    });
    both(&[("a/x.png", &a), ("b/y.png", &a), ("empty/", b""), ("texts/x.txt", b"x")], |path| {
        assert!(matches!(index(path), Err(Error::EmptyClass { class, .. }) if class == "empty"));
        assert_eq!(load(path, true).unwrap().skipped().len(), 2);
    });
    both(&[("a/x.png", &a)], |path| {
        assert!(matches!(index(path), Err(Error::OneClass { class, .. }) if class == "a"));
        let mut one = options();
        one.allow_one_class = true;
        assert_eq!(Index::open(path, &one).unwrap().classes, ["a"]);
    });
}

#[test]
fn folders_that_could_be_either_are_named() {
    let a = png(1);
    let files: &[(&str, &[u8])] =
        &[("left/a/1.png", &a), ("left/b/2.png", &a), ("right/a/3.png", &a), ("right/b/4.png", &a)];
    both(files, |path| {
        let error = index(path).unwrap_err().to_string();
        assert!(error.contains("\"left\", \"right\"") && error.contains("\"a\", \"b\""), "{error}");
        let mut given = options();
        given.layout = Some("group/class".parse().unwrap());
        let index = Index::open(path, &given).unwrap();
        assert_eq!(
            (index.classes, index.entries[3].group.as_deref()),
            (vec!["a".to_owned(), "b".to_owned()], Some("right"))
        );
    });
}

#[test]
fn bad_images_are_named_or_skipped() {
    let (a, one_pixel) = (png(1), {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(1, 1).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    });
    let cases: &[(&str, &[u8], &str)] = &[
        ("a/cut.png", &a[..a.len() / 2], "cannot be decoded"),
        ("a/text.png", b"not an image at all", "not PNG, JPEG"),
        ("b/zero.png", b"", "0 bytes"),
        ("b/größe.png", &one_pixel, "1x1"),
    ];
    for (name, bytes, reason) in cases {
        both(&[("a/x.png", &a), ("b/y.png", &a), (name, bytes)], |path| {
            let error = load(path, false).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(reason), "{error}");
        });
    }
    let mut files: Vec<(&str, &[u8])> = vec![("a/x.png", &a), ("b/y.png", &a)];
    files.extend(cases.iter().map(|(name, bytes, _)| (*name, *bytes)));
    both(&files, |path| {
        // Whatever the threads do, the first in order of name is reported.
        assert!(load(path, false).unwrap_err().to_string().contains("a/cut.png"));
        let set = load(path, true).unwrap();
        assert_eq!(set.names().collect::<Vec<_>>(), ["a/x.png", "b/y.png"]);
        assert_eq!(
            set.skipped().iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
            ["a/cut.png", "a/text.png", "b/größe.png", "b/zero.png"]
        );
    });
    both(&[("a/x.png", &a), ("b/zero.png", b"")], |path| {
        assert!(matches!(load(path, true), Err(Error::EmptyClass { class, .. }) if class == "b"));
    });
}

#[test]
fn paths_that_are_no_source() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("no-such");
    assert!(matches!(index(&absent), Err(Error::NotFound(path)) if path == absent));
    let text = dir.path().join("text.zip");
    std::fs::write(&text, "no zip at all").unwrap();
    assert!(index(&text).unwrap_err().to_string().contains("text.zip"));
    let (a, whole) = (png(1), dir.path().join("whole.zip"));
    write_zip(&whole, &[("a/x.png", &a), ("b/y.png", &a)]);
    let bytes = std::fs::read(&whole).unwrap();
    for kept in [0, 30, bytes.len() / 2, bytes.len() - 10] {
        std::fs::write(&whole, &bytes[..kept]).unwrap();
        assert!(matches!(index(&whole), Err(Error::Zip { .. })), "cut to {kept} bytes");
    }
}

#[test]
fn hostile_zips_are_refused_even_when_skipping() {
    let (a, zeros) = (png(1), vec![0u8; 65 << 20]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hostile.zip");
    let refused = |entry: &str| match load(&path, true) {
        Err(Error::HostileZip { entry: named, .. }) => assert!(named.contains(entry), "{named:?} instead of {entry:?}"),
        other => panic!("{entry:?} passed: {other:?}"),
    };
    // The writer mends some names itself, so the hostile ones are put in place of tame ones of the same length.
    for (tame, hostile) in
        [("a/x1.png", "../x.png"), ("a/x2.png", "/etc.png"), ("a/x3.png", "..\\3.png"), ("a/x4.png", "C:/4.png")]
    {
        write_zip(&path, &[("a/y.png", &a), ("b/y.png", &a), (tame, &a)]);
        let mut bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() - tame.len() {
            if bytes[at..].starts_with(tame.as_bytes()) {
                bytes[at..at + tame.len()].copy_from_slice(hostile.as_bytes());
            }
        }
        std::fs::write(&path, bytes).unwrap();
        refused(hostile);
    }
    // A bomb: 65 MiB of zeros pack about a thousandfold. It is not unpacked, and condemns nothing but itself; what is no image is left out.
    write_zip(&path, &[("a/y.png", &a), ("b/y.png", &a), ("a/bomb.png", &zeros), ("a/log.txt", &zeros)]);
    let error = load(&path, false).unwrap_err().to_string();
    assert!(error.contains("a/bomb.png") && error.contains("decompression bomb"), "{error}");
    let set = load(&path, true).unwrap();
    assert_eq!((set.len(), set.skipped().len()), (2, 1));
    write_zip(&path, &[("a/y.png", &a), ("b/y.png", &a), ("a/bomb.png", &zeros)]);
    // The same bomb that declares 100 bytes in the central directory (offset 24 of its record) and in its own header.
    let mut bytes = std::fs::read(&path).unwrap();
    let size = (65u32 << 20).to_le_bytes();
    for at in 0..bytes.len() - 4 {
        if bytes[at..at + 4] == size {
            bytes[at..at + 4].copy_from_slice(&100u32.to_le_bytes());
        }
    }
    std::fs::write(&path, bytes).unwrap();
    refused("a/bomb.png");
    // Two entries of one name.
    write_zip(&path, &[("a/x1.png", &a), ("a/x2.png", &a), ("b/y.png", &a)]);
    let text = std::fs::read(&path).unwrap();
    let mut bytes = text.clone();
    for at in 0..bytes.len() - 8 {
        if bytes[at..].starts_with(b"a/x2.png") {
            bytes[at + 3] = b'1';
        }
    }
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(load(&path, true), Err(Error::HostileZip { .. })));
    // Two entries of the same bytes.
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    for name in ["a/x.png", "b/y.png"] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&a).unwrap();
    }
    zip.shallow_copy_file("a/x.png", "a/twin.png").unwrap();
    zip.finish().unwrap();
    match load(&path, true) {
        Err(Error::HostileZip { reason, .. }) => assert!(reason.contains("share the same bytes"), "{reason}"),
        other => panic!("overlapping entries passed: {other:?}"),
    }
}

#[test]
fn folders_too_deep_to_be_read_are_named() {
    let (dir, a) = (tempfile::tempdir().unwrap(), png(1));
    let deep = format!("a/{}x.png", "d/".repeat(31));
    write_folder(dir.path(), &[("a/x.png", &a), ("b/y.png", &a), (deep.as_str(), &a)]);
    let error = index(dir.path()).unwrap_err().to_string();
    assert!(error.contains("a/d/d/d") && error.contains("32 steps down"), "{error}");
    let set = load(dir.path(), true).unwrap();
    assert_eq!((set.len(), set.skipped().len()), (2, 1));
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_read() {
    use std::os::unix::net::UnixListener;
    let (dir, a) = (tempfile::tempdir().unwrap(), png(1));
    write_folder(dir.path(), &[("a/x.png", &a), ("b/y.png", &a)]);
    // A socket stands here for a pipe as well, which needs more than the standard library to make.
    let _sockets = ["b/z.png", "b/no-image"].map(|name| UnixListener::bind(dir.path().join(name)).unwrap());
    let error = index(dir.path()).unwrap_err().to_string();
    assert!(error.contains("b/z.png") && error.contains("socket"), "{error}");
    let set = load(dir.path(), true).unwrap();
    assert_eq!((set.len(), set.skipped().len()), (2, 1));
    let _lone = UnixListener::bind(dir.path().join("images.zip")).unwrap();
    assert!(matches!(index(&dir.path().join("images.zip")), Err(Error::Zip { .. })));
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    let (dir, a) = (tempfile::tempdir().unwrap(), png(1));
    write_folder(dir.path(), &[("real/x.png", &a), ("images/b/y.png", &a)]);
    let images = dir.path().join("images");
    std::os::unix::fs::symlink(dir.path().join("real"), images.join("a")).unwrap();
    assert_eq!(index(&images).unwrap().classes, ["a", "b"]);
    std::os::unix::fs::symlink(&images, images.join("b/circle")).unwrap();
    assert!(index(&images).unwrap_err().to_string().contains("b/circle"));
    assert_eq!(load(&images, true).unwrap().len(), 2);
}

#[test]
fn groups_from_names_and_csv() {
    let a = png(1);
    let files: &[(&str, &[u8])] =
        &[("a/C1P7_1.png", &a), ("a/C2P7_2.png", &a), ("b/C3P8_1.png", &a), ("b/other.png", &a)];
    let dir = tempfile::tempdir().unwrap();
    write_folder(dir.path(), files);
    let open = |groups, skip_bad| {
        let mut options = options();
        (options.groups, options.skip_bad) = (groups, skip_bad);
        Index::open(dir.path(), &options)
    };
    assert!(open(Groups::Auto, false).unwrap().entries.iter().all(|entry| entry.group.is_none()));
    assert!(open(Groups::Names(patients()), false).unwrap_err().to_string().contains("b/other.png"));
    let skipped = open(Groups::Names(patients()), true).unwrap();
    assert_eq!((skipped.entries.len(), skipped.skipped.len()), (3, 1));
    let csv = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(csv.path(), "C1P7x,['C1P7_1.png', 'C2P7_2.png'],,\nC3P8x,['C3P8_1.png']\n").unwrap();
    let from_csv = || Groups::Csv(vec![csv.path().into()]);
    assert!(open(from_csv(), false).unwrap_err().to_string().contains("b/other.png"));
    std::fs::write(csv.path(), "file,group\nC1P7_1.png,x\nC2P7_2.png,y\nb/C3P8_1.png,x\nother.png,z\n").unwrap();
    let groups: Vec<_> =
        open(from_csv(), false).unwrap().entries.into_iter().map(|entry| entry.group.unwrap()).collect();
    assert_eq!(groups, ["x", "y", "x", "z"]);
}

#[test]
fn cache_follows_content_and_settings() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_folder(dir.path(), &[("a/x.png", &png(1)), ("b/y.png", &png(2)), ("b/z.png", b"")]);
    let options = |side: usize| {
        let mut options = options();
        (options.size, options.skip_bad, options.cache_dir) = (side.into(), true, Some(cache.path().into()));
        options
    };
    let load = |side| View::load(&index(dir.path()).unwrap(), &options(side)).unwrap();
    let files = || {
        let items = std::fs::read_dir(cache.path()).unwrap().map(|item| item.unwrap().path());
        items.filter(|path| path.extension().is_some_and(|extension| extension == "images")).count()
    };
    let first = load(8);
    assert_eq!(first.skipped()[0].name, "b/z.png");
    let again = load(8);
    assert_eq!((first.fingerprint(), first.skipped(), files()), (again.fingerprint(), again.skipped(), 1));
    let mut memory = options(8);
    memory.cache_dir = None;
    let memory = View::load(&index(dir.path()).unwrap(), &memory).unwrap();
    assert_eq!(memory.fingerprint(), first.fingerprint());
    load(16);
    assert_eq!(files(), 2);
    // Same name, same length, other pixels.
    std::fs::write(dir.path().join("a/x.png"), png(3)).unwrap();
    assert_eq!(load(8).image(0)[0], 3);
    assert_eq!(files(), 3);
    // The earlier mapping still shows the earlier pixels.
    assert_eq!(first.image(0)[0], 1);
}
