//! Raw numbers of any type and byte order, as volumes and arrays hold them.

use super::{Depth, Samples};

/// A type of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Unsigned,
    Signed,
    Float,
}

/// A type of numbers of a width, in an order of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) kind: Kind,
    /// Bytes: 1, 2, 4 or 8; of floats 2 or more.
    pub(super) width: usize,
    pub(super) big_endian: bool,
}

impl Number {
    /// Whether there is such a type.
    pub(super) fn is_known(self) -> bool {
        match self.kind {
            Kind::Bool => self.width == 1,
            Kind::Float => matches!(self.width, 2 | 4 | 8),
            Kind::Unsigned | Kind::Signed => matches!(self.width, 1 | 2 | 4 | 8),
        }
    }

    /// The number in `bytes`, of which there are as many as it is wide. What is no number is 0.
    pub(super) fn read(self, bytes: &[u8]) -> f32 {
        let mut buffer = [0u8; 8];
        let width = self.width.min(8);
        buffer[..width].copy_from_slice(&bytes[..width]);
        if self.big_endian {
            buffer[..width].reverse();
        }
        let raw = u64::from_le_bytes(buffer);
        let value = match (self.kind, width) {
            (Kind::Float, 2) => half::f16::from_bits(raw as u16).to_f32(),
            (Kind::Float, 4) => f32::from_bits(raw as u32),
            (Kind::Float, _) => f64::from_bits(raw) as f32,
            (Kind::Signed, 1) => f32::from(raw as u8 as i8),
            (Kind::Signed, 2) => f32::from(raw as u16 as i16),
            (Kind::Signed, 4) => raw as u32 as i32 as f32,
            (Kind::Signed, _) => raw as i64 as f32,
            (Kind::Unsigned | Kind::Bool, _) => raw as f32,
        };
        if value.is_finite() { value } else { 0.0 }
    }

    /// What numbers of the type may be.
    pub(super) fn depth(self) -> Depth {
        let bits = self.width as u32 * 8;
        match self.kind {
            Kind::Float => Depth::Measured,
            Kind::Signed => Depth::signed(bits),
            Kind::Bool | Kind::Unsigned => Depth::unsigned(bits),
        }
    }

    /// Samples from values of the type: what has 8 bits is shown as it is, and false and true are black and white.
    pub(super) fn samples(self, values: Vec<f32>) -> Samples {
        match (self.kind, self.width) {
            (Kind::Bool, _) => Samples::Bytes(values.into_iter().map(|v| if v == 0.0 { 0 } else { 255 }).collect()),
            (Kind::Unsigned, 1) => Samples::Bytes(values.into_iter().map(|v| v as u8).collect()),
            _ => Samples::Deep(values, self.depth()),
        }
    }

    /// Whether samples of the type have 8 bits.
    pub(super) fn is_shallow(self) -> bool {
        matches!((self.kind, self.width), (Kind::Bool, _) | (Kind::Unsigned, 1))
    }

    /// What it is called: "16-bit signed".
    pub(super) fn name(self) -> String {
        let kind = match self.kind {
            Kind::Bool => return "two-valued".to_owned(),
            Kind::Unsigned => "",
            Kind::Signed => " signed",
            Kind::Float => " float",
        };
        format!("{}-bit{kind}", self.width * 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_both_orders() {
        let number = |kind, width, big_endian| Number { kind, width, big_endian };
        assert_eq!(number(Kind::Signed, 2, false).read(&(-300i16).to_le_bytes()), -300.0);
        assert_eq!(number(Kind::Signed, 2, true).read(&(-300i16).to_be_bytes()), -300.0);
        assert_eq!(number(Kind::Signed, 1, true).read(&[0xFE]), -2.0);
        assert_eq!(number(Kind::Unsigned, 4, true).read(&70_000u32.to_be_bytes()), 70_000.0);
        assert_eq!(number(Kind::Signed, 8, false).read(&(-9i64).to_le_bytes()), -9.0);
        assert_eq!(number(Kind::Float, 2, false).read(&half::f16::from_f32(1.5).to_le_bytes()), 1.5);
        assert_eq!(number(Kind::Float, 4, true).read(&2.25f32.to_be_bytes()), 2.25);
        assert_eq!(number(Kind::Float, 8, false).read(&(-0.5f64).to_le_bytes()), -0.5);
        assert_eq!(number(Kind::Float, 4, false).read(&f32::NAN.to_le_bytes()), 0.0);
        assert!(!number(Kind::Float, 1, false).is_known() && number(Kind::Bool, 1, false).is_known());
    }
}
