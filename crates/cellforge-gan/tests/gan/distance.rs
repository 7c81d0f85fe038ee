//! How far some numbers are from others; used by the tests of both model crates.

/// The size of the difference of two vectors, relative to the second.
pub fn distance<T: Copy + Into<f64>>(got: &[T], want: &[T]) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |xs: &mut dyn Iterator<Item = f64>| xs.map(|x| x * x).sum::<f64>().sqrt();
    let differences = &mut got.iter().zip(want).map(|(&a, &b)| a.into() - b.into());
    norm(differences) / norm(&mut want.iter().map(|&x| x.into()))
}
