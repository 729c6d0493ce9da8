//! One shard at a time: what a network predicts for each image, clean and under each attack.

use tch::{Kind, Tensor};

use super::gallery::Gallery;
use super::{Audit, CLEAN, Example};
use crate::attack::{self, Goal, Noise, channels_last, integers, positions, select};
use crate::error::{Error, Result};
use crate::model::Classifier;
use crate::outcome::{ImageOutcome, Outcomes};
use crate::seed::Purpose;
use crate::task::Condition;

/// Images to be measured together.
#[derive(Debug)]
pub struct Batch {
    /// `[N, 3, H, W]`, f32 in `[0, 1]`.
    pub images: Tensor,
    /// `[N]`, i64.
    pub labels: Tensor,
    /// The key of each image.
    pub keys: Vec<String>,
}

/// What was found on one shard.
#[derive(Debug)]
pub struct Measured {
    /// The prediction for each image under each condition.
    pub outcomes: Outcomes,
    /// Images that an attack broke, at most as many as asked for.
    pub examples: Vec<Example>,
    /// Whether attacks and network behaved as they must.
    pub audit: Audit,
}

/// Measures `classifier` on the images of one shard under `conditions`, of which the first is
/// [`CLEAN`]. Random starts come from `seed` and the images' keys. At most `examples` broken images
/// are kept as pictures. `progress` is told the images dealt with so far, several times a batch.
pub fn shard(
    classifier: &Classifier,
    batches: &mut dyn Iterator<Item = Result<Batch>>,
    conditions: &[Condition],
    seed: u64,
    examples: usize,
    progress: &dyn Fn(u64),
) -> Result<Measured> {
    let attacks = attacks(conditions)?;
    let model = |images: &Tensor| classifier.logits(images);
    let mut measured = Measured {
        outcomes: Outcomes { conditions: conditions.to_vec(), images: Vec::new() },
        examples: Vec::new(),
        audit: Audit::default(),
    };
    let mut gallery = Gallery::new(examples, conditions.len() - 1);
    for batch in batches {
        let batch = batch?;
        let images = channels_last(&batch.images.to_device(classifier.device()));
        let labels = batch.labels.to_device(classifier.device());
        let logits = tch::no_grad(|| model(&images));
        let clean = logits.argmax(1, false);
        gallery.classes = logits.size()[1] as usize;

        // From here on only the images that the model gets right.
        let right = positions(&clean.eq_tensor(&labels));
        let keys = integers(&right).into_iter().map(|i| batch.keys[i as usize].as_str()).collect();
        let noise = Noise { seed, purpose: Purpose::Attack, round: 0, keys };
        let (images, labels) = (select(&images, &right), labels.index_select(0, &right));
        if attacks.len() > 1 && !noise.keys.is_empty() {
            measured.audit.gradients(&model, &images, &labels, &logits.index_select(0, &right));
        }

        let mut columns = vec![integers(&clean)];
        let before = measured.outcomes.images.len() as u64;
        for (condition, attack) in conditions.iter().zip(&attacks).skip(1) {
            let mut column = clean.copy();
            if let Some(attack) = attack
                && !noise.keys.is_empty()
            {
                let epsilon = condition.epsilon;
                let attempt = attack.attempt(&model, &images, &Goal::Away(&labels), epsilon.value(), &noise);
                let _ = column.index_copy_(0, &right, &attempt.predicted);
                measured.audit.images(&attempt.adversarial, &images, epsilon.value());
                gallery.add(&model, condition, &images, &labels, &attempt, &noise.keys);
            }
            columns.push(integers(&column));
            progress(before + (batch.keys.len() * columns.len() / conditions.len()) as u64);
        }
        let truth = integers(&batch.labels.to_kind(Kind::Int64));
        for (i, (key, label)) in batch.keys.into_iter().zip(truth).enumerate() {
            let predicted = columns.iter().map(|column| column[i] as usize).collect();
            measured.outcomes.images.push(ImageOutcome { key, label: label as usize, predicted });
        }
        progress(measured.outcomes.images.len() as u64);
    }
    measured.examples = gallery.examples;
    Ok(measured)
}

/// The attack of each condition; none for clean, which comes first and once.
fn attacks(conditions: &[Condition]) -> Result<Vec<Option<attack::Attack>>> {
    let (first, others) =
        conditions.split_first().ok_or_else(|| Error::internal("there is no condition to measure"))?;
    if first.attack != CLEAN {
        return Err(Error::internal(format!("the first condition is '{}' and not clean", first.attack)));
    }
    let attacks: Result<Vec<_>> = others.iter().map(|condition| condition.attack.parse().map(Some)).collect();
    Ok([None].into_iter().chain(attacks?).collect())
}
