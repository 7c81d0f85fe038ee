//! Data in which numbers could go wrong: one colour everywhere, batches of one, a class a thousand times rarer than the other. What is
//! made of them is defined: finite weights and figures, or an error that says what is missing.

use std::{
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
    process::Output,
};

use crate::common::{cellforge_command as cellforge, folder};
use zip::{ZipWriter, write::SimpleFileOptions};

/// A class, how many images it has, and the grey of pixel `p` of image `n`.
type Class = (&'static str, usize, fn(usize, usize) -> u8);

/// A zip of 16x16 images.
fn images(dir: &Path, classes: &[Class]) -> PathBuf {
    let path = dir.join("images.zip");
    let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
    for (class, count, grey) in classes {
        for n in 0..*count {
            let pixels = (0..16 * 16).flat_map(|p| [grey(n, p); 3]).collect();
            let image = image::RgbImage::from_raw(16, 16, pixels).unwrap();
            let mut png = Cursor::new(Vec::new());
            image.write_to(&mut png, image::ImageFormat::Png).unwrap();
            zip.start_file(format!("{class}/{n}.png"), SimpleFileOptions::default()).unwrap();
            zip.write_all(png.get_ref()).unwrap();
        }
    }
    zip.finish().unwrap();
    path
}

fn run(args: &str, data: &Path, out: &Path) -> Output {
    let args: Vec<&str> = args.split_whitespace().collect();
    cellforge(&args).args(["-q", "--data"]).arg(data).arg("--out").arg(out).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The run ended well, and every figure of its log is a number (JSON has none that are not finite: they would be null).
fn assert_trained(output: &Output, out: &Path) {
    assert!(output.status.success(), "{}", said(output));
    let log = fs::read_to_string(out.join("log.jsonl")).unwrap();
    assert!(log.lines().count() > 1 && !log.contains("null"), "{log}");
    let checkpoint = cellforge::train::read_log(&out.join("log.jsonl")).unwrap();
    assert!(checkpoint.iter().flat_map(|line| line.values.values()).all(|value| value.is_finite()));
}

const TINY: &str = "--side 32 --width 0.05 --set gan.checkpoint_every=2 --set classifier.checkpoint_every=2";

/// A batch has no variance then, for batch norm to divide by.
#[test]
fn images_of_one_colour() {
    let dir = folder("numbers/colour");
    let data = images(&dir, &[("black", 20, |_, _| 0), ("grey", 20, |_, _| 128)]);
    for recipe in ["study --class black", "best"] {
        let out = dir.join("gan");
        let trained =
            run(&format!("train gan --recipe {recipe} --iterations 6 --batch 4 --overwrite {TINY}"), &data, &out);
        assert_trained(&trained, &out);
    }
    let out = dir.join("classifier");
    assert_trained(&run(&format!("train classifier --epochs 2 --batch 4 {TINY}"), &data, &out), &out);

    // Real and synthetic images of no variety at all: figures, and none of them is no number.
    let made = dir.join("made");
    let evaluated = cellforge(&["evaluate", "-q", "--features", "pixels", "--resamples", "20", "--real"])
        .arg(&data)
        .arg("--synthetic")
        .arg(&data)
        .arg("--out")
        .arg(&made)
        .output()
        .unwrap();
    assert!(evaluated.status.success() || said(&evaluated).contains("error:"), "{}", said(&evaluated));
    assert!(!said(&evaluated).contains("panicked"), "{}", said(&evaluated));
}

#[test]
fn batches_of_one() {
    let dir = folder("numbers/one");
    let data =
        images(&dir, &[("dark", 12, |n, p| (n * 7 + p) as u8 / 4), ("light", 12, |n, p| 128 + (n * 5 + p) as u8 / 4)]);
    for (name, args) in [
        ("study", "train gan --class dark --iterations 4 --batch 1"),
        ("best", "train gan --recipe best --iterations 4 --batch 1"),
        ("resnet", "train classifier --epochs 1 --batch 1"),
        ("cnn", "train classifier --recipe cnn-1 --epochs 1 --batch 1"),
    ] {
        let out = dir.join(name);
        assert_trained(&run(&format!("{args} {TINY}"), &data, &out), &out);
    }
}

/// A thousand to one: two images of a class are too few for three sides of a split, and with one more for each side it trains.
#[test]
fn a_class_that_is_very_rare() {
    let dir = folder("numbers/rare");
    let common: fn(usize, usize) -> u8 = |n, p| (n.wrapping_mul(31) + p) as u8 / 2;
    let data = images(&dir, &[("common", 2000, common), ("rare", 2, |_, p| 255 - p as u8 / 2)]);
    let args = format!("train classifier --epochs 1 --batch 64 {TINY}");
    let refused = run(&args, &data, &dir.join("two"));
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("rare") && !said(&refused).contains("panicked"), "{}", said(&refused));

    // Three times the same image cannot be in three parts.
    let data = images(&dir, &[("common", 3000, common), ("rare", 3, |_, p| 255 - p as u8 / 2)]);
    let refused = run(&args, &data, &dir.join("same"));
    assert!(said(&refused).contains("its 3 images are 1 of different content, for 3 parts"), "{}", said(&refused));

    let data = images(&dir, &[("common", 3000, common), ("rare", 3, |n, p| 255 - p as u8 / 2 - n as u8)]);
    let out = dir.join("three");
    let trained = run(&args, &data, &out);
    assert_trained(&trained, &out);
    // The rare class is not lost in the accuracy: its own recall is told, with its interval.
    let figures: serde_json::Value = serde_json::from_slice(&fs::read(out.join("test.json")).unwrap()).unwrap();
    assert!(figures.to_string().contains("rare"), "{figures}");
    let out = dir.join("gan");
    assert_trained(&run(&format!("train gan --recipe best --iterations 4 --batch 8 {TINY}"), &data, &out), &out);
}
