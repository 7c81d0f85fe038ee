//! Fidelity against what the Python packages find (`fixtures/make_features.py`), against distributions whose distance is known, and on
//! input at the edges.

use std::sync::LazyLock;

use cellforge_eval::{
    BootstrapOptions, Error, Features, FidelityOptions, Prdc, Sample, effective_groups, fidelity, fld,
    frechet_distance, image_scores, kid, prdc, vendi_score,
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::StandardNormal;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixtures {
    cases: Vec<Case>,
    gaussian: Gaussian,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    dims: usize,
    k: usize,
    reference: Vec<f32>,
    compared: Vec<f32>,
    frechet: f64,
    frechet_roots: f64,
    kid: f64,
    subsets: Vec<Subset>,
    prdc: Prdc,
}

#[derive(Deserialize)]
struct Subset {
    rows: [Vec<usize>; 2],
    kid: f64,
}

#[derive(Deserialize)]
struct Gaussian {
    n: usize,
    dims: usize,
    k: usize,
    precision: Spread,
    recall: Spread,
    density: Spread,
    coverage: Spread,
}

#[derive(Deserialize)]
struct Spread {
    mean: f64,
    std: f64,
}

static FIXTURES: LazyLock<Fixtures> =
    LazyLock::new(|| serde_json::from_str(include_str!("../fixtures/features.json")).unwrap());

fn close(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{what}: found {found}, expected {expected}");
}

#[test]
fn as_scipy_scikit_learn_and_prdc() {
    for case in &FIXTURES.cases {
        let name = case.name.as_str();
        let reference = Features::new(&case.reference, case.dims).unwrap();
        let compared = Features::new(&case.compared, case.dims).unwrap();
        let frechet = frechet_distance(reference, compared).unwrap();
        close(name, frechet, case.frechet_roots, 1e-9);
        // Of singular products `sqrtm` itself is only right to so much.
        close(name, frechet, case.frechet, 1e-6 * case.frechet.max(1.0));

        let options = FidelityOptions { k: case.k, frechet_resamples: 20, kid_subsets: 0, ..Default::default() };
        let [a, b] = [reference, compared].map(|features| Sample { features, groups: None });
        let found = fidelity(&a, &b, &options).unwrap();
        close(name, found.kid.value, case.kid, 1e-9);
        for subset in &case.subsets {
            let (a, b) = (reference.select(&subset.rows[0]), compared.select(&subset.rows[1]));
            let (a, b) = (Features::new(&a, case.dims).unwrap(), Features::new(&b, case.dims).unwrap());
            close(name, kid(a, b, 10, 1, 0).unwrap().mean, subset.kid, 1e-9);
        }

        let shares = prdc(reference, compared, case.k).unwrap();
        close(name, shares.precision, case.prdc.precision, 1e-12);
        close(name, shares.recall, case.prdc.recall, 1e-12);
        close(name, shares.density, case.prdc.density, 1e-12);
        close(name, shares.coverage, case.prdc.coverage, 1e-12);
        assert_eq!((found.precision.value, found.coverage.value), (shares.precision, shares.coverage));
    }
}

/// `n` points of a normal distribution with standard deviation `std` around `mean` in every dimension.
fn normal(n: usize, dims: usize, mean: f32, std: f32, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    (0..n * dims).map(|_| mean + std * rng.sample::<f32, _>(StandardNormal)).collect()
}

fn features(values: &[f32], dims: usize) -> Features<'_> {
    Features::new(values, dims).unwrap()
}

fn sample<'a>(values: &'a [f32], dims: usize, groups: Option<&'a [String]>) -> Sample<'a> {
    Sample { features: features(values, dims), groups }
}

fn quick() -> FidelityOptions {
    let bootstrap = BootstrapOptions { resamples: 200, ..Default::default() };
    FidelityOptions { bootstrap, kid_subsets: 10, kid_subset: 50, ..Default::default() }
}

