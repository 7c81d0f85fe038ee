//! sim
use cellforge_eval::{BootstrapOptions, Features, privacy::*};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, StandardNormal};
use std::collections::BTreeMap;

const DIMS: usize = 12;

struct Set {
    values: Vec<f32>,
    groups: Vec<String>,
    labels: Vec<u32>,
}

struct Population {
    rng: ChaCha12Rng,
    between: f64,
    patients: usize,
}

impl Population {
    fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.rng)
    }
    /// Patients with 4 to 60 cells
    fn draw(&mut self, patients: usize) -> Set {
        let mut set = Set { values: vec![], groups: vec![], labels: vec![] };
        for _ in 0..patients {
            self.patients += 1;
            let infected = self.rng.random_bool(0.75);
            let mean: Vec<f64> = (0..DIMS).map(|_| self.normal() * self.between).collect();
            let cells = (2.0 + 4.0 * self.normal().exp() * 2.0).min(80.0) as usize + 2;
            for c in 0..cells {
                let label = u32::from(infected && c % 2 == 0);
                for (d, m) in mean.iter().enumerate() {
                    let shift = if d == 0 { 1.5 * f64::from(label) } else { 0.0 };
                    let v = m + shift + self.normal();
                    set.values.push(v as f32);
                }
                set.groups.push(format!("p{}", self.patients));
                set.labels.push(label);
            }
        }
        set
    }
}

fn run(train: &Set, holdout: &Set, synthetic: &[f32], seed: u64) -> Privacy {
    let f = |v| Features::new(v, DIMS).unwrap();
    let input = PrivacyInput {
        spaces: vec![Space {
            name: "x".into(),
            train: f(&train.values),
            holdout: vec![f(&holdout.values)],
            synthetic: vec![f(synthetic)],
        }],
        labels: Labels { train: &train.labels, holdout: &holdout.labels },
        train_groups: Some(&train.groups),
        holdout_groups: Some(&holdout.groups),
        discriminator: None,
    };
    let options = PrivacyOptions {
        relabellings: 1000,
        bootstrap: BootstrapOptions { resamples: 200, ..Default::default() },
        seed,
        ..Default::default()
    };
    privacy(&input, &options).unwrap()
}

#[test]
#[ignore]
fn simulate() {
    let get = |name: &str, d: &str| std::env::var(name).unwrap_or(d.into());
    let seeds: u64 = get("SEEDS", "20").parse().unwrap();
    let between: f64 = get("BETWEEN", "0.7").parse().unwrap();
    let (np, nh): (usize, usize) = (get("TRAIN", "60").parse().unwrap(), get("HOLD", "20").parse().unwrap());
    let n_syn: usize = get("SYN", "500").parse().unwrap();
    let only = get("ONLY", "");
    let scenarios = [
        "third",
        "population",
        "far",
        "collapsed",
        "blurry",
        "replay5",
        "replay20",
        "replay100",
        "near20",
        "patients",
        "kde0.5",
    ];
    for scenario in scenarios.iter().filter(|s| only.is_empty() || only.split(',').any(|o| o == **s)) {
        let mut counts: BTreeMap<String, [f64; 5]> = BTreeMap::new();
        let (mut any, mut any_binomial) = (0, 0);
        let start = std::time::Instant::now();
        for seed in 0..seeds {
            let mut pop = Population { rng: ChaCha12Rng::seed_from_u64(1000 + seed), between, patients: 0 };
            let (train, holdout) = (pop.draw(np), pop.draw(nh));
            let n_train = train.labels.len();
            let fresh = |pop: &mut Population| {
                let mut v = vec![];
                while v.len() < n_syn * DIMS {
                    let s = pop.draw(20); // new patients, one cell each
                    for i in (0..s.labels.len()).step_by(3) {
                        v.extend_from_slice(&s.values[i * DIMS..][..DIMS]);
                    }
                }
                v.truncate(n_syn * DIMS);
                v
            };
            let synthetic: Vec<f32> = match *scenario {
                "third" => {
                    let s = pop.draw(nh);
                    s.values
                }
                "population" => fresh(&mut pop),
                "far" => (0..n_syn * DIMS).map(|_| (pop.normal() * 2.0 + 15.0) as f32).collect(),
                "collapsed" => {
                    (0..n_syn * DIMS).map(|i| (((i % DIMS) as f64) * 0.1 + pop.normal() * 0.01) as f32).collect()
                }
                "blurry" => (0..n_syn * DIMS).map(|_| (pop.normal() * 0.4) as f32).collect(),
                "patients" => {
                    // new cells of the training patients: another cell's mean is unknown, so train cell mean of patient + noise
                    let mut means: BTreeMap<&String, (Vec<f64>, f64)> = BTreeMap::new();
                    for i in 0..n_train {
                        let e = means.entry(&train.groups[i]).or_insert((vec![0.0; DIMS], 0.0));
                        e.1 += 1.0;
                        for d in 0..DIMS {
                            e.0[d] += f64::from(train.values[i * DIMS + d]);
                        }
                    }
                    let mut v = vec![];
                    for _ in 0..n_syn {
                        let i = pop.rng.random_range(0..n_train);
                        let e = &means[&train.groups[i]];
                        for d in 0..DIMS {
                            v.push((e.0[d] / e.1 + pop.normal()) as f32);
                        }
                    }
                    v
                }
                "kde0.5" => {
                    let mut v = vec![];
                    for _ in 0..n_syn {
                        let i = pop.rng.random_range(0..n_train);
                        for d in 0..DIMS {
                            v.push(train.values[i * DIMS + d] + (0.5 * pop.normal()) as f32);
                        }
                    }
                    v
                }
                other => {
                    let noise = if other == "near20" { 0.2 } else { 0.0 };
                    let rate = match other {
                        "replay5" => 0.05,
                        "replay20" | "near20" => 0.2,
                        _ => 1.0,
                    };
                    let mut v = fresh(&mut pop);
                    for s in 0..n_syn {
                        if pop.rng.random_bool(rate) {
                            let i = pop.rng.random_range(0..n_train);
                            for d in 0..DIMS {
                                v[s * DIMS + d] = train.values[i * DIMS + d] + (noise * pop.normal()) as f32;
                            }
                        }
                    }
                    v
                }
            };
            let found = run(&train, &holdout, &synthetic, seed);
            let findings = found.findings();
            any += u32::from(findings.iter().any(|f| f.leaks));
            let b = found.spaces["x"].nearer_to_train.binomial;
            any_binomial += u32::from(b.low > 0.5);
            for f in findings {
                let e = counts.entry(f.test.clone()).or_default();
                e[0] += f64::from(u32::from(f.leaks));
                e[1] += f64::from(u32::from(f.chance.p <= 0.025));
                e[2] += f.value;
                e[3] += f.chance.mean;
                let high = f.value > f.chance.mean;
                let _ = high;
                let i = f.interval.unwrap();
                let low_leak = f.ideal == 0.0;
                e[4] += f64::from(u32::from(if low_leak { i.high < f.ideal } else { i.low > f.ideal }));
            }
        }
        let n = seeds as f64;
        println!(
            "== {scenario}: any {:.3}, binomial {:.3}, {:.2} s a run",
            f64::from(any) / n,
            f64::from(any_binomial) / n,
            start.elapsed().as_secs_f64() / n
        );
        for (name, e) in counts {
            println!(
                "   {name:35} holm {:.3} raw {:.3} interval {:.3} value {:.4} chance {:.4}",
                e[0] / n,
                e[1] / n,
                e[4] / n,
                e[2] / n,
                e[3] / n
            );
        }
    }
}
