//! Training, validation and test cells: by cell or by patient, from a seed, kept as a CSV manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::atomic::write_atomic;
use crate::{CellSet, Error, Result};

/// Indices of cells, sorted, each on one side at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// To learn from.
    pub train: Vec<usize>,
    /// To choose between models.
    pub val: Vec<usize>,
    /// To judge the chosen one.
    pub test: Vec<usize>,
}

/// What is kept whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// Each cell goes its own way, every class in the same proportion. Cells of one patient end up on several sides.
    #[default]
    Cell,
    /// All cells of a group (patient) go together.
    Group,
}

/// How to split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitOptions {
    /// By cell or by group.
    pub by: SplitBy,
    /// Share of cells to validate with, from 0 to below 1.
    pub val: f64,
    /// Share of cells to test with, from 0 to below 1; the rest is to train with.
    pub test: f64,
    /// The same seed gives the same split of the same cells.
    pub seed: u64,
}

impl Default for SplitOptions {
    /// 70% to train, 10% to validate, 20% to test, by cell.
    fn default() -> Self {
        Self { by: SplitBy::Cell, val: 0.1, test: 0.2, seed: 0 }
    }
}

/// Splits cells into three.
///
/// By cell, every class is dealt out in the same proportion, at least one cell to each side that is asked for. By group, groups go
/// one at a time, in an order drawn from the seed, to the side that lacks their classes most, and are then moved while that
/// brings the sides' class counts closer to their shares; no group is on two sides.
///
/// # Errors
/// [`Error::Invalid`] for shares out of range, too few cells of a class or too few groups, a cell without a group, or a side of a
/// split by group that would lack a class.
pub fn split(set: &CellSet, options: &SplitOptions) -> Result<Split> {
    let train = 1.0 - options.val - options.test;
    for (name, share) in [("val", options.val), ("test", options.test)] {
        if !(0.0..1.0).contains(&share) {
            return Err(Error::Invalid(format!("the {name} share of a split must be from 0 to below 1, not {share}")));
        }
    }
    if train <= 1e-9 {
        return Err(Error::Invalid(format!(
            "val {} and test {} leave nothing to train with: their sum must be below 1",
            options.val, options.test
        )));
    }
    let shares = [train, options.val, options.test];
    let parts = sides(set, options.by, &shares, options.seed)?;
    let wanted = shares.iter().filter(|share| **share > 0.0).count();
    for ((name, share), part) in ["training", "validation", "test"].into_iter().zip(shares).zip(&parts) {
        if share > 0.0
            && let Some(class) = lacking(set, part)
        {
            return Err(Error::Invalid(format!(
                "a split by group leaves the {name} part without class {:?} (groups, or patients, that have it: {}; parts that \
                 want it: {wanted}): give more patients, ask for fewer parts, or split by cell",
                set.classes[class],
                groups_with(set, class)
            )));
        }
    }
    let [train, val, test] = parts.try_into().map_err(|_| Error::Invalid("a split has three sides".to_owned()))?;
    Ok(Split { train, val, test })
}

/// The first class of the set that none of these cells is of.
fn lacking(set: &CellSet, cells: &[usize]) -> Option<usize> {
    let mut there = vec![false; set.classes.len()];
    for cell in cells {
        there[set.labels[*cell] as usize] = true;
    }
    set.class_counts().into_iter().zip(there).position(|(count, there)| count > 0 && !there)
}

/// Groups that have a cell of a class.
fn groups_with(set: &CellSet, class: usize) -> usize {
    let cells = set.class_indices(class as u32);
    cells.into_iter().filter_map(|cell| set.groups[cell].as_deref()).collect::<BTreeSet<&str>>().len()
}