/// A smaller relation of the example in prdc's README: the package's own figures for these sizes are in the fixtures.
#[test]
fn two_draws_of_one_normal_distribution() {
    let expected = &FIXTURES.gaussian;
    let draw = |seed| normal(expected.n, expected.dims, 0.0, 1.0, seed);
    let draws: Vec<Prdc> = (0..3)
        .map(|i| prdc(features(&draw(2 * i), expected.dims), features(&draw(2 * i + 1), expected.dims), expected.k))
        .collect::<Result<_, _>>()
        .unwrap();
    type Figure = fn(&Prdc) -> f64;
    let figures: [(&str, &Spread, Figure); 4] = [
        ("precision", &expected.precision, |p| p.precision),
        ("recall", &expected.recall, |p| p.recall),
        ("density", &expected.density, |p| p.density),
        ("coverage", &expected.coverage, |p| p.coverage),
    ];
    for (name, spread, of) in figures {
        let mean = draws.iter().map(of).sum::<f64>() / draws.len() as f64;
        close(name, mean, spread.mean, 3.0 * spread.std);
    }
}

/// The two settings in which the intervals of before failed most, by the example's own simulation.
#[test]
fn intervals_hold_the_true_figures() {
    for at in [5, 10] {
        let setting = &crate::coverage::SETTINGS[at];
        let found = crate::coverage::simulate(setting, 24, 7);
        for (name, share) in crate::coverage::FIGURES.iter().zip(found) {
            // Of 24 intervals that hold in 95% at most 4 fail, but once in 20,000 simulations.
            assert!(share >= 20.0 / 24.0, "{name} of setting {at}: held in {share}");
        }
    }
}

#[test]
fn the_extrapolated_distance_is_nearer_than_the_measured_one() {
    // Of normal distributions with covariances I and 1.2² I around 0 and 0.1 in 8 dimensions: 8 · 0.1² + 8 · 0.2² = 0.4.
    let options = FidelityOptions { kid_subsets: 0, ..quick() };
    let (mut measured, mut extrapolated) = (0.0, 0.0);
    for i in 0..10 {
        let (a, b) = (normal(100, 8, 0.0, 1.0, 2 * i), normal(150, 8, 0.1, 1.2, 2 * i + 1));
        let found = fidelity(&sample(&a, 8, None), &sample(&b, 8, None), &options).unwrap();
        assert_eq!(found.frechet_measured, frechet_distance(features(&a, 8), features(&b, 8)).unwrap());
        measured += found.frechet_measured / 10.0;
        extrapolated += found.frechet.value / 10.0;
    }
    assert!(measured > 0.6, "{measured}");
    close("extrapolated", extrapolated, 0.4, 0.1);
}

/// Images of 20 patients each of whom has a centre of its own.
fn patients(each: usize, dims: usize, seed: u64) -> (Vec<f32>, Vec<String>) {
    let (centres, images) = (normal(20, dims, 0.0, 1.0, seed), normal(20 * each, dims, 0.0, 0.5, seed + 1000));
    let centre_of = |i: usize| &centres[i / (each * dims) * dims..][..dims];
    let values = images.iter().enumerate().map(|(i, value)| value + centre_of(i)[i % dims]).collect();
    (values, (0..20 * each).map(|i| format!("P{}", i / each)).collect())
}

#[test]
fn intervals_by_patient_tell_that_images_of_a_patient_are_alike() {
    // Both sets are of one distribution, whose distances are 0, and of different patients.
    let (mut held, mut held_by_images, mut frechet_held) = (0, 0, 0);
    for i in 0..20 {
        let ((a, a_groups), (b, b_groups)) = (patients(15, 4, 2 * i), patients(20, 4, 2 * i + 1));
        let by_patient = fidelity(&sample(&a, 4, Some(&a_groups)), &sample(&b, 4, Some(&b_groups)), &quick()).unwrap();
        let by_image = fidelity(&sample(&a, 4, None), &sample(&b, 4, None), &quick()).unwrap();
        assert_eq!(by_patient.frechet_measured, by_image.frechet_measured);
        // Without pairs within patients the two sets are nearer, and so with more to take off for few patients.
        assert!(by_patient.kid.value < by_image.kid.value);
        assert!(by_patient.frechet.value < by_image.frechet.value);
        assert_eq!(by_patient.reference_effective_groups.unwrap(), effective_groups(&a_groups));
        assert_eq!((by_patient.reference_groups, by_image.reference_groups), (Some(20), None));
        let width = |estimate: cellforge_eval::Estimate| estimate.high - estimate.low;
        assert!(width(by_patient.precision) > width(by_image.precision));
        held += usize::from(by_patient.kid.low <= 0.0 && by_patient.kid.high >= 0.0);
        held_by_images += usize::from(by_image.kid.low <= 0.0 && by_image.kid.high >= 0.0);
        frechet_held += usize::from(by_patient.frechet.low == 0.0);
    }
    assert!(held >= 17 && frechet_held >= 17, "held in {held} and {frechet_held} of 20");
    assert!(held_by_images <= 5, "intervals by image are far too narrow: held in {held_by_images} of 20");
}

