//! What can be wrong with the arrays handed in.

/// Why a figure could not be computed; each message says which value is at fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to judge.
    #[error("{what} is empty: there is nothing to judge")]
    Empty {
        /// Name of the empty array.
        what: &'static str,
    },
    /// Two arrays that belong together differ in length.
    #[error("{what} has {found} entries where there are {expected} images; give one per image")]
    Length {
        /// Name of the array.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length it should have.
        expected: usize,
    },
    /// Too few images or units (patients, or images) to calibrate anything by.
    #[error("{}", too_few(*images, *units, *least))]
    TooFew {
        /// Images there are.
        images: usize,
        /// Patients, or images where patients are not known.
        units: usize,
        /// The least of both.
        least: (usize, usize),
    },
    /// A label names no class.
    #[error("label {label} of image {index} is not below the number of classes, {classes}")]
    Label {
        /// Position of the label.
        index: usize,
        /// The label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A row of probabilities does not have one entry per class.
    #[error("image {index} has {found} probabilities, and there are {classes} classes; give one per class")]
    Columns {
        /// Position of the row.
        index: usize,
        /// Its length.
        found: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A probability or score is NaN or infinite.
    #[error("the score of image {index} is {value}; scores must be finite (has the network diverged?)")]
    NotFinite {
        /// Position of the image.
        index: usize,
        /// The score.
        value: f64,
    },
    /// Features that are not whole rows.
    #[error("{values} features do not make whole rows of {dims} dimensions; give dimensions times images")]
    Dims {
        /// Number of values.
        values: usize,
        /// Numbers per row.
        dims: usize,
    },
    /// Two sets of features that cannot be compared.
    #[error("one set has features of {left} dimensions and the other of {right}; take both from the same network")]
    DimsDiffer {
        /// Dimensions of the first set.
        left: usize,
        /// Dimensions of the second set.
        right: usize,
    },
    /// A feature is NaN or infinite.
    #[error("feature {col} of image {row} is {value}; features must be finite (has the network diverged?)")]
    NotFiniteFeature {
        /// Position of the image.
        row: usize,
        /// Position of the feature in its row.
        col: usize,
        /// The feature.
        value: f32,
    },
    /// Too few images to have as many neighbours as asked for.
    #[error(
        "{k} nearest neighbours of each image need at least {needed} images, and there are {rows}; k must be at least 1"
    )]
    Neighbours {
        /// Neighbours asked for.
        k: usize,
        /// Images needed.
        needed: usize,
        /// Images there are.
        rows: usize,
    },
    /// Too few images for a figure.
    #[error("{figure} needs at least {needed} images of each set, and one has {rows}")]
    Images {
        /// Name of the figure.
        figure: &'static str,
        /// Images needed.
        needed: usize,
        /// Images there are.
        rows: usize,
    },
    /// Too few images or groups to make two halves of.
    #[error("{units} {what} cannot be put into two halves; it takes at least 2")]
    Halves {
        /// Number of images or groups.
        units: usize,
        /// What was to be divided.
        what: &'static str,
    },
    /// Singular values could not be found. Not known to happen for finite features.
    #[error(
        "the singular values of the product of two covariances did not converge; are some features extremely large?"
    )]
    NotConverged,
    /// A number of a group that is not below the number of groups.
    #[error("group {group} of image {index} is not below the number of groups, {groups}")]
    Group {
        /// Position of the image.
        index: usize,
        /// Its group.
        group: usize,
        /// Number of groups.
        groups: usize,
    },
    /// The area under the ROC curve needs images of the class and others.
    #[error(
        "the area under the ROC curve is not defined: {positives} of {total} images are of the class; it needs some of both kinds"
    )]
    OneClass {
        /// Images of the class.
        positives: usize,
        /// Images in all.
        total: usize,
    },
    /// An answer of a rater that is no level.
    #[error("the answer for image {index} is {value}: it must lie between 1 and {levels}")]
    Rating {
        /// Position of the image.
        index: usize,
        /// The answer.
        value: u8,
        /// The highest answer.
        levels: u8,
    },
    /// Subjects that were not rated by as many raters as others, or by a single one.
    #[error("subject {subject} has {found} ratings and not {expected}; each needs as many, and at least 2")]
    Raters {
        /// Position of the subject.
        subject: usize,
        /// Its ratings.
        found: u32,
        /// The ratings that it should have.
        expected: u32,
    },
    /// No trainings to judge, or two ways of training that were not repeated equally often.
    #[error("{with} trainings against {without}: give the predictions of one or more, and of as many for both ways")]
    Seeds {
        /// Trainings of the one way.
        with: usize,
        /// Trainings of the other.
        without: usize,
    },
    /// A p-value that is none.
    #[error("p-value {index} is {value}: it must lie between 0 and 1")]
    PValue {
        /// Its position.
        index: usize,
        /// The value.
        value: f64,
    },
    /// More successes than trials.
    #[error("{successes} successes in {total} trials: the total must be above 0 and not below the successes")]
    Counts {
        /// Successes.
        successes: u64,
        /// Trials.
        total: u64,
    },
    /// A patient whose images are in training and in the holdout.
    #[error("patient {group} is in the training set and in the holdout; hold out all images of a patient or none")]
    BothSides {
        /// The patient.
        group: String,
    },
    /// Two spaces of one name.
    #[error("there are two spaces named {name}; give each its own name")]
    SpaceTwice {
        /// The name.
        name: String,
    },
    /// Orientations of held-out and synthetic images that do not belong together.
    #[error(
        "space {space} has synthetic images in {synthetic} orientations and held-out images in {holdout}; give at least one of both, \
         and held-out images in one orientation or in as many"
    )]
    Orientations {
        /// Name of the space.
        space: String,
        /// Orientations of held-out images.
        holdout: usize,
        /// Orientations of synthetic images.
        synthetic: usize,
    },
    /// A set that differs in size from what belongs to it.
    #[error(
        "{what} has {found} images and not {expected}; all that is given of a set must have the same images in the same order"
    )]
    SetSize {
        /// Name of the set.
        what: &'static str,
        /// Its images.
        found: usize,
        /// The images it should have.
        expected: usize,
    },
    /// Too few labellings for a p-value.
    #[error("{0} labellings are too few for a p-value; use at least 20, better 2000")]
    Relabellings(usize),
    /// A false positive rate outside (0, 1).
    #[error("the false positive rate {0} must lie between 0 and 1, for example 0.01")]
    Fpr(f64),
    /// A share outside (0, 1].
    #[error("the share of units to guess about, {0}, must lie above 0 and be at most 1, for example 0.3")]
    Share(f64),
    /// An epsilon or a delta that no differential privacy has.
    #[error("epsilon {epsilon} must be finite and not below 0, and delta {delta} must lie between 0 and 1")]
    Delta {
        /// The epsilon.
        epsilon: f64,
        /// The delta.
        delta: f64,
    },
    /// A coverage outside (0, 1).
    #[error("the interval level {0} must lie between 0 and 1, for example 0.95")]
    Level(f64),
    /// Too few bootstrap resamples for an interval.
    #[error("{0} bootstrap resamples are too few for an interval; use at least 20, better 1000")]
    Resamples(usize),
}

/// The result of computing a figure.
pub type Result<T> = std::result::Result<T, Error>;

/// Where each image is a unit of its own, no patients are known.
fn too_few(images: usize, units: usize, least: (usize, usize)) -> String {
    let [of_units, of_least] = [units, least.1].map(|units| format!(" of {units} patients"));
    let [of_units, of_least] = if units == images { [String::new(), String::new()] } else { [of_units, of_least] };
    format!(
        "{images} images{of_units} are too few to tell copies from chance by; it takes {} images{of_least}",
        least.0
    )
}