/// Splits cells into `k` equal folds: split `i` tests on fold `i` and trains on the others; none validates.
///
/// # Errors
/// As [`split`], and for `k` below 2. A fold may lack a class, but no training part.
pub fn k_fold(set: &CellSet, k: usize, by: SplitBy, seed: u64) -> Result<Vec<Split>> {
    if k < 2 {
        return Err(Error::Invalid(format!("k-fold splits need 2 folds or more, not {k}")));
    }
    let folds = sides(set, by, &vec![1.0 / k as f64; k], seed)?;
    let splits: Vec<Split> = (0..k)
        .map(|test| {
            let mut train: Vec<usize> = folds
                .iter()
                .enumerate()
                .filter(|(fold, _)| *fold != test)
                .flat_map(|(_, cells)| cells)
                .copied()
                .collect();
            train.sort_unstable();
            Split { train, val: Vec::new(), test: folds[test].clone() }
        })
        .collect();
    match splits.iter().find_map(|split| lacking(set, &split.train)) {
        Some(class) => Err(Error::Invalid(format!(
            "folds by group leave a training part without class {:?} (groups, or patients, that have it: {}): give more \
             patients, or split by cell",
            set.classes[class],
            groups_with(set, class)
        ))),
        None => Ok(splits),
    }
}

/// The cells of each side, sorted; a side of share 0 stays empty.
fn sides(set: &CellSet, by: SplitBy, shares: &[f64], seed: u64) -> Result<Vec<Vec<usize>>> {
    if set.is_empty() {
        return Err(Error::Invalid("there are no cells to split".to_owned()));
    }
    let mut sides = match by {
        SplitBy::Cell => by_cell(set, shares, seed)?,
        SplitBy::Group => by_group(set, shares, seed)?,
    };
    sides.iter_mut().for_each(|side| side.sort_unstable());
    Ok(sides)
}

fn by_cell(set: &CellSet, shares: &[f64], seed: u64) -> Result<Vec<Vec<usize>>> {
    let mut sides = vec![Vec::new(); shares.len()];
    let wanted = shares.iter().filter(|share| **share > 0.0).count();
    for (class, name) in set.classes.iter().enumerate() {
        let mut cells = set.class_indices(class as u32);
        if cells.is_empty() {
            continue;
        }
        if cells.len() < wanted {
            return Err(Error::Invalid(format!(
                "class {name:?} has {} cells, too few for {wanted} sides of a split",
                cells.len()
            )));
        }
        cells.shuffle(&mut rng(seed, name));
        // Classes hand their surplus cells to different sides, so that folds stay even where there are many classes.
        let counts = apportion(cells.len(), shares, class);
        let mut rest = cells.as_slice();
        for (side, count) in sides.iter_mut().zip(counts) {
            let (taken, left) = rest.split_at(count);
            side.extend_from_slice(taken);
            rest = left;
        }
    }
    Ok(sides)
}

/// Whole numbers that sum to `n`, nearest to the shares (largest remainders; equal ones in turn from side `first`), at least 1
/// for each share above 0. `n` is no less than the number of those.
fn apportion(n: usize, shares: &[f64], first: usize) -> Vec<usize> {
    let exact: Vec<f64> = shares.iter().map(|share| share * n as f64).collect();
    let mut counts: Vec<usize> = exact.iter().map(|exact| (exact + 1e-9).floor() as usize).collect();
    let mut order: Vec<usize> = (0..shares.len()).filter(|side| shares[*side] > 0.0).collect();
    order.sort_by_key(|side| (side + shares.len() - first % shares.len()) % shares.len());
    order.sort_by(|a, b| (exact[*b] - counts[*b] as f64).total_cmp(&(exact[*a] - counts[*a] as f64)));
    let mut left = n.saturating_sub(counts.iter().sum());
    for side in order.iter().cycle() {
        if left == 0 {
            break;
        }
        counts[*side] += 1;
        left -= 1;
    }
    while let Some(empty) = order.iter().find(|side| counts[**side] == 0) {
        let largest = (0..counts.len()).max_by_key(|side| counts[*side]).unwrap_or(0);
        counts[largest] -= 1;
        counts[*empty] += 1;
    }
    counts
}

