//! Every command of `docs/your-images.md`, run one after the other on small images, as a newcomer would type them.

use std::{
    fmt::Write as _,
    fs,
    io::{Cursor, Write as _},
    path::Path,
};

use crate::common::{cellforge, cellforge_command};
use image::{ImageBuffer, Luma, Rgb, RgbImage};

/// The commands in the blocks of shell lines of a page, each as its words, without what stands behind `#`.
fn commands(page: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside && !line.trim().is_empty() {
            let line = line.split(" # ").next().unwrap_or_default();
            assert!(line.starts_with("cellforge "), "{line}: only the program's commands can be run here");
            found.push(words(line));
        }
    }
    found
}

/// The words of a line as a shell takes them, of which some are in single quotes.
fn words(line: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quoted = false;
    for c in line.trim().chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => all.push(String::new()),
            c => all.last_mut().unwrap().push(c),
        }
    }
    all.into_iter().filter(|word| !word.is_empty()).collect()
}

/// What makes a command short: trainings of a few updates, evaluations with few draws.
fn short(verb: &[String]) -> &'static [&'static str] {
    match [verb[1].as_str(), verb[2].as_str()] {
        ["train", "gan"] => &["--side", "32", "--iterations", "2", "--batch", "4"],
        ["train", "classifier"] => {
            &["--side", "32", "--epochs", "1", "--set", "classifier.model.width=0.1", "--set", "classifier.batch=16"]
        }
        ["generate", _] => &["--count", "24"],
        ["evaluate", _] => &[
            "--measure",
            "fidelity",
            "--set",
            "evaluate.fidelity.k=3",
            "--set",
            "evaluate.resamples=20",
            "--side",
            "32",
        ],
        _ => &[],
    }
}

/// A picture of class `class`.
fn picture(class: usize, number: usize) -> RgbImage {
    RgbImage::from_fn(40, 36, |x, y| {
        let v = ((x as usize * (class + 2) + y as usize * 3 + number * 7) % 200) as u8;
        Rgb([v, v / 2, 255 - v])
    })
}

/// The folders and files that the page speaks of.
fn prepare(dir: &Path) {
    let mut table = String::from("imagename,finding,patientid,fold\n");
    for (label, class) in ["ill", "well"].into_iter().enumerate() {
        for number in 0..60 {
            let name = format!("case{}_{label}{number:03}.png", number / 5);
            let path = dir.join("images").join(class).join(&name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            picture(label, number).save(path).unwrap();
            let fold = ["train", "val", "test"][(number / 5) % 3];
            writeln!(table, "{name},{class},P{},{fold}", number / 5).unwrap();
            // The same pictures as a layout with patients, and one with levels that mean nothing.
            for (root, below) in [
                ("by-patient", format!("{class}/p{}", number / 5)),
                ("deep", format!("site{}/{class}/scan/p{}", number % 2, number / 5)),
            ] {
                let path = dir.join(root).join(below).join(&name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                picture(label, number).save(path).unwrap();
            }
        }
    }
    fs::write(dir.join("metadata.csv"), table).unwrap();
    // A volume: NIfTI-1, 348 bytes of header, 4 more, and 16-bit numbers.
    let (x, y, z) = (32u16, 32u16, 6u16);
    let mut volume = vec![0u8; 352];
    let mut put = |at: usize, bytes: &[u8]| volume[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &348i32.to_le_bytes());
    for (at, size) in [3, x, y, z, 1, 1, 1, 1].into_iter().enumerate() {
        put(40 + 2 * at, &size.to_le_bytes());
    }
    put(70, &4i16.to_le_bytes());
    put(72, &16i16.to_le_bytes());
    put(108, &352f32.to_le_bytes());
    put(344, b"n+1\0");
    volume.extend((0..u32::from(x * y * z)).flat_map(|i| ((i * 37 % 3000) as i16).to_le_bytes()));
    for (class, shade) in [("a", 1u16), ("b", 9)] {
        let folder = dir.join("scans").join(class);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("scan.nii"), &volume).unwrap();
        for number in 0..3u16 {
            let slice: ImageBuffer<Luma<u16>, Vec<u16>> =
                ImageBuffer::from_fn(32, 32, |x, y| Luma([(x * y) as u16 * shade + number * 50]));
            let folder = dir.join("ct").join(class);
            fs::create_dir_all(&folder).unwrap();
            slice.save(folder.join(format!("{number}.png"))).unwrap();
        }
    }
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, shape, bytes) in [("train_images", "(4, 28, 28)", 4 * 784), ("train_labels", "(4, 1)", 4)] {
        let text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
        zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        let data: Vec<u8> = (0..bytes).map(|i| (i % 2) as u8).collect();
        let head = [b"\x93NUMPY\x01\0", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat();
        zip.write_all(&[head, data].concat()).unwrap();
    }
    fs::write(dir.join("pneumoniamnist.npz"), zip.finish().unwrap().into_inner()).unwrap();
    let mut command = cellforge();
    command.current_dir(dir).args(["train", "gan", "-q", "--data", "images", "--recipe", "best", "--side", "32"]);
    command.args(["--iterations", "1", "--batch", "4", "--out", "other-gan"]).assert().success();
}

#[test]
fn every_command_of_the_page_works() {
    let page = include_str!("../../docs/your-images.md");
    let dir = crate::common::folder("commands");
    prepare(&dir);
    let all = commands(page);
    assert!(all.len() > 15, "{all:?}");
    for line in &all {
        let mut args: Vec<&str> = line[1..].iter().map(String::as_str).collect();
        // A run of the page that another command of it makes too is made anew.
        let out = line.iter().position(|word| word == "--out").map(|at| dir.join(&line[at + 1]));
        if let Some(out) = out.filter(|out| out.exists()) {
            if out.is_dir() { fs::remove_dir_all(out).unwrap() } else { fs::remove_file(out).unwrap() }
        }
        let given = |flag: &str| args.contains(&flag);
        let more = short(line).chunks(2).filter(|pair| pair[0] == "--set" || !given(pair[0])).flatten();
        let more: Vec<&str> = more.copied().collect();
        args.extend(more);
        let done = cellforge_command(&args).current_dir(&dir).output().unwrap();
        assert!(done.status.success(), "{}\n{}", args.join(" "), String::from_utf8_lossy(&done.stderr));
    }
    assert!(dir.join("evaluation/report.html").is_file());
}

#[test]
fn words_and_comments_of_a_line() {
    let page = "text\n```sh\ncellforge data info a --layout '*/class x'      # a word\n\n```\n```toml\nx = 1\n```\n";
    assert_eq!(commands(page), [["cellforge", "data", "info", "a", "--layout", "*/class x"]]);
}
