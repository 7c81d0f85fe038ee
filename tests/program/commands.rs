//! Every command of the documents, run one after the other on small images, as a newcomer would type them.

use std::{
    fmt::Write as _,
    fs,
    io::{Cursor, Write as _},
    path::Path,
};

use crate::common::{cellforge, cellforge_command};
use image::{ImageBuffer, Luma, Rgb, RgbImage};

/// Stands in the line above a block that is not run here, before the reason.
const NOT_RUN: &str = "<!-- not run: ";

/// The commands in the blocks of shell lines of a page, each as its words, without what stands behind `#`. A block that is not run says why in the
/// line above it.
fn commands(page: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let (mut inside, mut before, mut begun) = (false, "", String::new());
    for line in page.lines() {
        assert!(
            line.starts_with("```") || !line.trim_start().starts_with("```"),
            "{line:?}: a block in a list is not found here"
        );
        if line.starts_with("```") {
            inside = line == "```sh" && !before.starts_with(NOT_RUN);
        } else if inside && !line.trim().is_empty() && !line.starts_with('#') {
            let line = line.split(" # ").next().unwrap_or_default().trim();
            if let Some(first) = line.strip_suffix('\\') {
                begun.push_str(first);
            } else {
                let line = std::mem::take(&mut begun) + line;
                assert!(
                    line.starts_with("cellforge "),
                    "{line}: only the program's commands are run here; say above the block why this is not, with {NOT_RUN:?}"
                );
                found.push(words(&line));
            }
        }
        before = line;
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

/// Settings by which an evaluation takes a second.
const QUICK: &str = "\
[evaluate]
resamples = 20
[evaluate.fidelity]
k = 3
frechet_resamples = 20
[evaluate.encoder]
images = 16
updates = 2
[evaluate.copies]
planted = 0
[evaluate.two_sample]
updates = 0
halvings = 50
planted = false
[evaluate.reidentification]
updates = 0
[evaluate.privacy]
relabellings = 50
pairs = 1
[evaluate.utility]
width = 0.25
updates = 2
batch = 8
seeds = 1
fractions = [1.0]
ratios = [0]
";

/// What makes a command short: trainings of a few updates, evaluations with few draws. A flag of the page's own that says how long it takes is replaced,
/// any other stays.
fn short(verb: &[String]) -> &'static [&'static str] {
    match [verb[1].as_str(), verb.get(2).map_or("", String::as_str)] {
        ["train", "gan"] => &["--side", "32", "--iterations", "2", "--batch", "4"],
        ["train", "classifier"] => {
            &["--side", "32", "--epochs", "1", "--set", "classifier.model.width=0.1", "--set", "classifier.batch=16"]
        }
        ["audit", "--resume"] => &[],
        ["audit", _] => &[
            "--side",
            "32",
            "--width",
            "0.05",
            "--batch",
            "4",
            "--references",
            "2",
            "--draws",
            "20",
            "--iterations",
            "2",
            "--set",
            "audit.relabellings=50",
            "--set",
            "gan.checkpoint_every=2",
        ],
        ["reproduce", _] => &["--preset", "smoke", "--out", "runs/quick"],
        ["generate", "--strips"] => &[],
        ["generate", _] => &["--count", "24"],
        ["evaluate", _] => &["--measure", "fidelity", "--side", "32", "--config", "quick.toml"],
        ["panel", "make"] => &["--images", "10", "--side", "32"],
        [
            "pack" | "clean" | "report" | "watch" | "doctor" | "classify" | "data" | "config" | "panel" | "inspect",
            _,
        ] => &[],
        _ => panic!("{verb:?}: say here how it is made short"),
    }
}

/// Flags that say how long a command takes.
const LENGTHS: [&str; 3] = ["--iterations", "--count", "--epochs"];

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

/// Runs the commands of a page in a folder.
fn run(page: &str, dir: &Path) -> usize {
    let all = commands(page);
    fs::write(dir.join("quick.toml"), QUICK).unwrap();
    for line in &all {
        // A run of the page that another command of it makes too is made anew, unless it goes on with it.
        let at = line.iter().position(|word| word == "--out").filter(|_| !line.iter().any(|word| word == "--resume"));
        let out = at.map(|at| dir.join(&line[at + 1])).filter(|out| out.exists() && line[1] != "panel");
        if let Some(out) = out {
            if out.is_dir() { fs::remove_dir_all(out).unwrap() } else { fs::remove_file(out).unwrap() }
        }
        if line.get(1..3).is_some_and(|verb| verb == ["panel", "score"]) {
            for rater in ["AB", "CD"] {
                let answers = crate::panel::answer(&dir.join("panel"), rater, |_, showing| Some(1 + showing as u8));
                fs::rename(&answers, dir.join(answers.file_name().unwrap())).unwrap();
            }
        }
        let mut args: Vec<&str> = line[1..].iter().map(String::as_str).collect();
        for pair in short(line).chunks(2) {
            match args.iter().position(|arg| arg == &pair[0] && pair[0] != "--set") {
                None => args.extend(pair),
                Some(at) if LENGTHS.contains(&pair[0]) => args[at + 1] = pair[1],
                Some(_) => {}
            }
        }
        // The same command goes on with a study, also with one that is finished.
        for _ in 0..if line[1] == "reproduce" { 2 } else { 1 } {
            let done = cellforge_command(&args).current_dir(dir).output().unwrap();
            assert!(done.status.success(), "{}\n{}", args.join(" "), String::from_utf8_lossy(&done.stderr));
        }
    }
    all.len()
}

#[test]
fn every_command_of_the_page_on_images_works() {
    let dir = crate::common::folder("commands");
    prepare(&dir);
    assert!(run(include_str!("../../docs/your-images.md"), &dir) > 15);
    assert!(dir.join("evaluation/report.html").is_file());
}

/// The zips that the other pages speak of, and a table of the sites of one's patients.
fn prepare_zips(dir: &Path) {
    fs::create_dir_all(dir.join("datasets")).unwrap();
    for (seed, name) in
        ["images.zip", "others.zip", "train.zip", "other-patients.zip", "synthetic.zip", "datasets/cell_images.zip"]
            .iter()
            .enumerate()
    {
        let mut command = cellforge();
        command.current_dir(dir).args([
            "-q",
            "data",
            "phantom",
            "--images-per-class",
            "60",
            "--patients",
            "20",
            "--out",
            name,
        ]);
        command.args(["--seed", &seed.to_string()]).assert().success();
    }
    let images = zip::ZipArchive::new(fs::File::open(dir.join("images.zip")).unwrap()).unwrap();
    let mut sites = String::from("name,site\n");
    for (at, name) in images.file_names().map(Result::unwrap).filter(|name| name.ends_with(".png")).enumerate() {
        writeln!(sites, "{name},{}", ["north", "south"][at % 2]).unwrap();
    }
    fs::write(dir.join("sites.csv"), sites).unwrap();
}

#[test]
fn every_command_of_the_other_pages_works() {
    let dir = crate::common::folder("commands-of-pages");
    prepare_zips(&dir);
    let mut command = cellforge();
    command.current_dir(&dir).args(["train", "gan", "-q", "--data", "images.zip", "--recipe", "best", "--side", "32"]);
    // What the preset `best` leaves.
    command.args(["--iterations", "1", "--batch", "4", "--out", "runs/best/gan/_all"]).assert().success();
    // Later pages use what earlier ones made.
    let pages = [
        "README.md",
        "docs/reproducing.md",
        "docs/generating.md",
        "docs/evaluation.md",
        "docs/speed.md",
        "docs/gpu.md",
        "docs/several-machines.md",
        "docs/library.md",
        "docs/python.md",
        "docs/results/README.md",
        "docs/results/history.md",
        "docs/reliability.md",
        "docs/privacy.md",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |page: &str| fs::read_to_string(root.join(page)).unwrap();
    // No page is forgotten.
    for entry in fs::read_dir(root.join("docs")).unwrap() {
        let page = format!("docs/{}", entry.unwrap().file_name().to_str().unwrap());
        let is_run = pages.contains(&page.as_str()) || page == "docs/your-images.md";
        assert!(is_run || !page.ends_with(".md") || !text(&page).contains("```sh"), "{page} has commands");
    }
    let ran: Vec<usize> = pages.iter().map(|page| run(&text(page), &dir)).collect();
    assert!(ran.iter().sum::<usize>() > 25, "{ran:?}");
}

#[test]
fn words_and_comments_of_a_line() {
    let page = "text\n```sh\ncellforge data info a --layout '*/class x'      # a word\n\n```\n```toml\nx = 1\n```\n";
    assert_eq!(commands(page), [["cellforge", "data", "info", "a", "--layout", "*/class x"]]);
    let page =
        "<!-- not run: it takes long -->\n```sh\nmake\n```\n```sh\n# a word\ncellforge data \\\n    info a\n```\n";
    assert_eq!(commands(page), [["cellforge", "data", "info", "a"]]);
}
