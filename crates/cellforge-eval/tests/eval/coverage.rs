//! Made-up patients in feature space, and how often intervals hold the true figures. Shared with the example `coverage_of_intervals`.

use cellforge_eval::{BootstrapOptions, Estimate, Features, Fidelity, FidelityOptions, Sample, fidelity};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;

/// Two populations, and what is drawn of them.
pub struct Setting {
    pub dims: usize,
    /// Patients of the reference.
    pub patients: usize,
    /// Patients of the compared set; 0 for as many single images as the reference has.
    pub compared_patients: usize,
    /// Distance of the two means in every dimension.
    pub shift: f64,
    /// Standard deviation of the compared population in every dimension; that of the reference is 1.
    pub scale: f64,
}

const fn setting(dims: usize, patients: usize, compared_patients: usize, shift: f64, scale: f64) -> Setting {
    Setting { dims, patients, compared_patients, shift, scale }
}

/// From few to many dimensions and patients, from one population to two that lie apart.
pub const SETTINGS: [Setting; 14] = [
    setting(4, 8, 8, 0.0, 1.0),
    setting(4, 8, 0, 0.3, 1.2),
    setting(4, 30, 0, 1.0, 1.0),
    setting(4, 100, 100, 0.1, 1.0),
    setting(16, 8, 0, 0.0, 1.0),
    setting(16, 8, 8, 0.3, 1.2),
    setting(16, 30, 30, 0.0, 1.0),
    setting(16, 30, 0, 0.1, 1.1),
    setting(16, 30, 0, 0.3, 0.7),
    setting(16, 100, 0, 0.1, 1.0),
    setting(64, 8, 0, 0.2, 1.2),
    setting(64, 30, 30, 0.2, 1.2),
    setting(64, 30, 0, 0.0, 1.0),
    setting(64, 100, 0, 0.1, 1.1),
];

/// Share of the variance in every dimension that lies between patients.
const BETWEEN: f64 = 0.3;

/// The figures, in the order of [`simulate`].
pub const FIGURES: [&str; 11] = [
    "Fréchet",
    "KID",
    "precision",
    "recall",
    "density",
    "coverage",
    "α-precision",
    "β-recall",
    "Vendi",
    "realistic",
    "rarity",
];

fn figures(found: &Fidelity) -> [Estimate; 11] {
    let none = Estimate { value: 0.0, low: 0.0, high: 0.0 };
    [
        found.frechet,
        found.kid,
        found.precision,
        found.recall,
        found.density,
        found.coverage,
        found.alpha_precision,
        found.beta_recall,
        found.vendi,
        found.realistic,
        found.rarity.unwrap_or(none),
    ]
}

/// The share of `repeats` in which each interval holds the true figure. All repeats have sets of the same sizes.
pub fn simulate(setting: &Setting, repeats: usize, seed: u64) -> [f64; 11] {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let sizes = sizes(&mut rng, setting.patients);
    let compared_sizes = match setting.compared_patients {
        0 => vec![1; sizes.iter().sum()],
        patients => self::sizes(&mut rng, patients),
    };
    let one = |number: usize| {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        rng.set_stream(1 + number as u64);
        let reference = Images::new(&mut rng, &sizes, setting.dims, 0.0, 1.0);
        let compared = Images::new(&mut rng, &compared_sizes, setting.dims, setting.shift, setting.scale);
        let options = FidelityOptions {
            kid_subsets: 0,
            frechet_resamples: 24,
            bootstrap: BootstrapOptions { seed: number as u64, ..Default::default() },
            ..Default::default()
        };
        let found = fidelity(
            &Sample {
                features: Features::new(&reference.values, setting.dims).unwrap(),
                groups: Some(&reference.patients),
            },
            &Sample {
                features: Features::new(&compared.values, setting.dims).unwrap(),
                groups: (setting.compared_patients > 0).then_some(&compared.patients[..]),
            },
            &options,
        );
        figures(&found.unwrap())
    };
    let found: Vec<[Estimate; 11]> = (0..repeats).into_par_iter().map(one).collect();
    std::array::from_fn(|at| {
        let known = match at {
            0 => Some(setting.frechet()),
            1 => Some(setting.kernel_distance()),
            _ => None,
        };
        let truth =
            known.unwrap_or_else(|| found.iter().map(|figures| figures[at].value).sum::<f64>() / repeats as f64);
        let held = found.iter().filter(|figures| (figures[at].low..=figures[at].high).contains(&truth)).count();
        held as f64 / repeats as f64
    })
}

impl Setting {
    /// Of normal distributions with covariances `I` and `scale² I`.
    pub fn frechet(&self) -> f64 {
        self.dims as f64 * (self.shift.powi(2) + (self.scale - 1.0).powi(2))
    }

    /// Of the same, with the kernel `(x·y / d + 1)³`.
    pub fn kernel_distance(&self) -> f64 {
        let (a, b) = ([0.0, 1.0], [self.shift, self.scale]);
        expected_kernel(a, a, self.dims) + expected_kernel(b, b, self.dims) - 2.0 * expected_kernel(a, b, self.dims)
    }
}

/// The mean of `(x·y / d + 1)³` over normal `x` and `y` in `d` dimensions, of given mean and standard deviation in each: the cumulants
/// of `x·y` are `d` times those of one product, and `E (z + 1)³ = 1 + 3 E z + 3 E z² + E z³`.
fn expected_kernel(x: [f64; 2], y: [f64; 2], dims: usize) -> f64 {
    let moments = |[m, s]: [f64; 2]| [m, m * m + s * s, m.powi(3) + 3.0 * m * s * s];
    let (x, y, d) = (moments(x), moments(y), dims as f64);
    let [p1, p2, p3] = [0, 1, 2].map(|i| x[i] * y[i]);
    let (c1, c2, c3) = (d * p1, d * (p2 - p1 * p1), d * (p3 - 3.0 * p2 * p1 + 2.0 * p1.powi(3)));
    let (z1, z2, z3) = (c1, c2 + c1 * c1, c3 + 3.0 * c2 * c1 + c1.powi(3));
    1.0 + 3.0 * z1 / d + 3.0 * z2 / d.powi(2) + z3 / d.powi(3)
}

struct Images {
    values: Vec<f32>,
    patients: Vec<String>,
}

/// Images of each patient: 4 to 82, about 17 on average.
fn sizes(rng: &mut ChaCha12Rng, patients: usize) -> Vec<usize> {
    let mut one = || (2.0 + 8.0 * rng.sample::<f64, _>(StandardNormal).exp()).min(80.0) as usize + 2;
    (0..patients).map(|_| one()).collect()
}

impl Images {
    /// As many images of each patient as `sizes` say.
    fn new(rng: &mut ChaCha12Rng, sizes: &[usize], dims: usize, mean: f64, scale: f64) -> Self {
        let mut normal = || rng.sample::<f64, _>(StandardNormal);
        let mut images = Self { values: Vec::new(), patients: Vec::new() };
        for (patient, &size) in sizes.iter().enumerate() {
            let place: Vec<f64> = (0..dims).map(|_| BETWEEN.sqrt() * normal()).collect();
            for _ in 0..size {
                let within = (1.0 - BETWEEN).sqrt();
                images.values.extend(place.iter().map(|place| (mean + scale * (place + within * normal())) as f32));
                images.patients.push(format!("P{patient}"));
            }
        }
        images
    }
}
