//! Whose images they are, and what a report must therefore tell about them.

use cellforge_assess::evaluation::{Notice, Provenance, Words};
use cellforge_data::View;

use crate::{Error, Result, config::DataConfig, is_nih, is_phantom};

/// The word for one image of the study's own data.
const CELL: &str = "cell";

/// Whose images they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The NIH/NLM malaria cells, the study's own data.
    Nih,
    /// The phantom, rendered by a program as a stand-in for them.
    Phantom,
    /// Any other images.
    Other,
}

impl Origin {
    /// Whose images these are, by their classes and the names of their files.
    #[must_use]
    pub fn of(images: &View) -> Self {
        if is_phantom(images) {
            Self::Phantom
        } else if is_nih(images) {
            Self::Nih
        } else {
            Self::Other
        }
    }

    /// Whether the figures that the study published may stand beside those of these images.
    #[must_use]
    pub fn is_of_study(self) -> bool {
        self != Self::Other
    }

    /// What the images are called: the noun of the settings, or, where that was left at its default, cells in the study's own data and its
    /// phantom.
    ///
    /// # Errors
    /// [`Error::Setting`] if the noun is empty or has more than two forms.
    pub fn words(self, data: &DataConfig) -> Result<Words> {
        let noun = if self.is_of_study() && data.noun == DataConfig::default().noun { CELL } else { &data.noun };
        let problem = "must be a word, or its singular and plural as one/many";
        Words::from_noun(noun).ok_or_else(|| Error::Setting { setting: "data.noun", problem: problem.to_owned() })
    }

    /// What must be read before any figure of an evaluation.
    #[must_use]
    pub fn notices(self) -> Vec<Notice> {
        if self != Self::Phantom {
            return Vec::new();
        }
        vec![Notice {
            title: "Phantom data, not patients.".to_owned(),
            sentence: "The real images of this run were drawn by a program. No figure here says anything about real blood images or about \
                       malaria."
                .to_owned(),
        }]
    }

    /// Licence and citation, where they are known.
    #[must_use]
    pub fn licence(self) -> Option<String> {
        match self {
            Self::Nih => Some(format!("{NIH_LICENCE} Please cite: {NIH_AUTHORS} {NIH_TITLE} PeerJ 6:e4568, 2018.")),
            Self::Phantom => Some("The phantom is made by this program, under the program's licence.".to_owned()),
            Self::Other => None,
        }
    }

    /// What an evaluation with these real images must tell about them. `command` repeats it.
    #[must_use]
    pub fn provenance(self, command: impl Into<String>) -> Provenance {
        Provenance {
            command: command.into(),
            notices: self.notices(),
            licence: self.licence(),
            drawn_by_program: self == Self::Phantom,
            ..Provenance::default()
        }
    }
}

/// The terms of the NIH cells.
pub(crate) const NIH_LICENCE: &str = "NIH/NLM malaria cell images, treated as U.S. government public-domain data; courtesy of the U.S. National \
                                      Library of Medicine.";

/// Whom to cite for them.
pub(crate) const NIH_AUTHORS: &str =
    "Rajaraman S, Antani SK, Poostchi M, Silamut K, Hossain MA, Maude RJ, Jaeger S, Thoma GR.";

/// The title of their paper.
pub(crate) const NIH_TITLE: &str = "Pre-trained convolutional neural networks as feature extractors toward improved malaria parasite detection in \
                                    thin blood smear images.";

#[cfg(test)]
mod tests {
    use super::*;
    use cellforge_data::ViewParts;

    fn named(names: [&str; 2], classes: [&str; 2]) -> View {
        View::new(ViewParts {
            classes: classes.map(str::to_owned).to_vec(),
            names: names.map(str::to_owned).to_vec(),
            labels: vec![0, 1],
            size: 1.into(),
            channels: 1,
            pixels: vec![0, 1],
            ..ViewParts::default()
        })
        .unwrap()
    }

    #[test]
    fn images_are_known_by_their_names() {
        let (malaria, nih) = (["Parasitized", "Uninfected"], ["C1P1_IMG_cell_1.png", "C2_IMG_cell_9.png"]);
        let phantom = ["C1P1ThinF_phantom_cell_1.png", "C2_IMG_cell_9.png"];
        assert_eq!(Origin::of(&named(nih, malaria)), Origin::Nih);
        assert_eq!(Origin::of(&named(phantom, malaria)), Origin::Phantom);
        assert_eq!(Origin::of(&named(nih, ["cat", "dog"])), Origin::Other);
    }

    #[test]
    fn only_the_study_calls_them_cells() {
        let mut data = DataConfig::default();
        let many = |origin: Origin, data: &DataConfig| origin.words(data).unwrap().many;
        assert_eq!(
            [Origin::Nih, Origin::Phantom, Origin::Other].map(|of| many(of, &data)),
            ["cells", "cells", "images"]
        );
        data.noun = "biopsy/biopsies".to_owned();
        assert_eq!([Origin::Nih, Origin::Other].map(|of| many(of, &data)), ["biopsies", "biopsies"]);
        data.noun = "a/".to_owned();
        assert!(Origin::Other.words(&data).unwrap_err().to_string().contains("data.noun"));
        let other = Origin::Other.provenance("again");
        assert_eq!((other.notices.len(), other.licence, other.drawn_by_program), (0, None, false));
    }
}