fn by_group(set: &CellSet, shares: &[f64], seed: u64) -> Result<Vec<Vec<usize>>> {
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (cell, group) in set.groups.iter().enumerate() {
        let group = group.as_deref().ok_or_else(|| {
            Error::Invalid(format!(
                "{} has no group (patient): split by cell, or give the groups in a CSV file",
                set.names[cell]
            ))
        })?;
        members.entry(group).or_default().push(cell);
    }
    let wanted: Vec<usize> = (0..shares.len()).filter(|side| shares[*side] > 0.0).collect();
    if members.len() < wanted.len() {
        return Err(Error::Invalid(format!(
            "{} groups (patients) are too few for {} sides of a split",
            members.len(),
            wanted.len()
        )));
    }
    let mut groups: Vec<Vec<usize>> = members.into_values().collect();
    groups.shuffle(&mut rng(seed, "groups"));
    let mut balance = Balance::new(set, &groups, shares);
    for group in 0..groups.len() {
        let side = balance.cheapest(group, &wanted);
        balance.put(group, side);
    }
    balance.fill_empty(&wanted);
    balance.improve(&wanted);
    let mut sides = vec![Vec::new(); shares.len()];
    for (cells, side) in groups.into_iter().zip(balance.side_of) {
        sides[side].extend(cells);
    }
    Ok(sides)
}

/// Class counts of sides as groups are put on them, against what their shares ask for. The cost of a state is the sum over
/// sides and classes of the squared difference, each class counted as 1 in all, and [`Balance::LACKING`] for each class that a
/// side has no cell of.
struct Balance {
    /// The share of the cells that each side asks for.
    shares: Vec<f64>,
    /// Cells of each class.
    totals: Vec<usize>,
    /// Cells of each class in each group.
    counts: Vec<Vec<usize>>,
    /// Cells of each class on each side.
    on_side: Vec<Vec<usize>>,
    side_of: Vec<usize>,
    groups_on: Vec<usize>,
}

impl Balance {
    const NOWHERE: usize = usize::MAX;
    /// More than any imbalance costs: a side without a class can neither be learnt from nor be judged by.
    const LACKING: f64 = 100.0;
    /// Passes of [`Balance::improve`]; it ends sooner where nothing helps.
    const PASSES: usize = 20;
    /// Beyond so many groups single moves balance well, and trying all pairs would take long.
    const SWAPPED: usize = 1000;

    fn new(set: &CellSet, groups: &[Vec<usize>], shares: &[f64]) -> Self {
        let totals = set.class_counts();
        let counts = groups.iter().map(|cells| {
            let mut counts = vec![0usize; totals.len()];
            for cell in cells {
                counts[set.labels[*cell] as usize] += 1;
            }
            counts
        });
        Self {
            shares: shares.to_vec(),
            counts: counts.collect(),
            on_side: vec![vec![0; totals.len()]; shares.len()],
            totals,
            side_of: vec![Self::NOWHERE; groups.len()],
            groups_on: vec![0; shares.len()],
        }
    }

    /// What a side costs as it stands.
    fn cost(&self, side: usize) -> f64 {
        let classes = self.on_side[side].iter().zip(&self.totals);
        let squares =
            classes.map(|(count, total)| (self.shares[side] - *count as f64 / (*total).max(1) as f64).powi(2));
        let lacking = self.on_side[side].iter().filter(|count| **count == 0).count();
        squares.sum::<f64>() + Self::LACKING * lacking as f64
    }

    /// What putting a group on a side adds to the cost.
    fn added(&mut self, group: usize, side: usize) -> f64 {
        let before = self.cost(side);
        self.put(group, side);
        let after = self.cost(side);
        self.take(group);
        after - before
    }

