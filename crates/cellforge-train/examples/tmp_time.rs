use candle_core::Device;
use cellforge_classify::*;
use cellforge_data::CellSet;
use cellforge_nn::{Key, ParamStore};
use std::time::Instant;
fn rss() -> String {
    std::fs::read_to_string("/proc/self/status").unwrap().lines().filter(|l| l.starts_with("VmHWM")).collect()
}
fn main() {
    let d = Device::Cpu;
    let n = 1000;
    let px: Vec<u8> = (0..n * 64 * 64 * 3).map(|i: usize| (i.wrapping_mul(2654435761) >> 13) as u8).collect();
    let set = CellSet::from_parts(vec!["a".into()], (0..n).map(|i| i.to_string()).collect(), vec![0; n], vec![None; n], 64, 3, px).unwrap();
    let all: Vec<usize> = (0..n).collect();
    for what in std::env::args().skip(1) {
        let store = ParamStore::new(Key::new(1), &d);
        let t;
        let m = match what.as_str() {
            "resnet" | "graph" => {
                let vb = if what == "graph" { store.vb() } else { store.frozen_vb() };
                let c = Classifier::new(&ClassifierConfig::study_resnet(), vb).unwrap();
                t = Instant::now();
                cellforge_train::features(&c, &set, &all, &d).unwrap()
            }
            "inception" => {
                let c = Inception::new(store.frozen_vb()).unwrap();
                t = Instant::now();
                cellforge_train::inception_features(&c, &set, &all, &d).unwrap()
            }
            "pixels" => {
                t = Instant::now();
                cellforge_train::pixel_features(&set, &all, 16).unwrap()
            }
            _ => {
                t = Instant::now();
                for o in cellforge_train::Orientation::ALL {
                    cellforge_train::oriented(&set, &all, o).unwrap();
                }
                cellforge_train::pixel_features(&set, &all, 64).unwrap()
            }
        };
        println!("{what}: {:.2} s, {}x{}, {}", t.elapsed().as_secs_f64(), m.len(), m.dims, rss());
    }
}
