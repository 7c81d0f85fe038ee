//! GANs that start from trained ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use cellforge_data::{View, ViewParts};
use cellforge_train::checkpoint::{DISCRIMINATOR, WEIGHTS};
use cellforge_train::{
    BUILT_IN, Checkpoint, Control, Dihedral, Error, GanTrainConfig, Orientation, check_upright, oriented, pack_gan,
    train_gan,
};

use crate::common::{fresh, gan, gan_of_two, images, resumed};

/// Adam at this rate changes no weight that is not near 0.
const STILL: f64 = 1e-12;

type Tensors = BTreeMap<String, Tensor>;

fn run(config: &GanTrainConfig, images: &View, out: &Path) -> cellforge_train::Result<()> {
    train_gan(config, images, &fresh(out), &Control::default(), &mut []).map(|_| ())
}

fn tensors(out: &Path, stem: &str) -> Tensors {
    Checkpoint::find(out).unwrap().tensors(stem, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference between two tensors of one shape.
fn apart(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn from(path: &Path, config: GanTrainConfig) -> GanTrainConfig {
    GanTrainConfig { from: Some(path.to_str().unwrap().to_owned()), seed: 9, ..config }
}

/// The same images under other class names, with another number of channels, or of another size.
fn others(names: &[&str], side: usize, channels: usize) -> View {
    let view = images().resized(side, channels).unwrap();
    let classes = names.iter().map(|&name| name.to_owned()).collect();
    View::new(ViewParts { classes, ..view.to_parts() }).unwrap()
}

#[test]
fn what_fits_is_taken_and_the_rest_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let images = images();
    let classes = images.classes();
    run(&gan_of_two(3), &images, &first).unwrap();

    // A known class and a new one, at twice the size and in grey.
    let mut config = GanTrainConfig { lr: STILL, ema_decay: 0.5, ..from(&first, gan_of_two(1)) };
    (config.model.image_size, config.model.channels) = (64.into(), 1);
    let seen = others(&["New", &classes[0]], 64, 1);
    run(&config, &seen, &second).unwrap();

    // The weights as they are trained; their average follows them.
    let (old, new) = (tensors(&first, "generator"), tensors(&second, "generator"));
    for name in ["start.weight", "blocks.0.conv1.weight", "blocks.2.conv2.style.weight", "mapping.fc.weight"] {
        assert!(apart(&old[name], &new[name]) < 1e-6, "{name}");
    }
    assert_ne!(old["to_image.weight"].dims(), new["to_image.weight"].dims());
    let column = |tensors: &Tensors, at: usize| tensors["mapping.class.weight"].narrow(1, at, 1).unwrap();
    assert!(apart(&column(&old, 0), &column(&new, 1)) < 1e-6);
    assert!(apart(&column(&old, 1), &column(&new, 0)) > 0.1);

    // The discriminator's blocks are counted from the largest image down: those of the same maps are taken.
    let (old, new) = (tensors(&first, DISCRIMINATOR), tensors(&second, DISCRIMINATOR));
    for block in 0..3 {
        let name = |block: usize| format!("blocks.{block}.conv2.weight");
        assert!(apart(&old[&name(block)], &new[&name(block + 1)]) < 1e-6, "{block}");
    }
    assert!(apart(&old["fc.weight"], &new["fc.weight"]) < 1e-6);

    let state = Checkpoint::find(&second).unwrap().state::<GanTrainConfig>("gan").unwrap();
    let origin = state.started_from.unwrap();
    assert_eq!(origin.classes, classes);
    let source = Checkpoint::find(&first).unwrap().state::<GanTrainConfig>("gan").unwrap();
    assert_eq!((Some(origin.weights.as_str()), origin.data), (source.weights_sha256(), source.data.clone()));
}

#[test]
fn frozen_layers_stay_and_the_others_learn() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    run(&gan_of_two(2), &images(), &first).unwrap();
    run(&GanTrainConfig { freeze: 2, ..from(&first, gan_of_two(3)) }, &images(), &second).unwrap();
    let (old, new) = (tensors(&first, DISCRIMINATOR), tensors(&second, DISCRIMINATOR));
    let mut frozen = 0;
    for (name, value) in &old {
        let is_frozen = name.starts_with("stem.") || name.starts_with("blocks.0.");
        assert_eq!(values(value) == values(&new[name]), is_frozen, "{name}");
        frozen += usize::from(is_frozen);
    }
    assert!(frozen > 0 && frozen < old.len());

    // The study's discriminator is frozen with its batch norm.
    let (first, second) = (folder.path().join("third"), folder.path().join("fourth"));
    let images = images().class(0);
    run(&gan(2), &images, &first).unwrap();
    run(&GanTrainConfig { freeze: 2, ..from(&first, gan(3)) }, &images, &second).unwrap();
    let (old, new) = (tensors(&first, DISCRIMINATOR), tensors(&second, DISCRIMINATOR));
    let layers = gan(1).model.discriminator_layers();
    for (number, paths) in layers.iter().enumerate() {
        for name in old.keys().filter(|name| !name.contains("running")) {
            if paths.iter().any(|path| name.starts_with(&format!("{path}."))) {
                assert_eq!(values(&old[name]) == values(&new[name]), number < 2, "{name}");
            }
        }
    }
}

#[test]
fn what_cannot_be_started_from_is_refused_before_anything_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (first, packed) = (folder.path().join("first"), folder.path().join("packed"));
    run(&gan_of_two(1), &images(), &first).unwrap();
    let error = run(&from(&first, gan(1)), &images().class(0), &folder.path().join("out")).unwrap_err().to_string();
    for word in ["gan.model.generator is \"style\" there and \"study\" here", "recipe best"] {
        assert!(error.contains(word), "{error}");
    }
    let wider = |mut config: GanTrainConfig| {
        config.model.width = 0.1;
        config
    };
    // What lies in the folder of an earlier run is still there.
    let before = fs::read(first.join("last/state.json")).unwrap();
    let over = fresh(&first).mode(cellforge_train::Mode::Overwrite);
    let config = wider(from(&first, gan_of_two(1)));
    let error = train_gan(&config, &images(), &over, &Control::default(), &mut []).unwrap_err().to_string();
    assert!(error.contains("gan.model.width is 0.05 there and 0.1 here"), "{error}");
    assert_eq!(fs::read(first.join("last/state.json")).unwrap(), before);

    let none = from(&folder.path().join("nothing"), gan_of_two(1));
    assert!(matches!(run(&none, &images(), &folder.path().join("out")), Err(Error::NoCheckpoint(_))));
    for (config, word) in [
        (GanTrainConfig { freeze: 1, ..gan_of_two(1) }, "gan.from"),
        (GanTrainConfig { freeze: 9, ..from(&first, gan_of_two(1)) }, "6 layers"),
    ] {
        assert!(config.validate().unwrap_err().to_string().contains(word));
    }
    pack_gan(&first, &packed, false).unwrap();
    let frozen = GanTrainConfig { freeze: 1, ..from(&packed, gan_of_two(1)) };
    let error = run(&frozen, &images(), &folder.path().join("out")).unwrap_err().to_string();
    assert!(error.contains("no discriminator"), "{error}");
    assert!(!folder.path().join("out/last").exists());
    // With it, a packed GAN is as good a start as a whole one.
    pack_gan(&first, &packed, true).unwrap();
    run(&frozen, &images(), &folder.path().join("out")).unwrap();
}

