//! Tiny sets in the layouts of public ones, each from its images to a report.
//!
//! The images are drawn here. What is rebuilt is how those sets lie: their folders, names, tables, formats, sizes and depths.

use std::{
    fmt::Write as _,
    fs,
    io::{Cursor, Write as _},
    path::{Path, PathBuf},
};

use crate::common::cellforge;
use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage};

/// Images of a class in the smallest sets.
const EACH: usize = 24;

/// The grey level of a point of image `number` of a class: a disc whose size is the class's, somewhere near the middle, above a darker half.
fn level(class: usize, number: usize, (x, y): (u32, u32), (width, height): (u32, u32)) -> f64 {
    let place = |n: usize, of: u32, by: usize| f64::from(of) * (0.4 + 0.2 * ((number * by + n) % 7) as f64 / 6.0);
    let (cx, cy) = (place(1, width, 3), place(2, height, 5));
    let radius = f64::from(width.min(height)) * (0.12 + 0.08 * class as f64);
    let inside = (f64::from(x) - cx).hypot(f64::from(y) - cy) < radius;
    let noise = (x as usize * 31 + y as usize * 17 + number * 101 + class * 7) % 23;
    let ground = if y * 2 < height { 90.0 } else { 50.0 };
    (if inside { 190.0 } else { ground }) + noise as f64
}

fn grey(class: usize, number: usize, size: (u32, u32)) -> GrayImage {
    GrayImage::from_fn(size.0, size.1, |x, y| Luma([level(class, number, (x, y), size) as u8]))
}

fn colour(class: usize, number: usize, size: (u32, u32)) -> RgbImage {
    RgbImage::from_fn(size.0, size.1, |x, y| {
        let v = level(class, number, (x, y), size) as u8;
        Rgb([v, v / 2 + 40, 200 - v / 2])
    })
}

fn save(image: impl Into<DynamicImage>, path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.into().save(path).unwrap();
}

fn folder(name: &str) -> PathBuf {
    crate::common::folder(&format!("public_layouts/{name}"))
}

/// A set on disk: where, with which flags it is read, and its classes.
struct Set {
    data: PathBuf,
    flags: Vec<String>,
    classes: Vec<&'static str>,
}

impl Set {
    fn new(data: PathBuf, flags: &[&str], classes: &[&'static str]) -> Self {
        Self { data, flags: flags.iter().map(|&flag| flag.to_owned()).collect(), classes: classes.to_vec() }
    }
}

/// Where what is made of a set goes.
fn out_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("public_layouts/out-{name}"))
}

/// Brings the set from its images to a study's report, and to one GAN by the recipe best, whose images are judged.
fn goes_to_a_report(name: &str, set: &Set) {
    let out = out_of(name);
    fs::remove_dir_all(&out).unwrap_or_default();
    let run = |verb: &[&str], flags: &[&str], to: &str| {
        let mut command = cellforge();
        command.args(verb).args(["-q", "--data"]).arg(&set.data).args(&set.flags).args(flags);
        let done = command.arg("--out").arg(out.join(to)).assert().success();
        String::from_utf8_lossy(&done.get_output().stderr).into_owned()
    };
    for (preset, shorter) in [("smoke", &[][..]), ("quick", &QUICK_IN_SHORT[..])] {
        let sets: Vec<&str> = ["--preset", preset, "--set", "gan.iterations=2"]
            .into_iter()
            .chain(shorter.iter().flat_map(|setting| ["--set", setting]))
            .collect();
        run(&["reproduce"], &sets, preset);
        let report = fs::read_to_string(out.join(preset).join("report.html")).unwrap();
        for class in &set.classes {
            assert!(report.contains(class), "{name}: {class}");
        }
        for word in ["malaria", "arasit", "blood", "thin smear"] {
            assert!(!report.contains(word), "{name}: {word}");
        }
        assert!(report.contains("What the synthetic images are worth"), "{name}");
    }
    let small = ["--side", "32", "--recipe", "best", "--width", "0.05", "--iterations", "1", "--batch", "4"];
    let said = run(&["train", "gan"], &[&small[..], &["--set", "gan.dihedral=off"]].concat(), "gan");
    assert!(!said.contains("error"), "{said}");
    let (gan, made) = (out.join("gan"), out.join("made"));
    let mut command = cellforge();
    command
        .args(["generate", "-q", "--count", "20", "--checkpoint"])
        .arg(gan)
        .arg("--out")
        .arg(&made)
        .assert()
        .success();
    let mut command = cellforge();
    command.args(["evaluate", "-q", "--side", "32", "--config"]).arg(out.join("smoke/config.toml"));
    command
        .args(&set.flags)
        .arg("--real")
        .arg(&set.data)
        .arg("--synthetic")
        .arg(&made)
        .arg("--out")
        .arg(out.join("judged"));
    command.assert().success();
    assert!(out.join("judged/report.html").is_file());
    // What generate recorded beside the images is known of them.
    let sheet = fs::read_to_string(out.join("judged/datasheet.md")).unwrap();
    assert!(sheet.contains("Made by: cellforge generate from gan."), "{sheet}");
}