    fn cheapest(&mut self, group: usize, sides: &[usize]) -> usize {
        let costs: Vec<(f64, usize)> = sides.iter().map(|side| (self.added(group, *side), *side)).collect();
        costs.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |(_, side)| side)
    }

    fn put(&mut self, group: usize, side: usize) {
        for (count, more) in self.on_side[side].iter_mut().zip(&self.counts[group]) {
            *count += more;
        }
        self.groups_on[side] += 1;
        self.side_of[group] = side;
    }

    fn take(&mut self, group: usize) -> usize {
        let side = std::mem::replace(&mut self.side_of[group], Self::NOWHERE);
        for (count, less) in self.on_side[side].iter_mut().zip(&self.counts[group]) {
            *count -= less;
        }
        self.groups_on[side] -= 1;
        side
    }

    /// Gives each side that has none the group whose move costs least, from a side that has several.
    fn fill_empty(&mut self, sides: &[usize]) {
        while let Some(empty) = sides.iter().copied().find(|side| self.groups_on[*side] == 0) {
            let mut best: Option<(f64, usize)> = None;
            for group in 0..self.side_of.len() {
                let from = self.side_of[group];
                if self.groups_on[from] < 2 {
                    continue;
                }
                let before = self.cost(from);
                self.take(group);
                let cost = self.cost(from) - before + self.added(group, empty);
                self.put(group, from);
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, group));
                }
            }
            let Some((_, group)) = best else { return };
            self.take(group);
            self.put(group, empty);
        }
    }

    /// Moves single groups and exchanges pairs while that lowers the cost; no side loses its last group.
    fn improve(&mut self, sides: &[usize]) {
        for _ in 0..Self::PASSES {
            if !(self.move_groups(sides) | self.swap_groups()) {
                break;
            }
        }
    }

    fn move_groups(&mut self, sides: &[usize]) -> bool {
        let mut moved = false;
        for group in 0..self.side_of.len() {
            if self.groups_on[self.side_of[group]] < 2 {
                continue;
            }
            let from = self.take(group);
            let to = self.cheapest(group, sides);
            let better = self.added(group, to) < self.added(group, from) - Self::ROUNDING;
            self.put(group, if better { to } else { from });
            moved |= better;
        }
        moved
    }

    /// A change must be worth more than rounding, or two equal states would take turns for ever.
    const ROUNDING: f64 = 1e-12;

    fn swap_groups(&mut self) -> bool {
        let groups = self.side_of.len();
        if groups > Self::SWAPPED {
            return false;
        }
        let mut swapped = false;
        for a in 0..groups {
            for b in a + 1..groups {
                let (side_a, side_b) = (self.side_of[a], self.side_of[b]);
                if side_a == side_b {
                    continue;
                }
                let before = self.cost(side_a) + self.cost(side_b);
                self.exchange(a, b);
                if self.cost(side_a) + self.cost(side_b) < before - Self::ROUNDING {
                    swapped = true;
                } else {
                    self.exchange(a, b);
                }
            }
        }
        swapped
    }

    fn exchange(&mut self, a: usize, b: usize) {
        let (side_a, side_b) = (self.take(a), self.take(b));
        self.put(a, side_b);
        self.put(b, side_a);
    }
}

/// A generator for one purpose of one seed.
fn rng(seed: u64, purpose: &str) -> ChaCha12Rng {
    let mut hash = Sha256::new();
    hash.update(b"cellforge split\0");
    hash.update(seed.to_le_bytes());
    hash.update(purpose);
    ChaCha12Rng::from_seed(hash.finalize().into())
}

const COLUMNS: [&str; 4] = ["name", "class", "group", "split"];
const UNUSED: &str = "unused";

/// Writes a split as CSV with the columns name, class, group and split (train, val, test or unused), a line for each cell of
/// the set, under a temporary name that is then renamed.
///
/// # Errors
/// [`Error::Invalid`] if the split names a cell twice or one that is not there, or two cells share a name; [`Error::Io`].
pub fn write_manifest(path: &Path, set: &CellSet, split: &Split) -> Result<()> {
    let mut side_of = vec![UNUSED; set.len()];
    for (side, cells) in [("train", &split.train), ("val", &split.val), ("test", &split.test)] {
        for cell in cells {
            match side_of.get_mut(*cell) {
                Some(place) if *place == UNUSED => *place = side,
                Some(_) => return Err(Error::Invalid(format!("{} is in the split twice", set.names[*cell]))),
                None => {
                    return Err(Error::Invalid(format!("the split names cell {cell}, but there are {}", set.len())));
                }
            }
        }
    }
    places(set)?;
    let csv_io = |error: csv::Error| Error::io(path)(error.into());
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).map_err(csv_io)?;
    for (cell, side) in side_of.into_iter().enumerate() {
        let class = set.classes[set.labels[cell] as usize].as_str();
        let group = set.groups[cell].as_deref().unwrap_or_default();
        writer.write_record([set.names[cell].as_str(), class, group, side]).map_err(csv_io)?;
    }
    let bytes = writer.into_inner().map_err(|error| Error::io(path)(error.into_error()))?;
    write_atomic(path, &bytes)
}

