//! What became of one photo: the JSON beside its adversarial picture.

use serde::{Deserialize, Serialize};

use crate::config::Epsilon;

/// A photo under attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The photo's path, as given or below the folder.
    pub image: String,
    /// The attack's name.
    pub attack: String,
    /// The images were made against another model (`attack.from`).
    #[serde(default)]
    pub transferred: bool,
    /// `linf`, `l2` or `l0`.
    pub norm: String,
    /// The seed of its random starts.
    pub seed: u64,
    /// Side of the pictures in pixels.
    pub size: u32,
    /// The photo was smaller than that and had to be enlarged.
    pub enlarged: bool,
    /// Its true class.
    pub label: Class,
    /// Who says so.
    pub labelled: Labelled,
    /// The class to reach.
    pub target: Option<Class>,
    /// What the model sees in the photo: its best five classes.
    pub clean: Vec<Guess>,
    /// What was done.
    pub state: State,
    /// What came out, for each budget.
    pub findings: Vec<Finding>,
}

/// A class of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Its place among the logits.
    pub index: usize,
    /// Its name.
    pub name: String,
}

/// Who says what a photo shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Labelled {
    /// Whoever gave the command.
    Given,
    /// The folder that it lies in.
    Folder,
    /// The model itself.
    Model,
}

/// What was done to a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was attacked.
    Attacked,
    /// The model is wrong about it already: not attacked, and not broken.
    Misclassified,
    /// The model sees the target in it already, or it is its true class: not attacked.
    Target,
}

/// A class and how sure the model is of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guess {
    /// The class's place among the logits.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Softmax, in `[0, 1]`.
    pub confidence: f64,
}

/// What came out at one budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The budget.
    pub epsilon: Epsilon,
    /// The image as the attack left it.
    pub float: Sight,
    /// The 8-bit picture.
    pub saved: Saved,
    /// How the picture fares on its way through the world.
    pub survival: Vec<Survival>,
}

/// What the model sees after the attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sight {
    /// The goal was reached.
    pub broken: bool,
    /// Its best five classes.
    pub top: Vec<Guess>,
    /// The largest change of a value, pixel scale.
    pub linf: f64,
    /// The Euclidean length of the change, pixel scale.
    pub l2: f64,
}

/// The picture that was written, decoded again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The goal was reached.
    pub broken: bool,
    /// The model's best five classes.
    pub top: Vec<Guess>,
    /// Whole levels that each value may move: ⌊255 ε⌋ in linf, 255 in other norms.
    pub ball: u8,
    /// The largest change of a value in levels.
    pub levels: u8,
    /// The Euclidean length of the change, pixel scale.
    pub l2: f64,
    /// Pixels that changed.
    pub pixels: usize,
    /// In decibels; none where nothing changed.
    pub psnr: Option<f64>,
    /// At most 1; none for pictures of less than 11 pixels a side.
    pub ssim: Option<f64>,
    /// File name of the picture.
    pub picture: String,
    /// File name of the picture that shows both and the difference.
    pub comparison: String,
}

/// One thing that happens to pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Survival {
    /// What happened.
    pub after: String,
    /// The adversarial picture still reaches the goal.
    pub broken: bool,
    /// What the model sees in it then.
    pub adversarial: Guess,
    /// What it sees in the original after the same.
    pub original: Guess,
}
