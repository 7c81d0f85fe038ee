//! Images that the discriminator chooses, strips, and packed generators.

use std::fs;
use std::path::Path;

use crate::common::{cnn, fresh, gan, gan_of_two, images, split};
use candle_core::{Device, Tensor};
use cellforge_data::{Scale, View, ViewParts};
use cellforge_nn::{Key, one_hot};
use cellforge_train::{
    Control, Error, GanTrainConfig, SampleOptions, TrainedGan, pack_gan, train_classifier, train_gan,
};
use rand_distr::{Distribution, StandardNormal};

const CPU: Device = Device::Cpu;

/// A GAN after a few iterations: the study's of one class, or one of two classes.
fn trained(dir: &Path, of_two: bool) -> TrainedGan {
    train(dir, of_two, if of_two { gan_of_two(3) } else { gan(3) });
    TrainedGan::load(dir).unwrap()
}

fn train(dir: &Path, of_two: bool, config: GanTrainConfig) {
    let images = images();
    let images = if of_two { images } else { images.class(0) };
    train_gan(&config, &images, &fresh(dir), &Control::default(), &mut []).unwrap();
}

/// Options that keep the best of a share.
fn keeping(share: f64) -> SampleOptions {
    SampleOptions { seed: 9, keep: Some(share), ..SampleOptions::default() }
}

