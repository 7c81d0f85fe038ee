//! The networks agree with PyTorch's to 1e-4: outputs, gradients and running statistics.

use crate::fixtures::{Fixture, Nudge, fixtures};
use candle_core::{Device, Result};
use cellforge_gan::{Discriminator, GanConfig, Generator};
use cellforge_nn::{Key, ParamStore};
use std::path::Path;

const GENERATOR_NUDGES: &[Nudge] = &[("body.2.bias", 254, -3e-6), ("body.14.bias", 41, 1e-6)];
const DISCRIMINATOR_NUDGES: &[Nudge] = &[("body.17.bias", 181, -2.5e-6)];

fn committed() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"))
}

/// Dropout is off, as it was when the fixture was made.
fn config(fixture: &Fixture) -> GanConfig {
    let cfg = serde_json::from_value(fixture.config.clone()).expect("a GAN's configuration");
    GanConfig { dropout: 0.0, ..cfg }
}

#[test]
fn generator_agrees_with_pytorch() -> Result<()> {
    for fixture in fixtures(committed(), "generator", GENERATOR_NUDGES) {
        let store = ParamStore::new(Key::new(0), &Device::Cpu);
        let generator = Generator::new(&config(&fixture), store.vb())?;
        fixture.check(&store, |zs, train| generator.forward_t(zs, train))?;
    }
    Ok(())
}

#[test]
fn discriminator_agrees_with_pytorch() -> Result<()> {
    for fixture in fixtures(committed(), "discriminator", DISCRIMINATOR_NUDGES) {
        let store = ParamStore::new(Key::new(0), &Device::Cpu);
        let discriminator = Discriminator::new(&config(&fixture), store.vb())?;
        fixture.check(&store, |xs, train| discriminator.forward_t(xs, train, &Key::new(0)))?;
    }
    Ok(())
}
