//! Choosing images of a view.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Classes, View};
use crate::names::folder_name;
use crate::{Error, Result};

/// Narrowing a view. No pixel is copied.
impl View {
    /// The images at these positions, in this order. A position may be named twice.
    ///
    /// # Panics
    /// If a position names no image.
    #[must_use]
    pub fn part(&self, positions: &[usize]) -> Self {
        let rows = positions
            .iter()
            .map(|&i| {
                assert!(i < self.len(), "position {i} is past the end of {} images", self.len());
                self.row(i)
            })
            .collect();
        Self { rows: Some(rows), ..self.clone() }
    }

    /// The first `n` images, or all where there are fewer.
    #[must_use]
    pub fn first(&self, n: usize) -> Self {
        if n >= self.len() {
            return self.clone();
        }
        self.part(&(0..n).collect::<Vec<_>>())
    }

    /// The images of class number `class` alone, in order. That class is the only one of the new view, and its label is 0: a GAN that is
    /// trained on it is a GAN of this class.
    ///
    /// # Panics
    /// If there is no such class.
    #[must_use]
    pub fn class(&self, class: u32) -> Self {
        let names = vec![self.classes()[class as usize].clone()];
        let classes = Classes { names, labels: vec![0; self.set.classes.len()] };
        Self { classes: Some(Arc::new(classes)), ..self.part(&self.class_indices(class)) }
    }

    /// The same images under other class names: each of its classes is the one of `classes` with its name, or whose folder
    /// ([`folder_name`]) has its name. Labels are then indices into `classes`. A class without an image need not be among them.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] naming a class that has images here and is not among `classes`.
    pub fn relabelled(&self, classes: &[String]) -> Result<Self> {
        let counts = self.class_counts();
        let known = |class: &String| classes.iter().position(|name| name == class || folder_name(name) == *class);
        let found: Vec<Option<u32>> = self.classes().iter().map(|name| known(name).map(|at| at as u32)).collect();
        if let Some(at) = (0..found.len()).find(|&at| found[at].is_none() && counts[at] > 0) {
            return Err(Error::UnknownClass { class: self.classes()[at].clone(), known: classes.to_vec() });
        }
        let new = |stored: usize| found.get(self.label_of(stored as u32) as usize).copied().flatten().unwrap_or(0);
        let labels = (0..self.set.classes.len()).map(new).collect();
        Ok(Self { classes: Some(Arc::new(Classes { names: classes.to_vec(), labels })), ..self.clone() })
    }

    /// All images of the stored set, under the classes that it has.
    #[must_use]
    pub fn whole(&self) -> Self {
        Self { set: self.set.clone(), rows: None, classes: None }
    }

    /// The place in the stored set of image `i`.
    ///
    /// # Panics
    /// If there is no such image.
    #[must_use]
    pub fn row(&self, i: usize) -> usize {
        match &self.rows {
            Some(rows) => rows[i],
            None => {
                assert!(i < self.set.names.len(), "position {i} is past the end of {} images", self.set.names.len());
                i
            }
        }
    }

    /// The places of all its images, in order.
    #[must_use]
    pub fn rows(&self) -> Vec<usize> {
        self.rows.as_ref().map_or_else(|| (0..self.set.names.len()).collect(), |rows| rows.to_vec())
    }

    /// Whether the two are views of one stored set.
    #[must_use]
    pub fn shares_set(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.set, &other.set)
    }

    /// The first position of an image that the other view has as well: one stored set, and the same row.
    #[must_use]
    pub fn first_shared(&self, other: &Self) -> Option<usize> {
        if !self.shares_set(other) {
            return None;
        }
        let rows: BTreeSet<usize> = other.rows().into_iter().collect();
        (0..self.len()).find(|&i| rows.contains(&self.row(i)))
    }
}
