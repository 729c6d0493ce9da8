//! One shard at a time: what a network predicts for each image, clean and under each attack.

use tch::{Kind, Tensor};

use super::gallery::Gallery;
use super::{Audit, CLEAN, Example};
use crate::attack::{Attack, Attempt, Goal, Model, Noise, channels_last, integers, positions, predict, select};
use crate::error::{Error, Result};
use crate::model::Classifier;
use crate::outcome::{ImageOutcome, Outcomes};
use crate::seed::Purpose;
use crate::task::{Condition, Probe};

/// Asks for scores alone; short, since a sound evaluation has left it next to nothing to find.
const BLACK_BOX: Attack = Attack::Square { queries: 100 };

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
    let attacks = attacks(request.conditions)?;
    let model = |images: &Tensor| classifier.logits(images);
    let (clean, pool) = look(classifier, batches, request, progress)?;
    let mut audit = Audit::default();
    if !attacks.is_empty() {
        for part in pool.parts(&pool.all()) {
            audit.gradients(&model, &part.images, &part.labels, &pool.logits.index_select(0, &part.places));
        }
    }
    let mut gallery = Gallery::new(request.examples, attacks.len());
    gallery.classes = clean.classes;
    let mut columns = vec![clean.predicted];
    let mut shown: Vec<Vec<Vec<i64>>> = clean.shown.iter().map(|column| vec![column.clone()]).collect();
    for (condition, attack) in request.conditions[1..].iter().zip(&attacks) {
        let mut column = columns[0].clone();
        let mut theirs = clean.shown.clone();
        let mut dealt = clean.keys.len() * columns.len();
        let mut standing = pool.all();
        for (stage, attack) in attack.stages().iter().enumerate() {
            let mut left = Vec::new();
            for part in pool.parts(&standing) {
                let goal = Goal::Away(&part.labels);
                let noise = part.noise(request.seed);
                let attempt = attack.attempt(&model, &part.images, &goal, condition.epsilon.value(), &noise);
                audit.images(&attempt.adversarial, &part.images, condition.epsilon.value());
                gallery.add(&model, condition, &part.images, &part.labels, &attempt, &part.keys);
                part.put(&integers(&attempt.predicted), &mut column);
                for ((_, other), seen) in request.others.iter().zip(&mut theirs).filter(|_| request.is_shown(condition))
                {
                    part.put(&integers(&predict(&|x: &Tensor| other.logits(x), &attempt.adversarial)), seen);
                }
                left.extend(part.standing(&attempt));
                dealt += if stage == 0 { part.rows.len() } else { 0 };
                progress((dealt / request.conditions.len()) as u64);
            }
            standing = left;
        }
        columns.push(column);
        if request.is_shown(condition) {
            shown.iter_mut().zip(theirs).for_each(|(all, column)| all.push(column));
        }
    }
    if let Some(probe) = request.probe {
        pool.probe(&model, &probe, request, &attacks, &columns, &mut audit);
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

/// All images of a shard as they are, one entry for each.
#[derive(Default)]
struct Clean {
    keys: Vec<String>,
    labels: Vec<i64>,
    predicted: Vec<i64>,
    /// What each of the other models predicts.
    shown: Vec<Vec<i64>>,
    classes: usize,
}

/// The images that the model gets right: those that are attacked.
struct Pool {
    /// `[n, 3, H, W]`, on the model's device.
    images: Tensor,
    /// `[n]`.
    labels: Tensor,
    /// `[n, K]`, of the clean images.
    logits: Tensor,
    keys: Vec<String>,
    /// Their places in the shard.
    rows: Vec<usize>,
    /// Images in a full batch.
    batch: usize,
}

/// A batch of them.
struct Part<'a> {
    /// Their places in the pool, `[n]`.
    places: Tensor,
    images: Tensor,
    labels: Tensor,
    keys: Vec<&'a str>,
    rows: Vec<usize>,
}

/// Reads all images and what the models say of them clean.
fn look(
    classifier: &Classifier,
    batches: &mut dyn Iterator<Item = Result<Batch>>,
    request: &Request,
    progress: &dyn Fn(u64),
) -> Result<(Clean, Pool)> {
    let mut clean = Clean { shown: vec![Vec::new(); request.others.len()], ..Clean::default() };
    let (mut images, mut labels, mut logits) = (Vec::new(), Vec::new(), Vec::new());
    let (mut keys, mut rows, mut size) = (Vec::new(), Vec::new(), 1);
    for batch in batches {
        let batch = batch?;
        let whole = channels_last(&batch.images.to_device(classifier.device()));
        let truth = batch.labels.to_device(classifier.device());
        let found = tch::no_grad(|| classifier.logits(&whole));
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
    fn all(&self) -> Vec<i64> {
        (0..self.keys.len() as i64).collect()
    }

    /// Those at `places`, in full batches.
    fn parts<'a>(&'a self, places: &[i64]) -> impl Iterator<Item = Part<'a>> {
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

    /// Tries noise, twice the steps and a black-box attack on images that no attack of at most the probe's budget
    /// broke: a sound evaluation has left them next to nothing to find.
    fn probe(
        &self,
        model: &Model,
        probe: &Probe,
        request: &Request,
        attacks: &[Attack],
        columns: &[Vec<i64>],
        audit: &mut Audit,
    ) {
        let within = |c: &Condition| c.epsilon.value() <= probe.epsilon.value() + 1e-9;
        let of_budget = request.conditions[1..].iter().zip(attacks).filter(|(c, _)| c.epsilon == probe.epsilon);
        let Some(twice) = of_budget.filter_map(|(_, attack)| attack.with_twice_the_steps()).next_back() else { return };
        let counted: Vec<&Vec<i64>> =
            request.conditions.iter().zip(columns).filter(|(c, _)| within(c)).map(|(_, column)| column).collect();
        let stands = |&place: &i64| {
            let row = self.rows[place as usize];
            counted.iter().all(|column| column[row] == counted[0][row])
        };
        let standing: Vec<i64> = self.all().into_iter().filter(stands).collect();
        audit.stood += standing.len() as u64;
        for part in self.parts(&standing[..standing.len().min(probe.images)]) {
            let fell = |attack: Attack| {
                let (goal, noise) = (Goal::Away(&part.labels), part.noise(request.seed));
                let attempt = attack.attempt(model, &part.images, &goal, probe.epsilon.value(), &noise);
                (part.rows.len() - part.standing(&attempt).len()) as u64
            };
            audit.probed += part.rows.len() as u64;
            audit.fell_to_noise += fell(Attack::RANDOM_SIGN);
            audit.fell_to_steps += fell(twice);
            audit.fell_to_queries += fell(BLACK_BOX);
        }
    }
}

impl Part<'_> {
    fn noise(&self, seed: u64) -> Noise<'_> {
        Noise { seed, purpose: Purpose::Attack, round: 0, keys: self.keys.clone() }
    }

    /// The places in the pool of those that an attack has not broken.
    fn standing(&self, attempt: &Attempt) -> Vec<i64> {
        integers(&self.places.index_select(0, &positions(&attempt.predicted.eq_tensor(&self.labels))))
    }

    /// Writes one number for each of them to its place in the shard's `column`.
    fn put(&self, numbers: &[i64], column: &mut [i64]) {
        for (&row, &number) in self.rows.iter().zip(numbers) {
            column[row] = number;
        }
    }
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
