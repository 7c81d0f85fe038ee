//! The networks agree with PyTorch's to 1e-4: outputs, gradients and running statistics.

#[path = "../../cellforge-gan/tests/support/parity.rs"]
mod support;

use candle_core::{Device, Result};
use cellforge_classify::{Classifier, ClassifierConfig};
use cellforge_nn::{Key, ParamStore};
use std::path::Path;
use support::{Nudge, fixtures};

const RESNET_NUDGES: &[Nudge] = &[
    ("bn1.bias", 16, 4.6e-7),
    ("blocks.0.bn2.bias", 23, 8.9e-7),
    ("blocks.0.bn3.bias", 23, 6.5e-7),
    ("blocks.1.bn3.bias", 27, -1.0e-6),
    ("blocks.2.bn1.bias", 25, 1.2e-6),
    ("blocks.3.bn1.bias", 5, 3.9e-7),
    ("blocks.3.bn1.bias", 79, 1.3e-6),
    ("blocks.6.bn3.bias", 34, 5.0e-6),
    ("blocks.7.bn1.bias", 233, 3.0e-6),
    ("blocks.11.bn1.bias", 328, -4.0e-6),
    ("blocks.12.bn2.bias", 10, -8.0e-6),
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
