//! Generators, discriminators and adversarial losses for cell images.