/// The preset quick with trainings of a few updates: all of its stages and figures, on sets this small.
const QUICK_IN_SHORT: [&str; 14] = [
    "beside=[{recipe=\"study\",iterations=2,batch=4,width=0.05}]",
    "gan.dihedral=off",
    "classifier.epochs=1",
    "cnn.runs=[{recipe=\"cnn-1\",epochs=1}]",
    "data.side=32",
    "gan.model.width=0.05",
    "generate.per_class=20",
    "evaluate.utility.updates=2",
    "evaluate.utility.seeds=2",
    "evaluate.two_sample.updates=2",
    "evaluate.two_sample.seeds=1",
    "evaluate.encoder.updates=2",
    "evaluate.copies.planted=6",
    "evaluate.fidelity.k=3",
];

#[test]
fn brain_mri_in_training_and_testing_folders() {
    // Kaggle's Brain Tumor MRI: four classes, grey pictures stored as colour JPEGs of many sizes.
    let root = folder("brain");
    let classes = ["glioma", "meningioma", "notumor", "pituitary"];
    for (label, class) in classes.iter().enumerate() {
        for (part, n) in [("Training", EACH), ("Testing", 12)] {
            for number in 0..n {
                let picture = DynamicImage::from(grey(
                    label,
                    number + if part == "Testing" { 500 } else { 0 },
                    (44 + number as u32, 52),
                ));
                save(picture.into_rgb8(), &root.join(format!("{part}/{class}/Tr-{class}_{number:04}.jpg")));
            }
        }
    }
    goes_to_a_report("brain", &Set::new(root, &[], &classes));
}

#[test]
fn chest_x_rays_with_patients_in_their_names() {
    // Pneumonia, Kermany et al.: train, val and test, patients as person7_virus_12.jpeg.
    let root = folder("chest");
    for (label, class) in ["NORMAL", "PNEUMONIA"].into_iter().enumerate() {
        for (at, (part, patients)) in [("train", 12), ("val", 4), ("test", 10)].into_iter().enumerate() {
            for patient in 0..patients {
                for image in 0..3 {
                    let person = 1000 * label + 100 * at + patient;
                    let name = format!("chest_xray/{part}/{class}/person{person}_virus_{image}.jpeg");
                    save(grey(label, person * 5 + image, (60, 48)), &root.join(name));
                }
            }
        }
    }
    let pattern = ["--group-pattern", "^(person[0-9]+)_", "--channels", "1"];
    goes_to_a_report("chest", &Set::new(root, &pattern, &["NORMAL", "PNEUMONIA"]));
}