/// Reads a manifest that [`write_manifest`] wrote and checks it against the cells.
///
/// # Errors
/// [`Error::Csv`], naming the line, for other columns, a name that is not in the set or is there twice, another class or group
/// than the set's, or an unknown side; for a cell of the set without a line; [`Error::Io`].
pub fn read_manifest(path: &Path, set: &CellSet) -> Result<Split> {
    let bad = |line: u64, reason: String| Error::Csv { path: path.to_path_buf(), line, reason };
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let places = places(set)?;
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let from_csv = |error: csv::Error| bad(error.position().map_or(0, csv::Position::line), error.to_string());
    if reader.headers().map_err(from_csv)? != COLUMNS.as_slice() {
        return Err(bad(1, format!("a split manifest begins with the line {}", COLUMNS.join(","))));
    }
    let mut split = Split::default();
    let mut seen = BTreeSet::new();
    for record in reader.records() {
        let record = record.map_err(from_csv)?;
        let line = record.position().map_or(0, csv::Position::line);
        let (name, class, group, side) = (&record[0], &record[1], &record[2], &record[3]);
        let cell = *places.get(name).ok_or_else(|| bad(line, format!("{name:?} is not among the cells")))?;
        let (own_class, own_group) = (&set.classes[set.labels[cell] as usize], set.groups[cell].as_deref());
        if class != own_class || group != own_group.unwrap_or_default() {
            return Err(bad(
                line,
                format!(
                    "{name:?} is in class {class:?} and group {group:?} here, but in {own_class:?} and {:?} among the cells",
                    own_group.unwrap_or_default()
                ),
            ));
        }
        if !seen.insert(cell) {
            return Err(bad(line, format!("{name:?} is there twice")));
        }
        match side {
            "train" => split.train.push(cell),
            "val" => split.val.push(cell),
            "test" => split.test.push(cell),
            UNUSED => {}
            _ => return Err(bad(line, format!("{side:?} is none of train, val, test and {UNUSED}"))),
        }
    }
    if let Some(cell) = (0..set.len()).find(|cell| !seen.contains(cell)) {
        return Err(bad(0, format!("{:?} has no line: the manifest is of other cells", set.names[cell])));
    }
    for side in [&mut split.train, &mut split.val, &mut split.test] {
        side.sort_unstable();
    }
    Ok(split)
}

/// Where each name is in the set.
fn places(set: &CellSet) -> Result<BTreeMap<&str, usize>> {
    let mut places = BTreeMap::new();
    for (cell, name) in set.names.iter().enumerate() {
        if places.insert(name.as_str(), cell).is_some() {
            return Err(Error::Invalid(format!("two cells are named {name:?}: a manifest needs names that differ")));
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apportioning_by_hand() {
        assert_eq!(apportion(10, &[0.7, 0.1, 0.2], 0), [7, 1, 2]);
        // 4.9, 0.7, 1.4: floors 4, 0, 1; the two left go to the remainders 0.9 and 0.7.
        assert_eq!(apportion(7, &[0.7, 0.1, 0.2], 0), [5, 1, 1]);
        // 2.7, 0.15, 0.15: both small sides still get one.
        assert_eq!(apportion(3, &[0.9, 0.05, 0.05], 0), [1, 1, 1]);
        assert_eq!(apportion(5, &[1.0, 0.0, 0.0], 2), [5, 0, 0]);
        // Four thirds: the one left over goes to the side asked for.
        assert_eq!(apportion(4, &[1.0 / 3.0; 3], 1), [1, 2, 1]);
    }
}
