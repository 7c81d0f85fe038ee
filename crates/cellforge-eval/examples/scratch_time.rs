//! scratch
use cellforge_eval::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::StandardNormal;
fn cpu() -> f64 { let s = std::fs::read_to_string("/proc/self/stat").unwrap(); let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect(); (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0 }
fn main() {
    for (n, d) in [(1000, 128), (1000, 512), (2000, 512)] {
        let mut r = ChaCha12Rng::seed_from_u64(1);
        let mut make = |g: usize| { let c: Vec<f32> = (0..g * d).map(|_| 0.5 * r.sample::<f32, _>(StandardNormal)).collect(); (0..n * d).map(|i| c[(i / d) % g * d + i % d] + r.sample::<f32, _>(StandardNormal) * (1.0 / (1.0 + (i % d) as f32 / 20.0))).collect::<Vec<f32>>() };
        let (a, b, c) = (make(31), make(80), make(n));
        let g = |k: usize| (0..n).map(|i| format!("P{}", i % k)).collect::<Vec<_>>();
        let (ga, gb) = (g(31), g(80));
        let f = |v| Features::new(v, d).unwrap();
        let (sa, sb, sc) = (Sample { features: f(&a), groups: Some(&ga) }, Sample { features: f(&b), groups: Some(&gb) }, Sample { features: f(&c), groups: None });
        let mut o = FidelityOptions::default();
        let t = |name: &str, run: &mut dyn FnMut()| { let (w, c) = (std::time::Instant::now(), cpu()); run(); println!("{n} {d} {name}: cpu {:.1} wall {:.1}", cpu() - c, w.elapsed().as_secs_f64()); };
        t("fidelity all", &mut || { let x = fidelity(&sa, &sc, &o).unwrap(); println!("{:?} {:?} {}", x.frechet, x.vendi, x.frechet_measured); });
        o.kid_subsets = 0; 
        t("fidelity without subsets", &mut || { fidelity(&sa, &sc, &o).unwrap(); });
        o.frechet_resamples = 20;
        t("fidelity 20 halves", &mut || { fidelity(&sa, &sc, &o).unwrap(); });
        t("prdc", &mut || { prdc(f(&a), f(&c), 5).unwrap(); });
        t("fd", &mut || { frechet_distance(f(&a), f(&c)).unwrap(); });
        t("vendi", &mut || { vendi_score(f(&c)).unwrap(); });
        t("fld", &mut || { println!("{:?}", fld(&sb, &sa, &sc, &o).unwrap()); });
        t("scores", &mut || { image_scores(f(&a), f(&c), 5).unwrap(); });
    }
}
