//! The networks agree with PyTorch's to 1e-4: outputs, gradients and running statistics.

#[path = "../../cellforge-gan/tests/support/parity.rs"]
mod support;

use candle_core::{Device, Result};
use cellforge_classify::{Classifier, ClassifierConfig};
use cellforge_nn::{Key, ParamStore};
use std::path::Path;
use support::fixtures;

fn agrees_with_pytorch(network: &str) -> Result<()> {
    for fixture in fixtures(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")), network) {
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
    agrees_with_pytorch("cnn")
}

#[test]
fn resnet_agrees_with_pytorch() -> Result<()> {
    agrees_with_pytorch("resnet")
}
