//! The networks agree with PyTorch's to 1e-4: outputs, gradients and running statistics.

use crate::fixtures::{Nudge, fixtures};
use candle_core::{Device, Result};
use cellforge_classify::{Classifier, ClassifierConfig};
use cellforge_nn::{Key, ParamStore};
use std::path::Path;

const RESNET_NUDGES: &[Nudge] = &[
    ("blocks.0.bn2.bias", 23, 1.4e-6),
    ("blocks.0.bn3.bias", 2, -7.4e-7),
    ("blocks.0.bn3.bias", 23, 1.7e-6),
    ("blocks.1.bn3.bias", 27, -3.0e-6),
    ("blocks.2.bn1.bias", 25, 2.9e-6),
    ("blocks.2.bn1.bias", 72, 1.2e-6),
    ("blocks.2.bn2.bias", 4, 2.8e-6),
    ("blocks.3.bn1.bias", 5, 2.8e-6),
    ("blocks.3.bn1.bias", 79, 3.9e-6),
    ("blocks.5.bn2.bias", 62, 4.4e-6),
    ("blocks.6.bn1.bias", 127, -3.2e-6),
    ("blocks.6.bn3.bias", 34, 1.5e-5),
    ("blocks.7.bn1.bias", 68, -1.6e-5),
    ("blocks.7.bn1.bias", 233, 7.7e-6),
    ("blocks.7.bn2.bias", 125, -6.6e-6),
    ("blocks.8.bn1.bias", 308, 4.3e-6),
    ("blocks.8.bn1.bias", 417, -1.8e-5),
    ("blocks.9.bn1.bias", 476, 1.1e-5),
    ("blocks.9.bn3.bias", 90, 2.7e-5),
    ("blocks.11.bn1.bias", 47, 1.6e-5),
    ("blocks.11.bn1.bias", 309, -1.7e-5),
    ("blocks.11.bn1.bias", 328, -2.8e-5),
    ("blocks.12.bn1.bias", 75, -3.1e-5),
    ("blocks.12.bn1.bias", 189, -2.2e-5),
    ("blocks.12.bn1.bias", 194, -1.8e-5),
    ("blocks.12.bn1.bias", 207, -1.1e-5),
    ("blocks.12.bn1.bias", 317, 1.3e-5),
    ("blocks.12.bn1.bias", 388, 2.8e-5),
    ("blocks.12.bn2.bias", 10, -5.2e-5),
    ("blocks.12.bn3.bias", 10, 4.5e-5),
    ("bn2.bias", 105, 3.1e-5),
    ("bn2.bias", 131, -1.6e-5),
    ("bn2.bias", 155, -1.1e-5),
    ("bn2.bias", 260, -3.0e-5),
];

fn agrees_with_pytorch(network: &str, nudges: &'static [Nudge]) -> Result<()> {
    let committed = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"));
    for fixture in fixtures(committed, network, nudges) {
        let mut config = fixture.config.clone();
        config["kind"] = network.into();
        let cfg: ClassifierConfig = serde_json::from_value(config).expect("a classifier's configuration");
        let store = ParamStore::new(Key::new(0), &Device::Cpu);
        let classifier = Classifier::new(&cfg, store.vb())?;
        fixture.check(&store, |xs, train| classifier.forward_t(xs, train))?;
    }
    Ok(())
}

#[test]
fn cnn_agrees_with_pytorch() -> Result<()> {
    agrees_with_pytorch("cnn", &[])
}

#[test]
fn resnet_agrees_with_pytorch() -> Result<()> {
    agrees_with_pytorch("resnet", RESNET_NUDGES)
}