#[test]
fn a_run_that_goes_on_needs_its_start_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let [first, whole, halves] = ["first", "whole", "halves"].map(|name| folder.path().join(name));
    run(&gan_of_two(1), &images(), &first).unwrap();
    let config = |iterations| from(&first, GanTrainConfig { lr_decay: 0.0, ..gan_of_two(iterations) });
    run(&config(4), &images(), &whole).unwrap();
    run(&config(2), &images(), &halves).unwrap();
    fs::remove_dir_all(&first).unwrap();
    train_gan(&config(4), &images(), &resumed(&halves), &Control::default(), &mut []).unwrap();
    for stem in [WEIGHTS, DISCRIMINATOR] {
        let file = format!("last/{stem}.safetensors");
        assert_eq!(fs::read(whole.join(&file)).unwrap(), fs::read(halves.join(&file)).unwrap());
    }
    let other = GanTrainConfig { from: None, ..config(4) };
    let error = train_gan(&other, &images(), &resumed(&halves), &Control::default(), &mut []).unwrap_err();
    assert!(matches!(&error, Error::Mismatch { field, .. } if field == "from"), "{error}");
}

#[cfg(feature = "builtin")]
#[test]
fn the_built_in_gan_is_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = GanTrainConfig {
        from: Some(BUILT_IN.to_owned()),
        lr: STILL,
        iterations: 1,
        batch: 2,
        grid_at: vec![1],
        grid_images: 2,
        ..GanTrainConfig::recipe("best").unwrap().for_images(32, 3, 2)
    };
    config.augment.ada_target = None;
    run(&config, &others(&["Left", "Right"], 32, 3), folder.path()).unwrap();
    let gan = cellforge_train::TrainedGan::builtin().unwrap();
    let state = Checkpoint::find(folder.path()).unwrap().state::<GanTrainConfig>("gan").unwrap();
    assert_eq!(state.started_from.unwrap().classes, gan.classes());
}

