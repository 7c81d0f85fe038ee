//! The nearest units of every image: all that the tests need of the features, so that relabelling patients recomputes no distance.

use crate::{Features, Result, nearest};

use super::{
    Space,
    search::{search, search_two},
    units::{Side, Units},
};

/// Longest list of units that is kept for an image. Each list is read from its front until a unit is on the wanted side, which is soon.
pub(crate) const WIDTH: usize = 64;

/// The image of one unit that is nearest to some image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Near {
    pub(crate) unit: u32,
    /// Number of the image among all real images, training first.
    pub(crate) image: u32,
    /// Euclidean.
    pub(crate) distance: f64,
}

/// A training image that is near to some image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Close {
    pub(crate) image: usize,
    pub(crate) distance: f64,
    /// Orientation in which the other image was nearest.
    pub(crate) orientation: usize,
}

/// The nearest image of each unit, nearest unit first; cut to [`WIDTH`].
pub(crate) type List = Vec<Near>;

/// The two nearest training images, fewer where there are fewer.
pub(crate) type Two = Vec<Close>;

/// What is near to what in one space.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Orientations of synthetic images that were searched.
    pub(crate) orientations: usize,
    /// Of each synthetic image as it is.
    pub(crate) synthetic: Vec<List>,
    /// Of each synthetic image in whichever orientation is nearest.
    pub(crate) turned: Vec<List>,
    /// Of each real image, itself left out.
    pub(crate) real: Vec<List>,
    /// Distance of each real image to the nearest synthetic image in any orientation.
    pub(crate) to_synthetic: Vec<f64>,
    /// Distance of each synthetic image to the nearest held-out image in any orientation.
    pub(crate) to_holdout: Vec<f64>,
    /// Training images near to each synthetic image as it is.
    pub(crate) synthetic_two: Vec<Two>,
    /// Training images near to each synthetic image in any orientation.
    pub(crate) turned_two: Vec<Two>,
    /// Training images near to each held-out image as it is.
    pub(crate) holdout_two: Vec<Two>,
    /// Training images near to each held-out image in any orientation, where the space has them.
    pub(crate) holdout_turned_two: Option<Vec<Two>>,
}

impl Table {
    /// Searches a space whose sets have been checked.
    pub(crate) fn new(space: &Space, units: &Units) -> Result<Self> {
        let (train, holdout, holdout_first) = (space.train, space.holdout[0], units.train_images);
        let mut to_synthetic = vec![f64::INFINITY; units.of.len()];
        let mut as_it_is = None;
        let mut nearest_turned: Option<Oriented> = None;
        for (orientation, &synthetic) in space.synthetic.iter().enumerate() {
            let found = Oriented::new(synthetic, orientation, space, units)?;
            let real = nearest(train, synthetic, 1)?.into_iter().chain(nearest(holdout, synthetic, 1)?);
            to_synthetic.iter_mut().zip(real).for_each(|(least, found)| *least = least.min(found[0].distance));
            if orientation == 0 {
                as_it_is = Some((found.lists.clone(), found.two.clone()));
            }
            nearest_turned = Some(match nearest_turned {
                None => found,
                Some(others) => others.nearest(found),
            });
        }
        let (synthetic, synthetic_two) = as_it_is.unwrap_or_default();
        let Oriented { lists: turned, two: turned_two, to_holdout } = nearest_turned.unwrap_or_default();

        let mut real = Vec::with_capacity(units.of.len());
        let (inside, across) =
            (search(train, train, 0, units, true, false)?, search(train, holdout, holdout_first, units, false, false)?);
        real.extend(inside.into_iter().zip(across).map(|(a, b)| merged([a.list, b.list])));
        let (across, inside) = (
            search(holdout, train, 0, units, false, true)?,
            search(holdout, holdout, holdout_first, units, true, false)?,
        );
        let holdout_two: Vec<Two> = across.iter().map(|found| found.two(0)).collect();
        real.extend(across.into_iter().zip(inside).map(|(a, b)| merged([a.list, b.list])));

        let mut holdout_turned_two = (space.holdout.len() > 1).then(|| holdout_two.clone());
        if let Some(all) = &mut holdout_turned_two {
            for (orientation, &holdout) in space.holdout.iter().enumerate().skip(1) {
                for (two, found) in all.iter_mut().zip(search_two(holdout, train, orientation)?) {
                    *two = two_of(std::mem::take(two).into_iter().chain(found));
                }
            }
        }
        Ok(Self {
            orientations: space.synthetic.len(),
            synthetic,
            turned,
            real,
            to_synthetic,
            to_holdout,
            synthetic_two,
            turned_two,
            holdout_two,
            holdout_turned_two,
        })
    }
}

