//! The p-values of all tests together, from labellings that they share.

use super::chance::Leak;

/// A figure on the true labelling and on those that are drawn, which are the same for all tests.
pub(crate) struct Drawn {
    pub(crate) truth: f64,
    pub(crate) drawn: Vec<f64>,
    pub(crate) leak: Leak,
}

/// What all tests say together.
pub(crate) struct Family {
    /// The p-value of each test, adjusted for all.
    pub(crate) adjusted: Vec<f64>,
    /// The smallest that an adjusted p-value can be here.
    pub(crate) smallest: f64,
}

/// The step-down min-P method of Westfall and Young (1993, Resampling-Based Multiple Testing, algorithm 2.8), over the labellings that
/// were drawn and the true one. Tests that say the same of every labelling cost nothing, where Holm's method counts each as a new one.
///
/// A test's p-value of a labelling is the share of labellings whose figure points to a leak as much or more. A test counts as many
/// labellings as have a p-value as small as its own by it or by any test that is less sure.
///
/// `smallest_p` is the smallest p-value that a single test can have.
pub(crate) fn family(tests: &[Drawn], smallest_p: f64) -> Family {
    let p: Vec<Vec<f64>> = tests.iter().map(p_values).collect();
    let labellings = p.first().map_or(1, Vec::len);
    let share = |least: &[f64], limit: f64| {
        least.iter().filter(|&&least| least <= limit + 1e-12).count() as f64 / labellings as f64
    };
    let mut order: Vec<usize> = (0..tests.len()).collect();
    order.sort_by(|&a, &b| p[b][0].total_cmp(&p[a][0]));
    // From the least sure test to the surest: the least p-value of each labelling by the tests so far.
    let mut least = vec![1.0_f64; labellings];
    let mut adjusted = vec![1.0; tests.len()];
    for &test in &order {
        least.iter_mut().zip(&p[test]).for_each(|(least, p)| *least = least.min(*p));
        adjusted[test] = share(&least, p[test][0]);
    }
    // None may be surer than a test with a smaller p-value.
    let mut largest = 0.0_f64;
    for &test in order.iter().rev() {
        largest = largest.max(adjusted[test]);
        adjusted[test] = largest;
    }
    Family { adjusted, smallest: share(&least, smallest_p).max(smallest_p) }
}

/// The p-value of each labelling, the true one first: the share of all of them with a figure as extreme.
fn p_values(test: &Drawn) -> Vec<f64> {
    // The surer of a leak, the lower; rounded so that sums in another order are equal.
    let slack = 1e-12 * test.truth.abs().max(1.0);
    let key = |value: f64| {
        let value = if test.leak == Leak::High { -value } else { value };
        (value / slack / 4.0).round()
    };
    let keys: Vec<f64> = std::iter::once(test.truth).chain(test.drawn.iter().copied()).map(key).collect();
    let mut sorted = keys.clone();
    sorted.sort_by(f64::total_cmp);
    keys.iter().map(|key| sorted.partition_point(|other| other <= key) as f64 / keys.len() as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn high(values: &[f64]) -> Drawn {
        Drawn { truth: values[0], drawn: values[1..].to_vec(), leak: Leak::High }
    }

    #[test]
    fn by_hand() {
        // p of a: 1/4, 2/4, 3/4, 1. Of b (low points to a leak): 2/4, 1/4, 3/4, 1.
        let a = high(&[4.0, 3.0, 2.0, 1.0]);
        let b = Drawn { truth: 2.0, drawn: vec![1.0, 3.0, 4.0], leak: Leak::Low };
        assert_eq!(p_values(&a), [0.25, 0.5, 0.75, 1.0]);
        assert_eq!(p_values(&b), [0.5, 0.25, 0.75, 1.0]);
        // Least over both: 1/4, 1/4, 3/4, 1: two of four are as small as a's. b alone: two of four.
        let found = family(&[a, b], 0.25);
        assert_eq!(found.adjusted, [0.5, 0.5]);
        // Two labellings reach a p-value of 1/4 by either test.
        assert_eq!(found.smallest, 0.5);
    }

    #[test]
    fn a_test_that_says_the_same_costs_nothing() {
        let values: Vec<f64> = (0..100).rev().map(f64::from).collect();
        let found = family(&[high(&values), high(&values), high(&values)], 0.01);
        assert_eq!(found.adjusted, [0.01; 3]);
        assert_eq!(found.smallest, 0.01);
        assert!(family(&[], 0.1).adjusted.is_empty());
    }

    #[test]
    fn independent_tests_accuse_as_rarely_as_is_promised() {
        // Ten tests of nothing over 500 labellings, 300 times: any is below 5% in about 5% of them.
        let mut numbers = crate::fidelity::congruential(300 * 10 * 500, 7).map(|x| (x >> 11) as f64);
        let mut accused = 0;
        for _ in 0..300 {
            let tests: Vec<Drawn> = (0..10).map(|_| high(&numbers.by_ref().take(500).collect::<Vec<f64>>())).collect();
            accused += usize::from(family(&tests, 0.002).adjusted.iter().any(|&p| p <= 0.05));
        }
        assert!((5..=27).contains(&accused), "{accused}");
    }
}
