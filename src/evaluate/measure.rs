//! One shard at a time: what a network predicts for each image, clean and under each attack.

use tch::{Device, Tensor};

use super::black_box::Finds;
use super::gallery::Gallery;
use super::pool::look;
use super::probe::Prober;
use super::{Audit, CLEAN, Example};
use crate::attack::{Attack, Goal, Model, integers, predict};
use crate::error::{Error, Result};
use crate::model::Classifier;
use crate::outcome::{ImageOutcome, Outcomes};
use crate::task::{Condition, Probe};

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

/// What is to be measured.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Every attack with its budget; [`CLEAN`] comes first.
    pub conditions: &'a [Condition],
    /// Random starts come from it and from the images' keys.
    pub seed: u64,
    /// How many broken images are kept as pictures, at most.
    pub examples: usize,
    /// What is tried for the checks' sake.
    pub probe: Option<Probe>,
    /// Other models that look at the adversarial images of the probe's budget, by name.
    pub others: &'a [(String, Classifier)],
}

impl Request<'_> {
    /// Whether other models are shown what comes of a condition.
    fn is_shown(&self, condition: &Condition) -> bool {
        condition.attack == CLEAN || self.probe.is_some_and(|probe| probe.epsilon == condition.epsilon)
    }
}

/// What was found on one shard.
#[derive(Debug)]
pub struct Measured {
    /// The prediction for each image under each condition.
    pub outcomes: Outcomes,
    /// What each of the other models predicts for the same adversarial images. An image that was not attacked,
    /// since the attacked model misclassifies it, is shown to them clean.
    pub transferred: Vec<(String, Outcomes)>,
    /// Images that an attack broke, at most as many as asked for.
    pub examples: Vec<Example>,
    /// Whether attacks and network behaved as they must.
    pub audit: Audit,
}

/// Measures `classifier` on the images of one shard. `progress` is told the images dealt with so far, several
/// times a batch.
///
/// Attacks take their batches from all images of the shard that they still have to break, so that batches stay
/// full: the largest that `batches` brings is their size.
pub fn shard(
    classifier: &Classifier,
    batches: &mut dyn Iterator<Item = Result<Batch>>,
    request: &Request,
    progress: &dyn Fn(u64),
) -> Result<Measured> {
    measure(&|images: &Tensor| classifier.logits(images), classifier.device(), batches, request, progress)
}

/// The same of any model on `device`.
pub(super) fn measure(
    model: &Model,
    device: Device,
    batches: &mut dyn Iterator<Item = Result<Batch>>,
    request: &Request,
    progress: &dyn Fn(u64),
) -> Result<Measured> {
    let attacks = attacks(request.conditions)?;
    let (clean, pool) = look(model, device, batches, request, progress)?;
    let mut audit = Audit::default();
    if !attacks.is_empty() {
        for part in pool.parts(&pool.all()) {
            audit.gradients(model, &part.images, &part.labels, &pool.logits.index_select(0, &part.places));
        }
    }
    let mut gallery = Gallery::new(request.examples, attacks.len());
    gallery.classes = clean.classes;
    let mut finds = Finds::new(pool.rows.len());
    let mut columns = vec![clean.predicted];
    let mut shown: Vec<Vec<Vec<i64>>> = clean.shown.iter().map(|column| vec![column.clone()]).collect();
    for (condition, attack) in request.conditions[1..].iter().zip(&attacks) {
        let mut column = columns[0].clone();
        let mut theirs = clean.shown.clone();
        let mut dealt = clean.keys.len() * columns.len();
        let mut standing = pool.all();
        for (stage, attack) in attack.stages().iter().enumerate() {
            let (mut left, mut fallen) = (Vec::new(), Vec::new());
            for part in pool.parts(&standing) {
                let goal = Goal::Away(&part.labels);
                let noise = part.noise(request.seed);
                let attempt = attack.attempt(model, &part.images, &goal, condition.epsilon.value(), &noise);
                audit.images(&attempt.adversarial, &part.images, attack, condition.epsilon.value());
                gallery.add(model, condition, &part.images, &part.labels, &attempt, &part.keys);
                part.put(&integers(&attempt.predicted), &mut column);
                for ((_, other), seen) in request.others.iter().zip(&mut theirs).filter(|_| request.is_shown(condition))
                {
                    part.put(&integers(&predict(&|x: &Tensor| other.logits(x), &attempt.adversarial)), seen);
                }
                let (broken, right) = part.outcome(&attempt);
                fallen.extend(broken);
                left.extend(right);
                dealt += if stage == 0 { part.rows.len() } else { 0 };
                progress((dealt / request.conditions.len()) as u64);
            }
            finds.note(attack, condition.epsilon, &fallen);
            standing = left;
        }
        columns.push(column);
        if request.is_shown(condition) {
            shown.iter_mut().zip(theirs).for_each(|(all, column)| all.push(column));
        }
    }
    audit.black_box = finds.counts();
    if let Some(probe) = request.probe {
        let prober = Prober { model, pool: &pool, request, probe, attacks: &attacks, columns: &columns };
        prober.survivors(&mut audit);
        prober.ends(&mut audit);
    }
    progress(clean.keys.len() as u64);
    let outcomes = |conditions: Vec<Condition>, columns: &[Vec<i64>]| Outcomes {
        conditions,
        images: (0..clean.keys.len())
            .map(|i| ImageOutcome {
                key: clean.keys[i].clone(),
                label: clean.labels[i] as usize,
                predicted: columns.iter().map(|column| column[i] as usize).collect(),
            })
            .collect(),
    };
    let crossed: Vec<Condition> = request.conditions.iter().filter(|c| request.is_shown(c)).cloned().collect();
    let theirs = request.others.iter().zip(&shown);
    let transferred = theirs.map(|((name, _), columns)| (name.clone(), outcomes(crossed.clone(), columns))).collect();
    let outcomes = outcomes(request.conditions.to_vec(), &columns);
    Ok(Measured { outcomes, transferred, examples: gallery.examples, audit })
}

/// The attack of each condition but the first, which is clean.
fn attacks(conditions: &[Condition]) -> Result<Vec<Attack>> {
    let (first, others) =
        conditions.split_first().ok_or_else(|| Error::internal("there is no condition to measure"))?;
    if first.attack != CLEAN {
        return Err(Error::internal(format!("the first condition is '{}' and not clean", first.attack)));
    }
    others.iter().map(|condition| condition.attack.parse()).collect()
}