/// What is near to synthetic images in one orientation, or in any of several.
#[derive(Default)]
struct Oriented {
    lists: Vec<List>,
    two: Vec<Two>,
    to_holdout: Vec<f64>,
}

impl Oriented {
    fn new(synthetic: Features, orientation: usize, space: &Space, units: &Units) -> Result<Self> {
        let to_train = search(synthetic, space.train, 0, units, false, true)?;
        let to_holdout = search(synthetic, space.holdout[0], units.train_images, units, false, false)?;
        Ok(Self {
            two: to_train.iter().map(|found| found.two(orientation)).collect(),
            to_holdout: to_holdout.iter().map(|found| found.list[0].distance).collect(),
            lists: to_train.into_iter().zip(to_holdout).map(|(a, b)| merged([a.list, b.list])).collect(),
        })
    }

    /// The nearer of both.
    fn nearest(self, other: Self) -> Self {
        Self {
            lists: self.lists.into_iter().zip(other.lists).map(|(a, b)| merged([a, b])).collect(),
            two: self.two.into_iter().zip(other.two).map(|(a, b)| two_of(a.into_iter().chain(b))).collect(),
            to_holdout: self.to_holdout.into_iter().zip(other.to_holdout).map(|(a, b)| a.min(b)).collect(),
        }
    }
}

/// The nearest image of a list whose unit is on the side. `None` where the list ends before.
pub(crate) fn first_on<'a>(list: &'a [Near], sides: &[Side], side: Side) -> Option<&'a Near> {
    list.iter().find(|near| sides[near.unit as usize] == side)
}

/// The distance to the nearest image on the side. Where the list was cut before such an image, that of its last image, which is no
/// further; infinite where there is no image.
pub(crate) fn distance_to(list: &[Near], sides: &[Side], side: Side) -> f64 {
    first_on(list, sides, side).or(list.last()).map_or(f64::INFINITY, |near| near.distance)
}

/// Joins lists: the nearest image of each unit in any of them.
fn merged<const N: usize>(lists: [List; N]) -> List {
    let mut all: List = lists.into_iter().flatten().collect();
    sort(&mut all);
    let mut kept: List = Vec::with_capacity(all.len().min(WIDTH));
    for near in all {
        if kept.len() == WIDTH {
            break;
        }
        if kept.iter().all(|other| other.unit != near.unit) {
            kept.push(near);
        }
    }
    kept
}

/// The list of an image that is itself among the real images, from the list in which it is left out.
pub(crate) fn with_own(list: &List, own: Near) -> List {
    merged([vec![own], list.clone()])
}

/// Nearest first; of images equally far, those with lower numbers.
pub(crate) fn sort(list: &mut [Near]) {
    list.sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance).then(a.image.cmp(&b.image)));
}

