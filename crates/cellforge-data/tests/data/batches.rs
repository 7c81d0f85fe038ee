//! Batches as training draws them: augmented, in order, ahead of time, the same at any thread count.

#![cfg(feature = "tensor")]

use candle_core::Device;
use cellforge_data::phantom::{self, PhantomConfig};
use cellforge_data::{Augment, Batch, Scale, View, balanced_draw, epoch_order, prefetch, replacement_draw};
use proptest::prelude::*;

fn images() -> View {
    phantom::render(&PhantomConfig { size: 32.into(), images_per_class: 20, patients: 6, seed: 3 }).unwrap()
}

fn values(batch: &Batch) -> Vec<f32> {
    batch.images.flatten_all().unwrap().to_vec1().unwrap()
}

/// Training over two epochs, its batches made ahead on a background thread.
fn two_epochs(set: &View, threads: usize) -> Vec<Vec<f32>> {
    let set = set.clone();
    let all: Vec<usize> = (0..set.len()).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let make = move |step: u64| {
        let (epoch, at) = (step / 5, step as usize % 5 * 8);
        let order = epoch_order(&all, 9, epoch);
        let augment = Augment::default();
        let batch = pool
            .install(|| Batch::gather(&set, &order[at..at + 8], Scale::Unit, Some((&augment, 9, epoch)), &Device::Cpu));
        batch.map(|batch| values(&batch))
    };
    prefetch(0..10, 3, make).collect::<cellforge_data::Result<_>>().unwrap()
}

#[test]
fn epochs_are_the_same_at_any_thread_count() {
    let set = images();
    let one = two_epochs(&set, 1);
    assert_eq!(one, two_epochs(&set, 4));
    assert_eq!(one.len(), 10);
    assert_ne!(one[0], one[5]);
}

#[test]
fn an_error_of_the_background_thread_comes_out_in_its_place() {
    let mut steps = prefetch(0..4, 2, |i| if i == 2 { Err(format!("step {i}")) } else { Ok(i) });
    assert_eq!(steps.next(), Some(Ok(0)));
    assert_eq!(steps.next(), Some(Ok(1)));
    assert_eq!(steps.next(), Some(Err("step 2".to_owned())));
    drop(steps);
}

#[test]
fn an_image_is_augmented_alike_in_any_batch() {
    let set = images();
    let augment = Augment::default();
    let gather = |indices: &[usize]| {
        values(&Batch::gather(&set, indices, Scale::SignedUnit, Some((&augment, 1, 7)), &Device::Cpu).unwrap())
    };
    let image = 3 * 32 * 32;
    assert_eq!(gather(&[5, 6, 7])[image..2 * image], gather(&[6])[..]);
    let empty = Batch::gather(&set, &[], Scale::Unit, None, &Device::Cpu).unwrap();
    assert_eq!(empty.images.dims(), [0, 3, 32, 32]);
}

#[test]
fn draws_with_replacement_reach_every_cell_evenly() {
    let from: Vec<usize> = (100..110).collect();
    let mut counts = [0; 10];
    for iteration in 0..1000 {
        for index in replacement_draw(&from, 4, iteration, 32) {
            counts[index - 100] += 1;
        }
    }
    // 32,000 draws: 3,200 each, with a standard deviation of 54.
    assert!(counts.iter().all(|count| (2930..3470).contains(count)), "{counts:?}");
}

/// Two classes of 2 and of 8 images: half of each batch is of the first, spread evenly over its images.
#[test]
fn balanced_draws_reach_every_class_alike() {
    let classes = [vec![3, 5], (100..108).collect()];
    let mut counts = [0; 108];
    for iteration in 0..1000 {
        for index in balanced_draw(&classes, 4, iteration, 32) {
            counts[index] += 1;
        }
    }
    // 16,000 draws of each class: 8,000 of either of two with a standard deviation of 63, 2,000 of each of eight with one of 42.
    assert!([3, 5].iter().all(|&i| (7690..8310).contains(&counts[i])), "{counts:?}");
    assert!(counts[100..].iter().all(|count| (1790..2210).contains(count)), "{counts:?}");
    assert_ne!(balanced_draw(&classes, 4, 0, 32), balanced_draw(&classes, 4, 1, 32));
    assert_ne!(balanced_draw(&classes, 4, 0, 32), balanced_draw(&classes, 5, 0, 32));
}

#[test]
#[should_panic(expected = "nothing to draw from")]
fn no_class_is_nothing_to_draw_from() {
    let _ = balanced_draw::<Vec<usize>>(&[], 1, 1, 4);
}

#[test]
#[should_panic(expected = "nothing to draw from")]
fn an_empty_class_is_nothing_to_draw_from() {
    let _ = balanced_draw(&[vec![1], vec![]], 1, 1, 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn balanced_draws_are_pure_and_give_each_class_its_share(
        sizes in prop::collection::vec(1usize..9, 1..5), seed: u64, iteration: u64, b in 0usize..64,
    ) {
        let classes: Vec<Vec<usize>> =
            sizes.iter().enumerate().map(|(class, &size)| (0..size).map(|i| class * 10 + i).collect()).collect();
        let draw = balanced_draw(&classes, seed, iteration, b);
        prop_assert_eq!(&draw, &balanced_draw(&classes, seed, iteration, b));
        prop_assert!(draw.iter().all(|&i| classes[i / 10].contains(&i)));
        for class in 0..sizes.len() {
            // The first classes get the remainder.
            let share = b / sizes.len() + usize::from(class < b % sizes.len());
            prop_assert_eq!(draw.iter().filter(|&&i| i / 10 == class).count(), share);
        }
    }

    #[test]
    fn augmentation_is_pure_and_keeps_to_the_values_it_finds(
        side in 1usize..20,
        channels in prop::sample::select(vec![1usize, 3]),
        seed: u64, epoch in 0u64..100, index in 0u64..10_000,
        low in 0u8..100, span in 0u8..100,
    ) {
        let image: Vec<u8> = (0..side * side * channels).map(|i| low + (i * 31 % (usize::from(span) + 1)) as u8).collect();
        let augment = Augment { rotation: 45.0, zoom: 0.3, shift: 0.2, shear: 10.0, horizontal_flip: true, vertical_flip: true };
        let out = augment.apply(&image, side, channels, seed, epoch, index);
        prop_assert_eq!(&out, &augment.apply(&image, side, channels, seed, epoch, index));
        prop_assert!(out.iter().all(|v| (low..=low + span).contains(v)));
        prop_assert_eq!(Augment::NONE.apply(&image, side, channels, seed, epoch, index), image);
    }

    #[test]
    fn draws_are_pure_and_stay_among_the_given(n in 1usize..50, seed: u64, iteration: u64, b in 0usize..64) {
        let from: Vec<usize> = (0..n).map(|i| i * 3).collect();
        let draw = replacement_draw(&from, seed, iteration, b);
        prop_assert_eq!(&draw, &replacement_draw(&from, seed, iteration, b));
        prop_assert_eq!(draw.len(), b);
        prop_assert!(draw.iter().all(|i| from.contains(i)));
    }
}
