//! The images of a shard that a model gets right, and full batches of them.

use tch::{Device, Kind, Tensor};

use super::{Batch, Request};
use crate::attack::{Attempt, Model, Noise, channels_last, integers, positions, predict, select};
use crate::error::{Error, Result};
use crate::seed::Purpose;

/// All images of a shard as they are, one entry for each.
#[derive(Default)]
pub(super) struct Clean {
    pub keys: Vec<String>,
    pub labels: Vec<i64>,
    pub predicted: Vec<i64>,
    /// What each of the other models predicts.
    pub shown: Vec<Vec<i64>>,
    pub classes: usize,
}

/// The images that the model gets right: those that are attacked.
pub(super) struct Pool {
    /// `[n, 3, H, W]`, on the model's device.
    images: Tensor,
    /// `[n]`.
    labels: Tensor,
    /// `[n, K]`, of the clean images.
    pub logits: Tensor,
    keys: Vec<String>,
    /// Their places in the shard.
    pub rows: Vec<usize>,
    /// Images in a full batch.
    batch: usize,
}

/// A batch of them.
pub(super) struct Part<'a> {
    /// Their places in the pool, `[n]`.
    pub places: Tensor,
    pub images: Tensor,
    pub labels: Tensor,
    pub keys: Vec<&'a str>,
    pub rows: Vec<usize>,
}

/// Reads all images and what the models say of them clean.
pub(super) fn look(
    model: &Model,
    device: Device,
    batches: &mut dyn Iterator<Item = Result<Batch>>,
    request: &Request,
    progress: &dyn Fn(u64),
) -> Result<(Clean, Pool)> {
    let mut clean = Clean { shown: vec![Vec::new(); request.others.len()], ..Clean::default() };
    let (mut images, mut labels, mut logits) = (Vec::new(), Vec::new(), Vec::new());
    let (mut keys, mut rows, mut size) = (Vec::new(), Vec::new(), 1);
    for batch in batches {
        let batch = batch?;
        let whole = channels_last(&batch.images.to_device(device));
        let truth = batch.labels.to_device(device);
        let found = tch::no_grad(|| model(&whole));
        let seen = found.argmax(1, false);
        let right = positions(&seen.eq_tensor(&truth));
        for i in integers(&right) {
            keys.push(batch.keys[i as usize].clone());
            rows.push(clean.keys.len() + i as usize);
        }
        images.push(select(&whole, &right));
        labels.push(truth.index_select(0, &right));
        logits.push(found.index_select(0, &right));
        size = size.max(batch.keys.len());
        for ((_, other), column) in request.others.iter().zip(&mut clean.shown) {
            column.extend(integers(&predict(&|x: &Tensor| other.logits(x), &whole)));
        }
        clean.classes = found.size()[1] as usize;
        clean.predicted.extend(integers(&seen));
        clean.labels.extend(integers(&batch.labels.to_kind(Kind::Int64)));
        clean.keys.extend(batch.keys);
        progress(0);
    }
    if images.is_empty() {
        return Err(Error::data("there is no image to measure"));
    }
    let pool = Pool {
        images: channels_last(&Tensor::cat(&images, 0)),
        labels: Tensor::cat(&labels, 0),
        logits: Tensor::cat(&logits, 0),
        keys,
        rows,
        batch: size,
    };
    Ok((clean, pool))
}

impl Pool {
    /// The places of all of them.
    pub fn all(&self) -> Vec<i64> {
        (0..self.keys.len() as i64).collect()
    }

    /// Those at `places`, in full batches.
    pub fn parts<'a>(&'a self, places: &[i64]) -> impl Iterator<Item = Part<'a>> {
        let places = places.to_vec();
        let count = places.len();
        (0..count).step_by(self.batch).map(move |first| {
            let chosen = &places[first..count.min(first + self.batch)];
            let at = Tensor::from_slice(chosen).to_device(self.images.device());
            Part {
                images: select(&self.images, &at),
                labels: self.labels.index_select(0, &at),
                places: at,
                keys: chosen.iter().map(|&i| self.keys[i as usize].as_str()).collect(),
                rows: chosen.iter().map(|&i| self.rows[i as usize]).collect(),
            }
        })
    }
}

impl Part<'_> {
    pub fn noise(&self, seed: u64) -> Noise<'_> {
        Noise { seed, purpose: Purpose::Attack, round: 0, keys: self.keys.clone() }
    }

    /// The places in the pool of those that an attack has broken, and of those that it has not.
    pub fn outcome(&self, attempt: &Attempt) -> (Vec<i64>, Vec<i64>) {
        let right = attempt.predicted.eq_tensor(&self.labels);
        let places = |mask: &Tensor| integers(&self.places.index_select(0, &positions(mask)));
        (places(&right.logical_not()), places(&right))
    }

    /// Writes one number for each of them to its place in the shard's `column`.
    pub fn put(&self, numbers: &[i64], column: &mut [i64]) {
        for (&row, &number) in self.rows.iter().zip(numbers) {
            column[row] = number;
        }
    }
}