#[test]
fn the_same_set_twice_is_like_itself() {
    let values = normal(150, 6, 2.0, 3.0, 1);
    let set = sample(&values, 6, None);
    let found = fidelity(&set, &set, &quick()).unwrap();
    assert_eq!((found.frechet.value, found.frechet.low), (0.0, 0.0));
    assert!(found.kid.value < 0.0 && found.kid.value > -0.1 * kernel_size(&values), "{:?}", found.kid);
    for share in [found.precision, found.recall, found.coverage] {
        // All of 150, whichever block is left out: Wilson's interval, with Student's quantile for 48 blocks of about 3.
        assert_eq!((share.value, share.high), (1.0, 1.0));
        close("low", share.low, 150.0 / (150.0 + 2.013_f64.powi(2)), 1e-3);
    }
    assert_eq!(found.density.value, 1.0);
    assert_eq!((found.reference, found.compared, found.dims, found.k), (150, 150, 6, 5));
    assert_eq!(found.kid_subsets.unwrap().subset, 50);
}

/// The mean of `(|x|² / d + 1)³`, which the kernel distance of a set from itself is a small part of.
fn kernel_size(values: &[f32]) -> f64 {
    let rows = values.chunks(6).map(|row| row.iter().map(|v| f64::from(v * v)).sum::<f64>() / 6.0);
    rows.map(|norm| (norm + 1.0).powi(3)).sum::<f64>() / (values.len() / 6) as f64
}

#[test]
fn copies_of_one_image_are_inside_their_own_balls() {
    // A collapsed generator: 20 copies of one real image, more than k, so that their balls have no extent.
    let real = normal(50, 4, 0.0, 1.0, 3);
    let collapsed = real[8..12].repeat(20);
    let found = prdc(features(&real, 4), features(&collapsed, 4), 5).unwrap();
    assert_eq!((found.precision, found.recall), (1.0, 1.0 / 50.0));
    // Its own ball, and those that reach to it.
    assert!(found.coverage >= 1.0 / 50.0 && found.coverage < 0.5);
    assert_eq!(prdc(features(&collapsed, 4), features(&collapsed, 4), 5).unwrap().coverage, 1.0);
    let both = fidelity(&sample(&collapsed, 4, None), &sample(&collapsed, 4, None), &quick()).unwrap();
    close("kid", both.kid.value, 0.0, 1e-12);
    assert_eq!(both.frechet.value, 0.0);
    assert_eq!((both.precision.value, both.recall.value), (1.0, 1.0));
}