/// The noise of image `index` of seed 9 and class Parasitized, each number drawn until it is in [-limit, limit].
fn truncated_noise(index: u64, latent: usize, limit: f32) -> Vec<f32> {
    let mut rng = Key::new(9).with("generate").with("Parasitized").at(index).rng();
    let draws = std::iter::from_fn(|| Some(StandardNormal.sample(&mut rng)));
    draws.filter(|value: &f32| value.abs() <= limit).take(latent).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn the_best_of_each_few_is_kept() {
    for (of_two, class) in [(false, "Parasitized"), (true, "Uninfected")] {
        let folder = tempfile::tempdir().unwrap();
        let gan = trained(folder.path(), of_two);
        let third = keeping(1.0 / 3.0);
        // 100 images take 300 candidates, more than are in memory at once.
        let kept = gan.sample_with(&third, class, 0..100).unwrap();
        let plain = gan.sample(9, class, 0..300).unwrap();
        let scores = gan.scores(class, &plain).unwrap();
        let kept_scores = gan.scores(class, &kept).unwrap();
        assert_eq!(kept.len(), 100);
        for (i, group) in scores.chunks(3).enumerate() {
            let best = group.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let at = 3 * i + group.iter().position(|score| *score == best).unwrap();
            assert_eq!(kept.image(i), plain.image(at));
            // An image has the score it was chosen for.
            assert_eq!(kept_scores[i], best);
        }
        assert!(mean(&kept_scores) > mean(&scores), "{} and {}", mean(&kept_scores), mean(&scores));

        // The first of a longer series, and a part of one.
        let few = gan.sample_with(&third, class, 0..3).unwrap();
        assert_eq!(few, kept.first(3));
        let part = gan.sample_with(&third, class, 37..42).unwrap();
        assert!((0..5).all(|i| part.image(i) == kept.image(37 + i)));
        // To keep all is to keep what is made; and none is none.
        assert_eq!(gan.sample_with(&keeping(1.0), class, 0..5).unwrap(), gan.sample(9, class, 0..5).unwrap());
        assert!(gan.sample_with(&keeping(0.5), class, 4..4).unwrap().is_empty());
        for share in [0.0, -1.0, 1.5, f64::NAN, 1e-4] {
            let error = gan.sample_with(&keeping(share), class, 0..1).unwrap_err();
            assert!(matches!(error, Error::Invalid { field: "keep", .. }), "{error}");
        }
    }
}

#[test]
fn images_score_as_the_images_they_are_saved_as() {
    let folder = tempfile::tempdir().unwrap();
    let gan = trained(folder.path(), false);
    let images = gan.sample(9, "Parasitized", 0..70).unwrap();
    let (size, channels, pixels) = (images.size(), images.channels(), images.pixels());
    let set = View::new(ViewParts { size, channels, pixels, ..ViewParts::default() }).unwrap();
    let scores = gan.scores("Parasitized", &images).unwrap();
    assert_eq!(scores, gan.scores("Parasitized", &set).unwrap());
    assert_eq!(gan.scores("Parasitized", &set.part(&[69])).unwrap(), scores[69..]);
    assert!(gan.scores("Uninfected", &images).is_err(), "it does not know the class");
}

#[test]
fn strips_end_in_the_images_of_their_noise() {
    for (of_two, class) in [(false, "Parasitized"), (true, "Uninfected")] {
        let folder = tempfile::tempdir().unwrap();
        let gan = trained(folder.path(), of_two);
        let options = SampleOptions { seed: 9, ..SampleOptions::default() };
        let strips = |numbers, steps| gan.interpolate(&options, class, None, steps, numbers);
        let images = gan.sample(9, class, 0..6).unwrap();
        // More steps than a batch has images.
        let made = strips(0..3, 40).unwrap();
        assert_eq!(made.len(), 3);
        for (i, strip) in made.iter().enumerate() {
            assert_eq!((strip.len(), strip.size(), strip.channels()), (40, 32.into(), 3));
            assert_eq!(strip.image(0), images.image(2 * i));
            assert_eq!(strip.image(39), images.image(2 * i + 1));
            assert!(strip.image(20) != strip.image(0) && strip.image(20) != strip.image(39));
        }
        assert_eq!(strips(2..3, 40).unwrap(), made[2..]);
        for steps in [0, 1, 2000] {
            assert!(matches!(strips(0..1, steps), Err(Error::Invalid { field: "steps", .. })));
        }
    }
}

#[test]
fn strips_lead_from_class_to_class() {
    let folder = tempfile::tempdir().unwrap();
    let gan = trained(folder.path(), true);
    let options = SampleOptions { seed: 9, truncation: Some(0.9), keep: None };
    let to = |to, numbers| gan.interpolate(&options, "Parasitized", Some(to), 5, numbers);
    let strips = to("Uninfected", 0..2).unwrap();
    // The noise stays that of the class where the strip starts.
    let noise: Vec<f32> = (0..32).flat_map(|i| truncated_noise(i, 8, 0.9)).collect();
    let noise = Tensor::from_vec(noise, (32, 8), &CPU).unwrap();
    let ends = |label| {
        let rows = one_hot(&[label; 32], 2, &CPU).unwrap();
        let made = gan.generator().forward_class_t(&noise, Some(&rows), false).unwrap();
        View::new(ViewParts::from_tensor(&made, Scale::SignedUnit).unwrap()).unwrap()
    };
    let (from, other) = (ends(0), ends(1));
    assert_eq!(from.image(1), gan.sample_with(&options, "Parasitized", 0..2).unwrap().image(1));
    for (i, strip) in strips.iter().enumerate() {
        assert_eq!((strip.image(0), strip.image(4)), (from.image(i), other.image(i)));
        assert!(strip.image(2) != strip.image(0) && strip.image(2) != strip.image(4));
    }
    assert_eq!(to("Uninfected", 1..2).unwrap(), strips[1..]);
    assert!(matches!(to("Fungus", 0..1), Err(Error::Invalid { field: "to", .. })));

    let folder = tempfile::tempdir().unwrap();
    let gan = trained(folder.path(), false);
    let strips = gan.interpolate(&options, "Parasitized", Some("Parasitized"), 5, 0..1);
    assert!(matches!(strips, Err(Error::Invalid { field: "to", .. })));
}

#[test]
fn a_packed_generator_makes_nearly_the_same_images() {
    for (of_two, class) in [(false, "Parasitized"), (true, "Uninfected")] {
        let folder = tempfile::tempdir().unwrap();
        let (run, out) = (folder.path().join("run"), folder.path().join("packed"));
        let gan = trained(&run, of_two);
        let state = gan.state();
        let packed = pack_gan(&run, &out, false).unwrap();
        assert_eq!((&packed.classes, &packed.config, &packed.data), (&state.classes, &state.config, &state.data));
        assert_eq!(packed.position.iteration, 3);
        let [weights, json] = ["weights.safetensors", "state.json"].map(|name| fs::read(out.join(name)).unwrap());
        assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
        let whole = fs::metadata(run.join("last/weights.safetensors")).unwrap().len() as f64;
        assert!((weights.len() as f64) < 0.6 * whole, "{} of {whole} bytes", weights.len());

        // From memory and from the folder it is the same generator, and its images are a few grey levels from the checkpoint's.
        let small = TrainedGan::from_bytes(&weights, None, &json, &CPU).unwrap();
        assert_eq!(*small.state(), packed);
        let images = small.sample(9, class, 0..8).unwrap();
        assert_eq!(TrainedGan::load(&out).unwrap().sample(9, class, 0..8).unwrap(), images);
        let exact = gan.sample(9, class, 0..8).unwrap();
        let far = images.pixels().iter().zip(&exact.pixels()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(far <= 3, "{far} grey levels");

        // There is no discriminator, and that is said.
        let error = TrainedGan::load(&out).unwrap().discriminator().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("packed") && error.contains("discriminator"), "{error}");

        // Packed again, from the checkpoint or from itself, it is the same bytes, and what lies beside it stays.
        fs::write(out.join("DATASHEET.md"), "# It").unwrap();
        for from in [&run, &out] {
            pack_gan(from, &out, false).unwrap();
            assert_eq!(fs::read(out.join("weights.safetensors")).unwrap(), weights);
            assert_eq!(fs::read(out.join("state.json")).unwrap(), json);
        }
        assert!(out.join("DATASHEET.md").is_file());
        // A run and its checkpoint are not replaced.
        for taken in [&run, &run.join("last")] {
            assert!(matches!(pack_gan(&out, taken, false), Err(Error::Occupied(_))));
        }

        // Where the run has a best checkpoint, it is that one, as for whoever generates from the run.
        let better = folder.path().join("better");
        train(&better, of_two, GanTrainConfig { seed: 99, ..state.config.clone() });
        pack_gan(&better, &folder.path().join("other"), false).unwrap();
        fs::rename(better.join("last"), run.join("best")).unwrap();
        pack_gan(&run, &out, false).unwrap();
        let other = fs::read(folder.path().join("other/weights.safetensors")).unwrap();
        assert!(fs::read(out.join("weights.safetensors")).unwrap() == other && other != weights);

        let mut other = weights.clone();
        *other.last_mut().unwrap() ^= 1;
        assert!(matches!(TrainedGan::from_bytes(&other, None, &json, &CPU).map(|_| ()), Err(Error::Damaged { .. })));
        assert!(matches!(TrainedGan::from_bytes(&weights, None, b"{}", &CPU).map(|_| ()), Err(Error::Damaged { .. })));
    }
}

#[test]
fn weights_that_cannot_be_packed_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (run, out) = (folder.path().join("run"), folder.path().join("packed"));
    trained(&run, true);
    let (file, state) = (run.join("last/weights.safetensors"), run.join("last/state.json"));
    // Without the sums of its files, as the first version allowed, a checkpoint's weights can be changed.
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    json["format_version"] = 1.into();
    json["config"] = json["config"]["gan"].clone();
    json.as_object_mut().unwrap().remove("files");
    fs::write(&state, json.to_string()).unwrap();
    let mut tensors = candle_core::safetensors::load(&file, &CPU).unwrap();
    for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-70_000.0, "-70000")] {
        let bias = tensors["start.bias"].dims().to_vec();
        tensors.insert("start.bias".into(), Tensor::full(value, bias, &CPU).unwrap());
        candle_core::safetensors::save(&tensors, &file).unwrap();
        let error = pack_gan(&run, &out, false).unwrap_err().to_string();
        assert!(error.contains("start.bias") && error.contains(shown), "{error}");
    }
    assert!(!out.exists());

    let other = folder.path().join("cnn");
    train_classifier(&cnn(1), &split().train, &split().val, &fresh(&other), &Control::default(), &mut []).unwrap();
    assert!(matches!(pack_gan(&other, &out, false), Err(Error::Unsuitable { .. })));
    assert!(matches!(pack_gan(&folder.path().join("none"), &out, false), Err(Error::NoCheckpoint(_))));
}
