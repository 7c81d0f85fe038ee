//! A panel of raters: every figure against numbers worked out by hand, and the coverage of its intervals.

use cellforge_eval::{
    BootstrapOptions, Error,
    panel::{PanelInput, Ratings, cohen_kappa, fleiss_kappa, panel},
    wilson,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected}");
}

fn ratings(levels: &[u8]) -> Ratings {
    Ratings { first: levels.iter().map(|&level| Some(level)).collect(), second: vec![None; levels.len()] }
}

/// As many real as synthetic images, each its own unit.
fn half(images: usize) -> (Vec<bool>, Vec<String>) {
    ((0..images).map(|i| 2 * i >= images).collect(), (0..images).map(|i| format!("{i:03}")).collect())
}

#[test]
fn one_rater_by_hand() {
    // Real images are rated 1, 2, 4, 3 and synthetic ones 6, 3, 5, 4. Calls: three of four real ones and three of four synthetic
    // ones are right.
    let (synthetic, units) = half(8);
    let raters = [ratings(&[1, 2, 4, 3, 6, 3, 5, 4])];
    let input = PanelInput { synthetic: &synthetic, units: &units, raters: &raters };
    let found = panel(&input, &BootstrapOptions::default()).unwrap();
    let figures = found.pooled;
    assert_eq!(figures, found.raters[0].discrimination);
    assert_eq!((figures.accuracy.successes, figures.accuracy.total), (6, 8));
    assert_eq!(figures.accuracy, wilson(6, 8).unwrap());
    assert_eq!(figures.sensitivity, wilson(3, 4).unwrap());
    assert_eq!(figures.specificity, wilson(3, 4).unwrap());
    // Of the 16 pairs of a synthetic and a real image 6 wins 4 and 5 wins 4; 4 wins 3 and ties 1; 3 wins 2, ties 1 and loses 1:
    // (4 + 4 + 3.5 + 2.5) / 16.
    let auc = figures.auc.unwrap();
    close(auc.value, 14.0 / 16.0, 1e-15);
    assert!(auc.low < auc.value && auc.value < auc.high);
    assert!(found.pairs.is_empty() && found.all.is_none() && found.raters[0].repeated.is_none());
}

#[test]
fn pooled_figures_by_hand() {
    // The first rater is right about all of 1 and 6, the second about half of them.
    let (synthetic, units) = half(4);
    let raters = [ratings(&[1, 1, 6, 6]), ratings(&[1, 6, 1, 6])];
    let input = PanelInput { synthetic: &synthetic, units: &units, raters: &raters };
    let found = panel(&input, &BootstrapOptions::default()).unwrap();
    assert_eq!((found.pooled.accuracy.successes, found.pooled.accuracy.total), (6, 8));
    // Areas 1 and 1/2: of the second rater's four pairs one wins, one loses and two tie.
    close(found.pooled.auc.unwrap().value, 0.75, 1e-15);
    // Of four calls two agree; each calls half synthetic, so that half agree by chance.
    let pair = found.pairs[0];
    assert_eq!((pair.raters, pair.agreement.same.successes), ([0, 1], 2));
    close(pair.agreement.kappa.unwrap().value, 0.0, 1e-15);
}

#[test]
fn repeated_answers_by_hand() {
    let (synthetic, units) = half(6);
    let mut rater = ratings(&[1, 2, 5, 6, 6, 1]);
    // Of four images shown again three keep their call (2 to 3 is no other). First 2 of 4 are called synthetic, then 3 of 4:
    // chance is 2/4 * 3/4 + 2/4 * 1/4 = 1/2 and kappa (3/4 - 1/2) / (1/2).
    rater.second = vec![Some(4), Some(3), Some(5), Some(4), None, None];
    let raters = [rater];
    let input = PanelInput { synthetic: &synthetic, units: &units, raters: &raters };
    let found = panel(&input, &BootstrapOptions::default()).unwrap().raters[0].repeated.unwrap();
    assert_eq!((found.images, found.same.successes), (4, 3));
    close(found.kappa.unwrap().value, 0.5, 1e-15);
}

#[test]
fn cohen_by_hand() {
    // 20 and 15 of 50 agree on yes and no, 5 and 10 do not: observed 0.7, by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
    let entries = [(0, 0, 20), (0, 1, 5), (1, 0, 10), (1, 1, 15)];
    let side = |pick: fn(&(u32, u32, usize)) -> u32| -> Vec<u32> {
        entries.iter().flat_map(|entry| vec![pick(entry); entry.2]).collect()
    };
    close(cohen_kappa(&side(|c| c.0), &side(|c| c.1), 2).unwrap().unwrap(), 0.4, 1e-15);
    assert_eq!(cohen_kappa(&[1, 1], &[1, 1], 2).unwrap(), None);
}

#[test]
fn fleiss_by_hand() {
    // Ten subjects, fourteen raters, five classes. P of the subjects: 1, .253, .308, .440, .330, .462, .242, .176, .286, .286, mean .378;
    // shares of the classes .143, .200, .279, .150, .229, whose squares add up to .213: (.378 - .213) / (1 - .213) = .210.
    let counts = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    .map(Vec::from);
    close(fleiss_kappa(&counts).unwrap().unwrap(), 0.210, 5e-4);
    assert_eq!(fleiss_kappa(&[vec![3, 0], vec![3, 0]]).unwrap(), None);
    let uneven = fleiss_kappa(&[vec![2, 1], vec![2, 2]]).unwrap_err();
    assert_eq!(uneven, Error::Raters { subject: 1, found: 4, expected: 3 });
}

