//! Searches for the nearest image of every unit.

use crate::{Features, Neighbour, Result, distances, distances::squared_distance, nearest, nearest_other};

use super::{
    near::{Close, List, Near, Two, WIDTH, sort},
    units::Units,
};

/// The two nearest training images of each query, in one orientation.
pub(crate) fn search_two(queries: Features, train: Features, orientation: usize) -> Result<Vec<Two>> {
    let found = nearest(queries, train, train.len().min(2))?;
    let close = |found: Vec<Neighbour>| {
        found.into_iter().map(|near| Close { image: near.index, distance: near.distance, orientation }).collect()
    };
    Ok(found.into_iter().map(close).collect())
}

/// What a search found for one query.
pub(crate) struct Found {
    pub(crate) list: List,
    /// The two nearest images and their distances, where they were asked for.
    two: Vec<(usize, f64)>,
}

impl Found {
    pub(crate) fn two(&self, orientation: usize) -> Two {
        self.two.iter().map(|&(image, distance)| Close { image, distance, orientation }).collect()
    }
}

/// The nearest image of each unit of `refs`, which are the real images from number `first` on. `same` says that the queries are the
/// references themselves, none of which is its own neighbour; `two` that the two nearest images are wanted.
pub(crate) fn search(
    queries: Features,
    refs: Features,
    first: usize,
    units: &Units,
    same: bool,
    two: bool,
) -> Result<Vec<Found>> {
    if units.patients {
        return search_patients(queries, refs, first, units, same, two);
    }
    let k = WIDTH.min(refs.len() - usize::from(same));
    let found = match (k, same) {
        (0, _) => vec![Vec::new(); queries.len()],
        (_, true) => nearest_other(refs, k)?,
        (_, false) => nearest(queries, refs, k)?,
    };
    let listed = |found: Vec<Neighbour>| Found {
        two: found.iter().take(2).map(|near| (first + near.index, near.distance)).collect(),
        list: found
            .into_iter()
            .map(|near| {
                let image = (first + near.index) as u32;
                Near { unit: units.of[first + near.index] as u32, image, distance: near.distance }
            })
            .collect(),
    };
    Ok(found.into_iter().map(listed).collect())
}

/// The state of one query while its references pass by; distances are squared.
struct State {
    /// Nearest image of each unit so far, and the bound that others must not exceed.
    best: Vec<(f64, u32)>,
    limits: Vec<f32>,
    /// The two nearest of all images, where they are asked for, and their bound.
    two: Vec<(usize, f64)>,
    two_limit: f32,
}

impl State {
    fn new(units: usize, two: bool) -> Self {
        Self {
            best: vec![(f64::INFINITY, u32::MAX); units],
            limits: vec![f32::INFINITY; units],
            two: Vec::new(),
            two_limit: if two { f32::INFINITY } else { f32::NEG_INFINITY },
        }
    }

    /// Whether an image with this lower bound can be left out; a bound that is NaN says nothing.
    fn rules_out(&self, unit: usize, lower: f32) -> bool {
        lower > self.limits[unit] && lower > self.two_limit
    }

    fn take(&mut self, unit: usize, image: usize, squared: f64, two: bool) {
        let best = self.best[unit];
        if squared < best.0 || squared == best.0 && (image as u32) < best.1 {
            self.best[unit] = (squared, image as u32);
            self.limits[unit] = distances::round_up(squared);
        }
        if two {
            let place = self.two.partition_point(|&(other, d)| d < squared || d == squared && other < image);
            self.two.insert(place, (image, squared));
            self.two.truncate(2);
            self.two_limit = self.two.get(1).map_or(f32::INFINITY, |last| distances::round_up(last.1));
        }
    }
}

fn search_patients(
    queries: Features,
    refs: Features,
    first: usize,
    units: &Units,
    same: bool,
    two: bool,
) -> Result<Vec<Found>> {
    let (from, count) = if first == 0 { (0, units.train) } else { (units.train, units.holdout) };
    let of: Vec<usize> = units.of[first..first + refs.len()].iter().map(|unit| unit - from).collect();
    let found = distances::scan(
        queries,
        refs,
        |_| State::new(count, two),
        |state: &mut State, query, begin, row| {
            let exact = |j: usize| squared_distance(queries.row(query), refs.row(begin + j));
            // The least bound of each run of images of one unit comes first: its distance rules out most of the others.
            let mut done = 0;
            while done < row.len() {
                let unit = of[begin + done];
                let run = done..(done..row.len()).find(|&j| of[begin + j] != unit).unwrap_or(row.len());
                done = run.end;
                let (mut least, mut at) = (f32::INFINITY, None);
                for j in run.clone().filter(|&j| !(same && begin + j == query)) {
                    let lower = row.lower(j);
                    if lower < least {
                        (least, at) = (lower, Some(j));
                    }
                }
                if let Some(j) = at.filter(|_| !state.rules_out(unit, least)) {
                    state.take(unit, first + begin + j, exact(j), two);
                }
                for j in run {
                    if !state.rules_out(unit, row.lower(j)) && Some(j) != at && !(same && begin + j == query) {
                        state.take(unit, first + begin + j, exact(j), two);
                    }
                }
            }
        },
    )?;
    let listed = |state: State| {
        let mut list: List = state
            .best
            .into_iter()
            .enumerate()
            .filter(|(_, (squared, _))| squared.is_finite())
            .map(|(unit, (squared, image))| Near { unit: (from + unit) as u32, image, distance: squared.sqrt() })
            .collect();
        sort(&mut list);
        list.truncate(WIDTH);
        Found { list, two: state.two.into_iter().map(|(image, squared)| (image, squared.sqrt())).collect() }
    };
    Ok(found.into_iter().map(listed).collect())
}
