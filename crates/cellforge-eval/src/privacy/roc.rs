//! Areas under ROC curves and true positive rates at a low false positive rate, for sides and weights that change.

/// Images or patients in the order of their scores, so that a new labelling or resample needs one pass and no sorting.
#[derive(Clone, Debug)]
pub(crate) struct Ranked {
    /// Highest score first.
    order: Vec<usize>,
    /// Where each run of equal scores ends in `order`.
    ends: Vec<usize>,
}

impl Ranked {
    /// Ranks finite scores; higher means more likely a member.
    pub(crate) fn new(scores: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let mut ends = Vec::new();
        for run in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
            ends.push(ends.last().unwrap_or(&0) + run.len());
        }
        Self { order, ends }
    }

    /// Number of scores.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Members and non-members in each run of equal scores, highest first.
    fn runs(&self, counts: impl Fn(usize) -> (u32, u32)) -> impl Iterator<Item = (u64, u64)> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let run = &self.order[start..end];
            start = end;
            run.iter().map(|&i| counts(i)).fold((0, 0), |sum, (m, n)| (sum.0 + u64::from(m), sum.1 + u64::from(n)))
        })
    }

    /// The area under the ROC curve, and the true positive rate at false positive rate `fpr`. `counts(i)` is how often `i` counts as
    /// a member and as a non-member. `None` where one of the two is missing.
    ///
    /// The curve is a line from each run of equal scores to the next: where scores tie, the attacker guesses, and the rates are those
    /// to be expected. Where the curve goes straight up at `fpr`, the upper end counts, so that with fewer than `1 / fpr` non-members
    /// the figure is the share of members that score above all of them.
    pub(crate) fn figures(&self, fpr: f64, counts: impl Fn(usize) -> (u32, u32)) -> Option<(f64, f64)> {
        let runs = || self.runs(&counts);
        let (members, others) = runs().fold((0, 0), |sum, (m, n)| (sum.0 + m, sum.1 + n));
        if members == 0 || others == 0 {
            return None;
        }
        // False positives that are allowed, and the true positives when they are used up.
        let allowed = fpr * others as f64;
        let (mut won, mut m, mut n, mut at) = (0_u128, 0_u64, 0_u64, None);
        for (run_m, run_n) in runs() {
            if at.is_none() && (n + run_n) as f64 > allowed {
                at = Some(m as f64 + run_m as f64 * (allowed - n as f64) / run_n as f64);
            }
            // Twice the pairs in which a non-member of this run loses against a member or ties with one.
            won += u128::from(run_n) * u128::from(2 * m + run_m);
            m += run_m;
            n += run_n;
        }
        let pairs = 2.0 * members as f64 * others as f64;
        Some((won as f64 / pairs, at.unwrap_or(m as f64) / members as f64))
    }

    /// The average precision, as scikit-learn's `average_precision_score`: the sum over the runs of equal scores, from the highest, of the
    /// share of members in the run times the share of members among all down to it. `counts` as in [`figures`](Self::figures). `None` where
    /// members or others are missing.
    pub(crate) fn average_precision(&self, counts: impl Fn(usize) -> (u32, u32)) -> Option<f64> {
        let (mut found, mut taken, mut sum) = (0_u64, 0_u64, 0.0);
        for (members, others) in self.runs(counts) {
            found += members;
            taken += members + others;
            if members > 0 {
                sum += members as f64 * (found as f64 / taken as f64);
            }
        }
        (found > 0 && taken > found).then(|| sum / found as f64)
    }

    /// The ROC curve as `(false positive rate, true positive rate)` from (0, 0) to (1, 1), thinned to at most 200 points.
    pub(crate) fn curve(&self, counts: impl Fn(usize) -> (u32, u32)) -> Vec<(f64, f64)> {
        let mut points = vec![(0_u64, 0_u64)];
        for (m, n) in self.runs(counts) {
            let (x, y) = points[points.len() - 1];
            points.push((x + n, y + m));
        }
        let (others, members) = points[points.len() - 1];
        let rates =
            points.into_iter().map(|(x, y)| (x as f64 / others.max(1) as f64, y as f64 / members.max(1) as f64));
        thinned(corners(rates.collect()))
    }
}

/// Leaves out points on the line between their neighbours.
fn corners(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for point in points {
        if let [.., a, b] = kept[..]
            && ((b.0 - a.0) * (point.1 - a.1) - (b.1 - a.1) * (point.0 - a.0)).abs() < 1e-12
        {
            kept.pop();
        }
        kept.push(point);
    }
    kept
}