/// Balls, counts and shares by loops over all pairs.
fn plain_prdc(reference: Features, compared: Features, k: usize) -> [f64; 4] {
    let squared = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a - b).powi(2)).sum::<f64>();
    let radii = |set: Features| -> Vec<f64> {
        let one = |i: usize| {
            let others = (0..set.len()).filter(|&j| j != i);
            let mut found: Vec<f64> = others.map(|j| squared(set.row(i), set.row(j))).collect();
            found.sort_by(f64::total_cmp);
            found[k - 1]
        };
        (0..set.len()).map(one).collect()
    };
    let (radii_r, radii_c) = (radii(reference), radii(compared));
    let (n, m) = (reference.len(), compared.len());
    let inside = |radius: f64, i: usize, j: usize| {
        let squared = squared(reference.row(i), compared.row(j));
        squared < radius || squared == 0.0
    };
    let count = |total: usize, of: &dyn Fn(usize) -> bool| (0..total).filter(|&i| of(i)).count() as f64 / total as f64;
    let pairs: usize = (0..m).map(|j| (0..n).filter(|&i| inside(radii_r[i], i, j)).count()).sum();
    [
        count(m, &|j| (0..n).any(|i| inside(radii_r[i], i, j))),
        count(n, &|i| (0..m).any(|j| inside(radii_c[j], i, j))),
        pairs as f64 / (k * m) as f64,
        count(n, &|i| (0..m).any(|j| inside(radii_r[i], i, j))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Whole numbers, whose distances are often equal to a radius.
    #[test]
    fn prdc_as_loops_over_all_pairs(
        dims in 1..6_usize,
        a in prop::collection::vec((-3..4_i8).prop_map(f32::from), 50..300),
        b in prop::collection::vec((-3..4_i8).prop_map(f32::from), 50..300),
        k in 1..5_usize,
    ) {
        let whole = |values: &[f32]| values.len() / dims * dims;
        let (a, b) = (features(&a[..whole(&a)], dims), features(&b[..whole(&b)], dims));
        let found = prdc(a, b, k).unwrap();
        let expected = plain_prdc(a, b, k);
        prop_assert_eq!([found.precision, found.recall, found.density, found.coverage], expected);
    }
}

#[test]
fn a_set_that_lacks_a_kind_has_precision_without_recall() {
    // Real images are of two kinds far apart; the generator makes one of them.
    let real = [normal(60, 3, 0.0, 1.0, 1), normal(60, 3, 50.0, 1.0, 2)].concat();
    let made = normal(100, 3, 0.0, 1.0, 3);
    let found = fidelity(&sample(&real, 3, None), &sample(&made, 3, None), &quick()).unwrap();
    assert!(found.precision.value > 0.8 && found.density.value > 0.8, "{found:?}");
    assert!(found.recall.value < 0.55 && found.coverage.value < 0.55, "{found:?}");
    assert!(found.frechet.low > 100.0 && found.kid.low > 1.0, "{found:?}");
    let shares = [found.precision, found.recall, found.density, found.coverage, found.realistic, found.beta_recall];
    for estimate in [&shares[..], &[found.frechet, found.kid, found.vendi, found.rarity.unwrap()]].concat() {
        assert!(estimate.low <= estimate.value && estimate.value <= estimate.high, "{found:?}");
        assert!(estimate.low < estimate.high);
    }
}

#[test]
fn nothing_in_common_is_nothing_for_certain_of_few() {
    let (a, b) = (normal(30, 3, 0.0, 1.0, 1), normal(40, 3, 90.0, 1.0, 2));
    let groups: Vec<String> = (0..40).map(|i| format!("P{}", i % 4)).collect();
    let found = fidelity(&sample(&a, 3, None), &sample(&b, 3, Some(&groups)), &quick()).unwrap();
    for estimate in [found.precision, found.density, found.recall] {
        assert_eq!((estimate.value, estimate.low), (0.0, 0.0));
        // Wilson's interval of 0 out of the 4 patients, with Student's quantile for the 3 degrees of freedom of these.
        let z2 = 3.182_446_f64.powi(2);
        close("high", estimate.high, z2 / (4.0 + z2), 1e-6);
    }
}

#[test]
fn rarity_and_realism_of_images_near_and_far() {
    let (real, made) = (normal(200, 4, 0.0, 1.0, 1), [normal(50, 4, 0.0, 1.0, 2), normal(50, 4, 3.0, 0.1, 3)].concat());
    let scores = image_scores(features(&real, 4), features(&made, 4), 5).unwrap();
    let found = fidelity(&sample(&real, 4, None), &sample(&made, 4, None), &quick()).unwrap();
    let share = |of: &dyn Fn(usize) -> bool| (0..100).filter(|&i| of(i)).count() as f64 / 100.0;
    assert_eq!(found.precision.value, share(&|i| scores[i].rarity.is_some()));
    // On the edge of a ball an image has a realism of just 1.
    assert_eq!(found.realistic.value, share(&|i| scores[i].realism > 1.0));
    let rare: Vec<f64> = scores.iter().filter_map(|score| score.rarity).collect();
    close("rarity", found.rarity.unwrap().value, rare.iter().sum::<f64>() / rare.len() as f64, 1e-12);
    assert!(
        scores[..50].iter().all(|near| scores[50..].iter().all(|far| near.realism > far.realism || near.realism < 1.0))
    );
    let copy = image_scores(features(&real, 4), features(&real[..4], 4), 5).unwrap()[0];
    assert!(copy.realism == f64::INFINITY || copy.realism < 1e9, "no NaN");
    let json = serde_json::to_string(&copy).unwrap();
    assert_eq!(serde_json::from_str::<cellforge_eval::ImageScore>(&json).unwrap(), copy);
}

#[test]
fn the_vendi_score_counts_kinds() {
    // Four kinds at right angles, 25 images of each, and the same with ever less of the others.
    let kinds = |counts: [usize; 4]| -> Vec<f32> {
        let of = |(kind, count): (usize, usize)| [0, 1, 2, 3].map(|at| f32::from(u8::from(at == kind))).repeat(count);
        counts.into_iter().enumerate().flat_map(of).collect()
    };
    close("even", vendi_score(features(&kinds([25; 4]), 4)).unwrap(), 4.0, 1e-9);
    // exp(-(0.7 ln 0.7 + 3 · 0.1 ln 0.1)).
    let expected = (-(0.7 * 0.7_f64.ln() + 0.3 * 0.1_f64.ln())).exp();
    close("uneven", vendi_score(features(&kinds([70, 10, 10, 10]), 4)).unwrap(), expected, 1e-9);
}

#[test]
fn the_feature_likelihood_divergence_sees_distance_and_copies() {
    let (train, test) = (normal(300, 6, 0.0, 1.0, 1), normal(200, 6, 0.0, 1.0, 2));
    let of = |made: &[f32]| {
        fld(&sample(&train, 6, None), &sample(&test, 6, None), &sample(made, 6, None), &quick()).unwrap()
    };
    let (fresh, far) = (of(&normal(150, 6, 0.0, 1.0, 3)), of(&normal(150, 6, 2.0, 1.0, 4)));
    // Images of the same distribution are about as good as half of the training images.
    assert!(fresh.low <= 0.0 && fresh.high >= 0.0 && fresh.value.abs() < 10.0, "{fresh:?}");
    assert!(far.low > fresh.high, "{far:?}");
    // Copies of training images fit these alone, and the Fréchet distance sees nothing in that.
    let copies = of(&train[..150 * 6]);
    assert!(copies.low > far.high, "{copies:?}");
    assert!(copies.low < copies.value && copies.value < copies.high);
    let few = normal(3, 6, 0.0, 1.0, 5);
    let refused = fld(&sample(&train, 6, None), &sample(&few, 6, None), &sample(&few, 6, None), &quick());
    assert!(matches!(refused, Err(Error::Images { needed: 4, rows: 3, .. })));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let ((a, groups), b) = (patients(30, 5, 1), normal(400, 5, 0.1, 1.0, 7));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| fidelity(&sample(&a, 5, Some(&groups)), &sample(&b, 5, None), &quick()).unwrap())
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
    let json = serde_json::to_string(&one).unwrap();
    assert_eq!(json.matches("null").count(), 2, "only the groups that are not known: {json}");
    assert_eq!(serde_json::from_str::<cellforge_eval::Fidelity>(&json).unwrap(), one);
}

