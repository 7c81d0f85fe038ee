//! Layers, seeded initialisation and noise, and optimisers with saveable state, on Candle.
