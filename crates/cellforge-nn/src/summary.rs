//! What a model consists of, as a table.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One layer of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSummary {
    /// Its path in the model.
    pub name: String,
    /// What it is, for example `Conv2d 3x3/2`.
    pub kind: String,
    /// The shape of its output without the batch: `[c, h, w]` or `[features]`.
    pub output: Vec<usize>,
    /// Its parameters as Keras counts them: running statistics included.
    pub params: usize,
    /// Those of its parameters that training changes by gradient.
    pub trainable: usize,
    /// Multiply-adds of one forward pass of one image.
    pub macs: u64,
}

/// A model: its layers in the order in which they run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// The model's name.
    pub model: String,
    /// The shape of its input without the batch.
    pub input: Vec<usize>,
    /// Its layers.
    pub layers: Vec<LayerSummary>,
}

impl ModelSummary {
    /// All parameters, as Keras counts them.
    pub fn params(&self) -> usize {
        self.layers.iter().map(|layer| layer.params).sum()
    }

    /// The parameters that training changes by gradient.
    pub fn trainable(&self) -> usize {
        self.layers.iter().map(|layer| layer.trainable).sum()
    }

    /// Multiply-adds of one forward pass of one image.
    pub fn macs(&self) -> u64 {
        self.layers.iter().map(|layer| layer.macs).sum()
    }
}

/// A plain table: one line a layer, then the totals.
impl fmt::Display for ModelSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["layer", "kind", "output", "parameters", "multiply-adds"].map(String::from)];
        rows.push([String::from("input"), String::new(), shape(&self.input), String::new(), String::new()]);
        for l in &self.layers {
            let (params, macs) = (grouped(l.params as u64), grouped(l.macs));
            rows.push([l.name.clone(), l.kind.clone(), shape(&l.output), params, macs]);
        }
        let total = format!("{} trainable", grouped(self.trainable() as u64));
        let (params, macs) = (grouped(self.params() as u64), grouped(self.macs()));
        rows.push([String::from("total"), total, String::new(), params, macs]);
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        writeln!(f, "{}", self.model)?;
        for [name, kind, output, params, macs] in &rows {
            let [a, b, c, d, e] = widths;
            writeln!(f, "{name:a$}  {kind:b$}  {output:c$}  {params:>d$}  {macs:>e$}")?;
        }
        Ok(())
    }
}

fn shape(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// 1234567 as 1,234,567.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