/// At most 200 points: the first that enters each 198th of the way from (0, 0) to (1, 1), along the axes, and both ends.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    const POINTS: usize = 200;
    if points.len() <= POINTS {
        return points;
    }
    let last = points.len() - 1;
    let mut next = 0;
    let kept = points.iter().enumerate().filter(|&(i, point)| {
        let way = ((point.0 + point.1) / 2.0 * (POINTS - 2) as f64) as usize;
        let keep = i == last || way >= next && way < POINTS - 2;
        if keep {
            next = way + 1;
        }
        keep
    });
    kept.map(|(_, &point)| point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(members: &[u32]) -> impl Fn(usize) -> (u32, u32) {
        move |i| (members[i], 1 - members[i])
    }

    #[test]
    fn area_and_rate_by_hand() {
        // From the top: member, member, other, member, other. Of 6 pairs the members win 2 + 2 + 1 = 5.
        let ranked = Ranked::new(&[0.9, 0.8, 0.7, 0.6, 0.5]);
        let members = [1, 1, 0, 1, 0];
        // With no false positive two of three members are found; at half of the others, all three.
        assert_eq!(ranked.figures(0.0, sides(&members)), Some((5.0 / 6.0, 2.0 / 3.0)));
        assert_eq!(ranked.figures(0.01, sides(&members)).unwrap().1, 2.0 / 3.0);
        assert_eq!(ranked.figures(0.5, sides(&members)).unwrap().1, 1.0);
        assert_eq!(ranked.figures(1.0, sides(&members)).unwrap().1, 1.0);
        let curve = ranked.curve(sides(&members));
        let third = 1.0 / 3.0;
        let expected = [(0.0, 0.0), (0.0, 2.0 * third), (0.5, 2.0 * third), (0.5, 1.0), (1.0, 1.0)];
        assert!(curve.iter().zip(expected).all(|(a, b)| (a.0 - b.0).abs() + (a.1 - b.1).abs() < 1e-12), "{curve:?}");
        assert_eq!(curve.len(), expected.len());
    }

    #[test]
    fn average_precision_by_hand() {
        // Members on places 1, 2 and 4: (1/1 + 2/2 + 3/4) / 3.
        let ranked = Ranked::new(&[0.9, 0.8, 0.7, 0.6, 0.5]);
        let found = ranked.average_precision(sides(&[1, 1, 0, 1, 0])).unwrap();
        assert!((found - 2.75 / 3.0).abs() < 1e-12);
        // One score for all: the share of members.
        let flat = Ranked::new(&[3.0; 8]);
        assert_eq!(flat.average_precision(sides(&[1, 0, 1, 0, 1, 0, 0, 0])), Some(3.0 / 8.0));
        // An image that counts twice: members on places 1, 2 and 4 of four.
        let weighted = Ranked::new(&[0.9, 0.7, 0.6]).average_precision(|i| [(2, 0), (0, 1), (1, 0)][i]).unwrap();
        assert!((weighted - 2.75 / 3.0).abs() < 1e-12);
        assert_eq!(flat.average_precision(|_| (1, 0)), None);
        assert_eq!(flat.average_precision(|_| (0, 1)), None);
    }

    #[test]
    fn ties_are_guessed_between() {
        // All equal: the curve is the diagonal.
        let flat = Ranked::new(&[3.0; 8]);
        let members = [1, 0, 1, 0, 1, 0, 0, 0];
        let (auc, tpr) = flat.figures(0.2, sides(&members)).unwrap();
        assert_eq!(auc, 0.5);
        assert!((tpr - 0.2).abs() < 1e-12);
        assert_eq!(flat.curve(sides(&members)), [(0.0, 0.0), (1.0, 1.0)]);
        // A member on top, then a run of one member and two others: at half of the others' rate (one of two allowed),
        // 1 + 1 * (1 - 0) / 2 = 1.5 of two members. Pairs: 2 won, 2 tied of 4: 0.75.
        let ranked = Ranked::new(&[2.0, 1.0, 1.0, 1.0]);
        assert_eq!(ranked.figures(0.5, sides(&[1, 1, 0, 0])), Some((0.75, 0.75)));
    }

    #[test]
    fn weights_count_as_copies() {
        let weights = [2, 0, 1, 3, 1];
        let members = [true, true, false, true, false];
        let weighted = Ranked::new(&[0.9, 0.8, 0.7, 0.6, 0.5])
            .figures(0.1, |i| if members[i] { (weights[i], 0) } else { (0, weights[i]) });
        let copies = Ranked::new(&[0.9, 0.9, 0.7, 0.6, 0.6, 0.6, 0.5]);
        assert_eq!(weighted, copies.figures(0.1, sides(&[1, 1, 0, 1, 1, 1, 0])));
        assert_eq!(copies.figures(0.1, |_| (1, 0)), None);
    }

    #[test]
    fn long_curves_are_thinned() {
        let scores: Vec<f64> = (0..5000).map(|i| f64::from((i * 7919) % 5003)).collect();
        let ranked = Ranked::new(&scores);
        let curve = ranked.curve(|i| if i % 3 == 0 { (1, 0) } else { (0, 1) });
        assert!(curve.len() <= 200 && curve.len() > 150, "{}", curve.len());
        assert_eq!((curve[0], curve[curve.len() - 1]), ((0.0, 0.0), (1.0, 1.0)));
        assert!(curve.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
    }
}