#[test]
fn what_cannot_be_compared_is_named() {
    let (five, six) = (normal(5, 3, 0.0, 1.0, 1), normal(6, 3, 0.0, 1.0, 2));
    let options = quick();
    let run = |a: &Sample, b: &Sample, options: &FidelityOptions| fidelity(a, b, options).unwrap_err();
    let (small, enough) = (sample(&five, 3, None), sample(&six, 3, None));
    let error = run(&small, &enough, &options);
    assert_eq!(error, Error::Neighbours { k: 5, needed: 6, rows: 5 });
    assert!(error.to_string().contains("at least 6 images, and there are 5"), "{error}");
    assert_eq!(run(&enough, &small, &options), error);
    assert!(fidelity(&enough, &enough, &options).is_ok(), "k + 1 images are enough");
    assert_eq!(run(&sample(&six, 2, None), &enough, &options), Error::DimsDiffer { left: 2, right: 3 });
    let groups = vec![String::from("P"); 4];
    assert!(matches!(run(&sample(&six, 3, Some(&groups)), &enough, &options), Error::Length { found: 4, .. }));
    let few = FidelityOptions { frechet_resamples: 3, ..options };
    assert_eq!(run(&enough, &enough, &few), Error::Resamples(3));
}

#[test]
fn one_patient_is_said_to_be_one() {
    let (a, b) = (normal(60, 3, 0.0, 1.0, 1), normal(60, 3, 0.0, 1.0, 2));
    let groups = vec![String::from("P"); 60];
    let found = fidelity(&sample(&a, 3, Some(&groups)), &sample(&b, 3, None), &quick()).unwrap();
    assert_eq!((found.reference_groups, found.compared_groups), (Some(1), None));
    assert!(found.frechet.low < found.frechet.high && found.recall.low < found.recall.high);
}