/// The two nearest of some training images, each image counted once.
fn two_of(images: impl Iterator<Item = Close>) -> Two {
    let mut all: Two = images.collect();
    all.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.image.cmp(&b.image)));
    let mut kept: Two = Vec::with_capacity(2);
    for close in all {
        if kept.len() < 2 && kept.iter().all(|other| other.image != close.image) {
            kept.push(close);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// On a line: training images of a at 0 and 10 and of b at 1, held-out images of x at 4 and of y at 20; synthetic at 1 and 11, and
    /// turned round (minus) at -1 and -11.
    fn table(patients: bool) -> Table {
        let (train, holdout) = ([0.0, 10.0, 1.0], [4.0, 20.0]);
        let (synthetic, turned) = ([1.0, 11.0], [-1.0, -11.0]);
        let features = |values| Features::new(values, 1).unwrap();
        let space = Space {
            name: "line".to_owned(),
            train: features(&train),
            holdout: vec![features(&holdout)],
            synthetic: vec![features(&synthetic), features(&turned)],
        };
        let (a, b) = (names(&["a", "a", "b"]), names(&["x", "y"]));
        let units = Units::new(&[0; 3], &[0; 2], patients.then_some(&a), patients.then_some(&b)).unwrap();
        Table::new(&space, &units).unwrap()
    }

    fn short(list: &[Near]) -> Vec<(u32, u32, f64)> {
        list.iter().map(|near| (near.unit, near.image, near.distance)).collect()
    }

    #[test]
    fn nearest_patients_by_hand() {
        let table = table(true);
        // Units: a 0, b 1, x 2, y 3; images: a 0, a 1, b 2, x 3, y 4.
        assert_eq!(short(&table.synthetic[0]), [(1, 2, 0.0), (0, 0, 1.0), (2, 3, 3.0), (3, 4, 19.0)]);
        assert_eq!(short(&table.synthetic[1]), [(0, 1, 1.0), (2, 3, 7.0), (3, 4, 9.0), (1, 2, 10.0)]);
        // Turned round, -11 is nearer to none.
        assert_eq!(short(&table.turned[1]), short(&table.synthetic[1]));
        // The image of a at 0 has the other image of a at 10; the only image of b has none of its own.
        assert_eq!(short(&table.real[0]), [(1, 2, 1.0), (2, 3, 4.0), (0, 1, 10.0), (3, 4, 20.0)]);
        assert_eq!(short(&table.real[2]), [(0, 0, 1.0), (2, 3, 3.0), (3, 4, 19.0)]);
        assert_eq!(short(&table.real[4]), [(0, 1, 10.0), (2, 3, 16.0), (1, 2, 19.0)]);
        // The image at 0 is as near to 1 as to -1.
        assert_eq!(table.to_synthetic, [1.0, 1.0, 0.0, 3.0, 9.0]);
        assert_eq!(table.to_holdout, [3.0, 7.0]);
        let two = |two: &Two| two.iter().map(|c| (c.image, c.distance, c.orientation)).collect::<Vec<_>>();
        assert_eq!(two(&table.synthetic_two[0]), [(2, 0.0, 0), (0, 1.0, 0)]);
        assert_eq!(two(&table.synthetic_two[1]), [(1, 1.0, 0), (2, 10.0, 0)]);
        assert_eq!(two(&table.turned_two[0]), [(2, 0.0, 0), (0, 1.0, 0)]);
        assert_eq!(two(&table.holdout_two[0]), [(2, 3.0, 0), (0, 4.0, 0)]);
        assert_eq!(table.holdout_turned_two, None);
    }

    #[test]
    fn sides_are_looked_up_in_lists() {
        let table = table(true);
        use Side::{Holdout, Out, Train};
        assert_eq!(distance_to(&table.synthetic[1], &[Train, Train, Holdout, Holdout], Train), 1.0);
        assert_eq!(distance_to(&table.synthetic[1], &[Holdout, Train, Out, Holdout], Train), 10.0);
        assert_eq!(first_on(&table.synthetic[1], &[Out, Out, Out, Holdout], Train), None);
    }

    #[test]
    fn without_patients_every_image_is_a_unit() {
        let table = table(false);
        assert_eq!(short(&table.real[0]), [(2, 2, 1.0), (3, 3, 4.0), (1, 1, 10.0), (4, 4, 20.0)]);
        assert_eq!(table.to_synthetic, [1.0, 1.0, 0.0, 3.0, 9.0]);
        assert_eq!(table.synthetic_two[1].iter().map(|c| c.image).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_nearest_image_of_each_patient_is_the_one_a_plain_search_finds() {
        // 300 training and 900 held-out images of 7 and 11 patients in 5 dimensions, from a small generator of whole numbers with ties.
        let numbers = |n: usize, seed: u64| {
            let mut state = seed;
            (0..n)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    ((state >> 33) % 9) as f32
                })
                .collect::<Vec<_>>()
        };
        let (train, holdout, synthetic) = (numbers(1500, 1), numbers(4500, 2), numbers(500, 3));
        let features = |values| Features::new(values, 5).unwrap();
        let group = |i: usize, n: usize| format!("{}", (i * i + i / 3) % n);
        let a: Vec<String> = (0..300).map(|i| format!("a{}", group(i, 7))).collect();
        let b: Vec<String> = (0..900).map(|i| format!("b{}", group(i, 11))).collect();
        let units = Units::new(&[0; 300], &[0; 900], Some(&a), Some(&b)).unwrap();
        let space = Space {
            name: "plain".to_owned(),
            train: features(&train),
            holdout: vec![features(&holdout)],
            synthetic: vec![features(&synthetic)],
        };
        let table = Table::new(&space, &units).unwrap();
        let real = |i: usize| if i < 300 { space.train.row(i) } else { space.holdout[0].row(i - 300) };
        let plain = |query: &[f32], skip: usize| {
            let mut best = vec![(f64::INFINITY, usize::MAX); units.len()];
            for i in (0..1200).filter(|&i| i != skip) {
                let squared: f64 = query.iter().zip(real(i)).map(|(a, b)| f64::from(a - b).powi(2)).sum();
                if squared < best[units.of[i]].0 {
                    best[units.of[i]] = (squared, i);
                }
            }
            let mut all: Vec<_> = best
                .into_iter()
                .enumerate()
                .filter(|(_, (squared, _))| squared.is_finite())
                .map(|(unit, (squared, image))| (unit as u32, image as u32, squared.sqrt()))
                .collect();
            all.sort_by(|a, b| a.2.total_cmp(&b.2).then(a.1.cmp(&b.1)));
            all
        };
        for i in 0..100 {
            assert_eq!(short(&table.synthetic[i]), plain(space.synthetic[0].row(i), usize::MAX));
        }
        for i in 0..1200 {
            assert_eq!(short(&table.real[i]), plain(real(i), i));
        }
    }
}