/// Grey images of a bright half: always the upper one, or, if `turned`, any of the four.
fn halves(images: usize, turned: bool) -> View {
    let side = 16;
    let bright = |i: usize, y: usize| if y < side / 2 { 200 + (i * 7 % 50) as u8 } else { (i * 13 % 60) as u8 };
    let pixels = (0..images).flat_map(|i| (0..side * side).map(move |at| bright(i, at / side))).collect();
    let upright = View::new(ViewParts {
        classes: vec!["all".to_owned()],
        labels: vec![0; images],
        size: side.into(),
        channels: 1,
        pixels,
        ..ViewParts::default()
    })
    .unwrap();
    if !turned {
        return upright;
    }
    let parts: Vec<View> =
        (0..images).map(|i| oriented(&upright.part(&[i]), Orientation::ALL[i * 5 % 8]).unwrap()).collect();
    View::joined(&parts).unwrap()
}

#[test]
fn images_with_an_up_and_a_down_are_found() {
    let check = |images: &View| check_upright(images, 1, &Control::default()).unwrap().unwrap();
    let up = check(&halves(60, false));
    // Half of a bright half is symmetric: of the seven ways to turn it, one mirrors it onto itself.
    assert!(up.auc.unwrap().value > 0.8 && !up.any_direction, "{up}");
    assert!(up.to_string().contains("shown as they lie"), "{up}");
    let any = check(&halves(160, true));
    assert!(any.any_direction && any.auc.unwrap().low < 0.5, "{any}");
    let few = check(&halves(20, true));
    assert!(few.auc.is_none() && !few.any_direction && few.to_string().contains("too few"), "{few}");
    assert_eq!(check(&halves(60, false)), up);

    let stopped = Control::default();
    stopped.stop.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(check_upright(&halves(60, false), 1, &stopped).unwrap().is_none());
}

#[test]
fn a_run_shows_images_as_was_found_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (found, set) = (folder.path().join("found"), folder.path().join("set"));
    let images = halves(60, false).resized(32, 1).unwrap();
    let mut config = GanTrainConfig { dihedral: Dihedral::Auto, ..gan(2) };
    config.model.channels = 1;
    run(&config, &images, &found).unwrap();
    run(&GanTrainConfig { dihedral: Dihedral::Off, ..config.clone() }, &images, &set).unwrap();
    assert_eq!(
        fs::read(found.join("last/weights.safetensors")).unwrap(),
        fs::read(set.join("last/weights.safetensors")).unwrap()
    );
    let state = |out: &Path| Checkpoint::find(out).unwrap().state::<GanTrainConfig>("gan").unwrap();
    assert!(!state(&found).upright.unwrap().any_direction && state(&set).upright.is_none());
    // A resumed run does not ask again, and goes on.
    let longer = GanTrainConfig { iterations: 3, ..config };
    train_gan(&longer, &images, &resumed(&found), &Control::default(), &mut []).unwrap();
    assert_eq!(state(&found).position.iteration, 3);
}