#[test]
fn skin_lesions_with_a_table() {
    // HAM10000: images in two folders, classes and lesions in a table whose names have no ending.
    let root = folder("skin");
    let mut table = String::from("lesion_id,image_id,dx,dx_type,age\n");
    for (label, class) in ["mel", "nv", "bkl"].into_iter().enumerate() {
        for number in 0..EACH {
            let name = format!("ISIC_{:07}", 1000 * label + number);
            save(
                colour(label, number, (60, 45)),
                &root.join(format!("HAM10000_images_part_{}/{name}.jpg", 1 + number % 2)),
            );
            writeln!(table, "HAM_{:07},{name},{class},histo,\"45,0\"", 1000 * label + number / 2).unwrap();
        }
    }
    let file = root.join("HAM10000_metadata.csv");
    fs::write(&file, table).unwrap();
    let flags = ["--table", file.to_str().unwrap(), "--name", "image_id", "--label", "dx", "--group", "lesion_id"];
    goes_to_a_report("skin", &Set::new(root, &flags, &["mel", "nv", "bkl"]));
}

#[test]
fn ultrasound_with_masks_beside() {
    // BUSI: "benign (1).png" and "benign (1)_mask.png" in one folder.
    let root = folder("ultrasound");
    for (label, class) in ["benign", "malignant", "normal"].into_iter().enumerate() {
        for number in 0..EACH {
            let size = (56, 44 + (number % 5) as u32);
            save(grey(label, number, size), &root.join(format!("{class}/{class} ({number}).png")));
            let mask = GrayImage::from_fn(size.0, size.1, |x, y| Luma([if x > 20 && y > 20 { 255 } else { 0 }]));
            save(mask, &root.join(format!("{class}/{class} ({number})_mask.png")));
        }
    }
    goes_to_a_report("ultrasound", &Set::new(root, &["--channels", "1"], &["benign", "malignant", "normal"]));
}

#[test]
fn retinas_in_one_folder_with_grades() {
    // APTOS 2019: flat, a table of id_code and diagnosis from 0 to 4.
    let root = folder("retina");
    let mut table = String::from("id_code,diagnosis\n");
    for grade in 0..3 {
        for number in 0..EACH {
            let id = format!("{:06x}{grade}{number:02}", (grade * 997 + number * 131) * 31);
            save(colour(grade, number, (64, 48)), &root.join(format!("train_images/{id}.png")));
            writeln!(table, "{id},{grade}").unwrap();
        }
    }
    fs::write(root.join("train.csv"), table).unwrap();
    let file = root.join("train.csv");
    let flags = ["--table", file.to_str().unwrap(), "--label", "diagnosis"];
    goes_to_a_report("retina", &Set::new(root.join("train_images"), &flags, &["0", "1", "2"]));
}

