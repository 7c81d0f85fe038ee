//! Audits of generators that are known to leak, or not to.

use cellforge_data::{ViewParts, derive_seed};
use cellforge_gan::GanConfig;

use super::*;

const SIDE: usize = 8;

/// A noise in [-1, 1) that depends on its arguments alone.
fn noise(key: &str, at: usize) -> f64 {
    derive_seed(at as u64, key) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// Grey images of a class whose patients have a brightness of their own; image `i` of patient `p` has noise of its own in every pixel.
fn images(key: &str, patients: usize, each: usize, groups: bool) -> View {
    let n = patients * each;
    let mut pixels = Vec::new();
    for image in 0..n {
        let base = 128.0 + 60.0 * noise(key, image / each);
        pixels.extend(
            (0..SIDE * SIDE)
                .map(|p| (base + 30.0 * noise(&format!("{key}/{image}"), p)).round().clamp(0.0, 255.0) as u8),
        );
    }
    View::new(ViewParts {
        classes: vec!["a".to_owned()],
        names: (0..n).map(|i| format!("{i:04}")).collect(),
        labels: vec![0; n],
        groups: (0..n).map(|i| groups.then(|| format!("P{:03}", i / each))).collect(),
        size: SIDE.into(),
        channels: 1,
        pixels,
    })
    .unwrap()
}

fn config() -> AuditConfig {
    AuditConfig {
        draws: 300,
        references: 2,
        pixel_side: 8,
        relabellings: 200,
        resamples: 100,
        ..AuditConfig::default()
    }
}

/// Draws the images that it learned from in turn, with a noise of ±`grey` levels.
fn replays(grey: f64) -> impl FnMut(&str, &View, usize) -> Result<View> {
    move |name, train, draws| {
        let mut parts = train.part(&[]).to_parts();
        for number in 0..draws {
            let image = train.image(number % train.len());
            let changed = |(at, &value): (usize, &u8)| {
                let shift = (grey * noise(&format!("{name}/{number}"), at)).round();
                (f64::from(value) + shift).clamp(0.0, 255.0) as u8
            };
            parts.pixels.extend(image.iter().enumerate().map(changed));
            parts.names.push(format!("{number:06}"));
            parts.labels.push(0);
            parts.groups.push(None);
        }
        Ok(View::new(parts)?)
    }
}

#[test]
fn an_overfitted_generator_is_caught() {
    let set = images("real", 40, 3, true);
    let found = audit_by(&config(), &set, &Words::default(), &mut replays(4.0)).unwrap();
    let attack = &found.attacks["draws"];
    let of = attack.of_units();
    assert!(of.auc.value > 0.99 && of.auc_chance.p < 0.01 && of.tpr_at_fpr.value > 0.9, "{of:?}");
    // A share of 0.3 of 40 patients: six on each side, all guessed right. 12 of 12: the rate q with q^12 = 0.05 is 0.7791, and ln(0.7791 / 0.2209) = 1.2603.
    assert_eq!((attack.guesses.guesses, attack.guesses.correct), (12, 12));
    assert!((attack.epsilon.lower - 1.2603).abs() < 1e-3, "{:?}", attack.epsilon);
    assert!(attack.shift["a"] > 3.0);
    assert_eq!((found.units, found.by_patient, found.scores.len(), found.images), (40, true, 40, 120));
    let members = found.scores.iter().filter(|unit| unit.member).count();
    assert!(members == found.members && (10..=30).contains(&members));
    let told = found.in_words().join(" ");
    assert!(told.contains("40 patients") && told.contains("epsilon is at least 1.26"), "{told}");
    // The same seed gives the same bytes, another other coins.
    let again = audit_by(&config(), &set, &Words::default(), &mut replays(4.0)).unwrap();
    assert_eq!(serde_json::to_string(&found).unwrap(), serde_json::to_string(&again).unwrap());
    let other = Coins::new(&AuditConfig { seed: 2, ..config() }, &set, &Words::default()).unwrap();
    assert_ne!(other.target(), found.scores.iter().map(|unit| unit.member).collect::<Vec<_>>());
}

#[test]
fn a_generator_that_knows_nobody_is_not_accused() {
    // Images of other patients, whatever it learned from, in another order for each training. Over 20 audits, epsilon is refuted in
    // at most 5% on average: 4 or more have a chance of 1.6%.
    let set = images("real", 30, 2, true);
    let mut accused = 0;
    for seed in 0..20 {
        let config = AuditConfig { seed, guesses: 0.6, ..config() };
        let mut fresh = |name: &str, _: &View, draws: usize| Ok(images(&format!("{seed}/{name}"), draws, 1, false));
        let found = audit_by(&config, &set, &Words::default(), &mut fresh).unwrap();
        accused += usize::from(found.attacks["draws"].epsilon.lower > 0.0);
    }
    assert!(accused <= 3, "{accused}");
}

#[test]
fn coins_are_fair_and_references_share_the_patients() {
    let set = images("real", 200, 1, true);
    let coins = Coins::new(&AuditConfig { references: 4, ..config() }, &set, &Words::default()).unwrap();
    let count = |members: &[bool]| members.iter().filter(|&&member| member).count();
    // 200 coins: within four standard deviations of 100.
    assert!((72..=128).contains(&count(coins.target())));
    let members: Vec<Vec<bool>> = coins.halves.iter().map(|half| coins.members(half)).collect();
    assert_eq!(members.len(), 5);
    assert!(members[1].iter().zip(&members[2]).all(|(a, b)| a != b));
    assert_ne!(members[1], members[3]);
    // Two images of a patient stay together, and a patient's coin is that of the name.
    let more = images("real", 200, 2, true);
    let again = Coins::new(&config(), &more, &Words::default()).unwrap();
    assert_eq!(again.target(), coins.target());
    let doubled = again.members(&again.halves[0]);
    assert!(doubled.chunks(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn unknown_patients_are_said_and_small_sets_refused() {
    let found = audit_by(&config(), &images("real", 40, 1, false), &Words::default(), &mut replays(4.0)).unwrap();
    assert!(!found.by_patient && found.attacks["draws"].membership.patient.is_none());
    assert!(found.in_words().join(" ").contains("patients are not known"));
    let refused = |set: &View, config: &AuditConfig| {
        audit_by(config, set, &Words::default(), &mut replays(4.0)).unwrap_err().to_string()
    };
    assert!(refused(&images("real", 9, 5, true), &config()).contains("9 patients"));
    let one = AuditConfig { references: 1, ..config() };
    assert!(refused(&images("real", 20, 1, true), &one).contains("audit.references"));
    let few = AuditConfig { draws: 10, ..config() };
    assert!(refused(&images("real", 20, 1, true), &few).contains("audit.draws"));
    let mut short = |_: &str, train: &View, _: usize| Ok(train.clone());
    let error =
        audit_by(&config(), &images("real", 20, 1, true), &Words::default(), &mut short).unwrap_err().to_string();
    assert!(error.contains("target made") && error.contains("not 300"), "{error}");
}

#[test]
fn trainings_are_audited_and_an_interrupted_audit_goes_on() {
    // Tiny GANs of two classes: trained for two iterations, they leak nothing. Stopped and gone on with, the audit ends with the same bytes.
    let one = images("real", 12, 2, true).to_parts();
    let labels: Vec<u32> = (0..24).map(|i| i % 2).collect();
    let set = View::new(ViewParts { classes: vec!["a".to_owned(), "b b".to_owned()], labels, ..one }).unwrap();
    let set = set.resized(32, 1).unwrap();
    let gan = GanTrainConfig {
        model: GanConfig { width: 0.05, ..GanConfig::default() },
        iterations: 2,
        batch: 4,
        ..GanTrainConfig::default()
    };
    let config = AuditConfig { draws: 40, ..config() };
    let run = |out: &Path, control: &Control| audit(&config, &gan, &set, &Words::default(), out, control);
    let whole = tempfile::tempdir().unwrap();
    let found = run(whole.path(), &Control::default()).unwrap();
    assert_eq!(found.attacks.keys().collect::<Vec<_>>(), ["discriminator", "draws"]);
    // 30% of 12 patients are three: one on each side.
    assert!(found.attacks.values().all(|attack| attack.guesses.guesses == 2 && attack.epsilon.lower == 0.0));
    assert_eq!(found.attacks["draws"].shift.len(), 2);
    let dir = RunDir::new(whole.path());
    let text = std::fs::read(dir.audit()).unwrap();
    let read: Audit = serde_json::from_slice(&text).unwrap();
    assert_eq!((read.units, read.gan.unwrap().iterations), (12, 2));

    let parted = tempfile::tempdir().unwrap();
    let stopped = Control::default();
    stopped.stop.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(run(parted.path(), &stopped), Err(Error::Interrupted)));
    assert!(!RunDir::new(parted.path()).audit().exists());
    run(parted.path(), &Control::default()).unwrap();
    assert_eq!(std::fs::read(RunDir::new(parted.path()).audit()).unwrap(), text);
    // A finished audit is read again from its runs; other settings are refused by the runs.
    assert_eq!(run(whole.path(), &Control::default()).unwrap(), found);
    let other = GanTrainConfig { lr: 1e-3, ..gan.clone() };
    let error = audit(&config, &other, &set, &Words::default(), whole.path(), &Control::default()).unwrap_err();
    assert!(error.to_string().contains("lr"), "{error}");
}