#[test]
fn three_raters_have_fleiss_kappa_over_what_all_answered() {
    let (synthetic, units) = half(4);
    let mut third = ratings(&[1, 6, 6, 6]);
    third.first[3] = None;
    let raters = [ratings(&[1, 1, 6, 6]), ratings(&[2, 5, 5, 5]), third];
    let input = PanelInput { synthetic: &synthetic, units: &units, raters: &raters };
    let all = panel(&input, &BootstrapOptions::default()).unwrap().all.unwrap();
    // Real and synthetic calls 3:0, 1:2, 0:3. Agreeing pairs (3 + 1 + 3) / 9; shares 4/9 and 5/9: by chance 41/81.
    // (63/81 - 41/81) / (40/81).
    assert_eq!((all.images, all.same.successes), (3, 2));
    close(all.kappa.unwrap().value, 22.0 / 40.0, 1e-12);
}

#[test]
fn certainty_is_not_claimed_from_few() {
    let (synthetic, units) = half(20);
    let levels: Vec<u8> = synthetic.iter().map(|&synthetic| if synthetic { 6 } else { 1 }).collect();
    let raters = [ratings(&levels), ratings(&levels)];
    let input = PanelInput { synthetic: &synthetic, units: &units, raters: &raters };
    let found = panel(&input, &BootstrapOptions::default()).unwrap();
    // All right in 40 answers about 20 images: Wilson's lower end for 20 of 20 is 20 / (20 + 3.841459); of ten pairs 10 / 13.841459.
    close(found.pooled.accuracy.low, 20.0 / 23.841459, 1e-6);
    close(found.pooled.auc.unwrap().low, 10.0 / 13.841459, 1e-6);
    // All agree, half of it by chance: (0.838875 - 0.5) / 0.5.
    let kappa = found.pairs[0].agreement.kappa.unwrap();
    close(kappa.value, 1.0, 1e-15);
    close(kappa.low, 2.0 * (20.0 / 23.841459 - 0.5), 1e-6);
}

#[test]
fn images_of_a_patient_are_drawn_together() {
    // Ten real images of two patients: one patient's are all called rightly, the other's all wrongly.
    let (synthetic, mut units) = half(20);
    (0..10).for_each(|i| units[i] = format!("P{}", i / 5));
    let levels: Vec<u8> = (0..20).map(|i| if (5..12).contains(&i) { 4 } else { 3 }).collect();
    let raters = [ratings(&levels)];
    let input = PanelInput { synthetic: &synthetic, units: &units, raters: &raters };
    let found = panel(&input, &BootstrapOptions::default()).unwrap().pooled;
    // Two patients drawn: both are the bad one in a quarter of the draws.
    assert_eq!((found.specificity.rate, found.specificity.low, found.specificity.high), (0.5, 0.0, 1.0));
    assert_eq!(found.sensitivity, wilson(2, 10).unwrap());
}

#[test]
fn what_is_wrong_is_named() {
    let (synthetic, units) = half(4);
    let input = |raters| PanelInput { synthetic: &synthetic, units: &units, raters };
    let options = BootstrapOptions::default();
    let wrong = [ratings(&[1, 2, 7, 3])];
    assert_eq!(panel(&input(&wrong), &options), Err(Error::Rating { index: 2, value: 7, levels: 6 }));
    assert_eq!(panel(&input(&[]), &options), Err(Error::Empty { what: "the list of raters" }));
    let short = [ratings(&[1, 2])];
    assert!(matches!(panel(&input(&short), &options), Err(Error::Length { found: 2, expected: 4, .. })));
}

/// Raters that differ in skill, and images in how easy they are: the interval of the mean accuracy holds the truth, in nineteen of
/// twenty panels or more, as its source says.
#[test]
fn pooled_intervals_cover() {
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    let (synthetic, units) = half(40);
    let trials = 100;
    let mut covered = 0;
    for seed in 0..trials {
        let easy: Vec<f64> = (0..40).map(|_| rng.random_range(-0.2..0.2)).collect();
        let raters: Vec<Ratings> = (0..6)
            .map(|_| {
                let skill = rng.random_range(0.5..0.7);
                let level = |i: usize| {
                    let right = rng.random_range(0.0..1.0) < skill + easy[i];
                    if right == synthetic[i] { 5 } else { 2 }
                };
                ratings(&(0..40).map(level).collect::<Vec<u8>>())
            })
            .collect();
        let input = PanelInput { synthetic: &synthetic, units: &units, raters: &raters };
        let options = BootstrapOptions { resamples: 100, seed, level: 0.95 };
        let accuracy = panel(&input, &options).unwrap().pooled.accuracy;
        covered += u32::from(accuracy.low <= 0.6 && 0.6 <= accuracy.high);
    }
    assert!(covered >= 95, "{covered} of {trials}");
}