#[test]
fn medmnist_as_arrays() {
    // PneumoniaMNIST: 28 by 28 pixels in one .npz, with its parts.
    let root = folder("medmnist");
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let npy = |shape: &str, data: &[u8]| {
        let text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
        [b"\x93NUMPY\x01\0", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), data].concat()
    };
    for (at, (part, n)) in [("train", 60), ("val", 16), ("test", 30)].into_iter().enumerate() {
        let pixels: Vec<u8> = (0..n).flat_map(|i| grey(i % 2, 300 * at + i, (28, 28)).into_raw()).collect();
        let labels: Vec<u8> = (0..n).map(|i| (i % 2) as u8).collect();
        for (what, bytes) in
            [("images", npy(&format!("({n}, 28, 28)"), &pixels)), ("labels", npy(&format!("({n}, 1)"), &labels))]
        {
            zip.start_file(format!("{part}_{what}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(&bytes).unwrap();
        }
    }
    let file = root.join("pneumoniamnist.npz");
    fs::write(&file, zip.finish().unwrap().into_inner()).unwrap();
    goes_to_a_report("medmnist", &Set::new(file, &["--channels", "1"], &["0", "1"]));
}

#[test]
fn histology_deep_below_folders_that_mean_nothing() {
    // BreaKHis: class/SOB/subtype/patient/magnification, here with the levels that tell something named.
    let root = folder("deep");
    for (label, class) in ["benign", "malignant"].into_iter().enumerate() {
        for patient in 0..8 {
            for number in 0..4 {
                let name = format!("{class}/SOB/kind_{}/SOB_{label}_14-{patient}/40X/img-{number:03}.png", patient % 2);
                save(colour(label, patient * 10 + number, (70, 46)), &root.join(name));
            }
        }
    }
    goes_to_a_report("deep", &Set::new(root, &["--layout", "class/*/*/patient/*"], &["benign", "malignant"]));
}

#[test]
fn microscopy_of_12_bits_in_16_with_the_class_below_the_well() {
    // BBBC: TIFF files of 12 bits in 16, plates above classes.
    let root = folder("microscopy");
    for (label, class) in ["control", "treated"].into_iter().enumerate() {
        for well in 0..6 {
            for site in 0..5 {
                let size = (48, 48);
                let picture: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_fn(size.0, size.1, |x, y| {
                    Luma([(level(label, well * 9 + site, (x, y), size) * 14.0) as u16])
                });
                let path = root.join(format!("plate{well}/{class}/site{site}.tif"));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                DynamicImage::from(picture).save_with_format(path, ImageFormat::Tiff).unwrap();
            }
        }
    }
    goes_to_a_report(
        "microscopy",
        &Set::new(root, &["--channels", "1", "--layout", "group/class"], &["control", "treated"]),
    );
    // Synthetic images have the intensities of the real ones, by whose rule they are read.
    let out = out_of("microscopy");
    let made = image::open(out.join("made/control/synthetic_000001.png")).unwrap();
    assert_eq!(made.color(), image::ColorType::L16);
    let found: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("judged/evaluation.json")).unwrap()).unwrap();
    let range = |set: &str| {
        let text = found["sets"][set]["intensities"].as_str().unwrap().to_owned();
        text.split(" (").next().unwrap().to_owned()
    };
    assert_eq!(range("real"), range("synthetic"));
}

#[test]
fn pages_of_a_table_with_several_labels() {
    // ChestX-ray14: "Finding Labels" with bars between them, and patients.
    let root = folder("findings");
    let mut table = String::from("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age\n");
    for (label, findings) in ["No Finding", "Effusion", "Effusion|Mass"].into_iter().enumerate() {
        for number in 0..EACH {
            let name = format!("{:08}_{:03}.png", 100 * label + number / 2, number % 2);
            save(grey(label, number, (64, 64)), &root.join("images").join(&name));
            writeln!(table, "{name},{findings},0,{},58", 100 * label + number / 2).unwrap();
        }
    }
    let file = root.join("Data_Entry_2017.csv");
    fs::write(&file, table).unwrap();
    let flags =
        ["--table", file.to_str().unwrap(), "--label", "Finding Labels", "--group", "Patient ID", "--channels", "1"];
    goes_to_a_report("findings", &Set::new(root.join("images"), &flags, &["No Finding", "Effusion"]));
}

#[test]
fn images_with_an_up_and_a_down_are_not_turned() {
    let root = folder("upright");
    for number in 0..48 {
        save(grey(1, number, (32, 32)), &root.join(format!("chest/{number}.png")));
    }
    let train = |setting: &[&str], out: &str| {
        let mut command = cellforge();
        command.args(["train", "gan", "--recipe", "best", "--side", "32", "--width", "0.05", "--channels", "1"]);
        command.args(["--iterations", "1", "--batch", "4", "--data"]).arg(&root).args(setting);
        let done = command.arg("--out").arg(out_of("upright").join(out)).arg("--overwrite").assert().success();
        String::from_utf8_lossy(&done.get_output().stderr).into_owned()
    };
    let said = train(&[], "found");
    assert!(said.contains("they lie one way up, and they are shown as they lie"), "{said}");
    let said = train(&["--set", "gan.dihedral=on"], "set");
    assert!(!said.contains("orientation"), "{said}");
}
