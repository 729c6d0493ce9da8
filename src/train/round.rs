//! One replica's round, from batches to figures.

use tch::{Kind, Tensor};

use crate::attack::{Attack, Noise, Objective, channels_last};
use crate::config::{AdversarySettings, Loss, TrainSettings};
use crate::error::{Error, Result};
use crate::model::Network;
use crate::seed::Purpose;
use crate::task::StepAdversary;

use super::{AdamW, loss, schedule};

/// Images to take one step on.
#[derive(Debug)]
pub struct Batch {
    /// The clean views: `[N, 3, H, W]`, f32 in `[0, 1]`.
    pub images: Tensor,
    /// Their adversarial images, where they were made beforehand (freshness `once` and `round`).
    pub adversarial: Option<Tensor>,
    /// `[N]`, i64.
    pub labels: Tensor,
    /// What the noise of each image is drawn from; an image that comes twice in a round should have two.
    pub keys: Vec<String>,
}

/// One replica's round.
#[derive(Debug, Clone)]
pub struct RoundPlan<'a> {
    /// The round, from 0, over the whole phase.
    pub round: u32,
    /// Steps taken before this round.
    pub first_step: u32,
    /// Steps of the whole phase.
    pub total_steps: u32,
    /// Steps to take, at most one for each batch.
    pub steps: u32,
    /// Peak learning rate of the body.
    pub rate: f64,
    /// The job's seed.
    pub seed: u64,
    /// The adversary inside the step; none trains on what the batches hold.
    pub adversary: Option<StepAdversary>,
    /// Loss, schedule and optimiser.
    pub train: &'a TrainSettings,
    /// The ramp of the budget, and the steps of PGD.
    pub ramp: &'a AdversarySettings,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RoundMetrics {
    /// Mean loss over the images.
    pub loss: f64,
    /// Share of images classified correctly as they were trained on (adversarial where there were such).
    pub accuracy: f64,
    /// Images trained on.
    pub images: u64,
    /// Budget of the adversary in the last step, pixel scale; 0 without one.
    pub epsilon: f64,
    /// Learning rate of the body in the last step.
    pub rate: f64,
    /// Mean over the steps of the gradient's norm before clipping.
    pub gradient_norm: f64,
}

/// Trains `network` in place on `batches`, one step each. `progress` is told the images so far.
///
/// # Errors
/// [`Kind::Job`](crate::error::Kind::Job) when the loss or the gradient is no longer a number,
/// naming round and step; [`Kind::Usage`](crate::error::Kind::Usage) for TRADES with an adversary
/// without noise, whose gradient is zero; those of the batches; too few batches.
pub fn round(
    network: &Network,
    optimizer: &mut AdamW,
    batches: &mut dyn Iterator<Item = Result<Batch>>,
    plan: &RoundPlan,
    progress: &dyn Fn(u64),
) -> Result<RoundMetrics> {
    let frozen = network.frozen();
    let (attacked, trained) = (|x: &Tensor| frozen.logits(x), |x: &Tensor| network.logits(x));
    let leaves: Vec<&Tensor> = network.leaves().iter().map(|leaf| &leaf.tensor).collect();
    let mut averaged = optimizer.begin(network.flat());
    let mut metrics = RoundMetrics::default();
    for taken in 0..plan.steps {
        let batch = batches.next().ok_or_else(|| too_few(plan, taken))??;
        let count = batch.labels.size()[0] as f64;
        let spared = (count * plan.train.clean_share) as i64;
        let step = plan.first_step + taken;
        metrics.rate = plan.rate * schedule::rate(plan.train, step, plan.total_steps);

        let images = channels_last(&batch.images.to_device(network.device()));
        let labels = batch.labels.to_device(network.device());
        let rest = |all: &Tensor| all.narrow(0, spared, all.size()[0] - spared);
        let made = match &batch.adversarial {
            Some(ready) => Some(rest(&channels_last(&ready.to_device(network.device())))),
            None => {
                let share = schedule::ramp(plan.ramp, step, plan.total_steps);
                metrics.epsilon = plan.adversary.map_or(0.0, |adversary| share * adversary.epsilon.value());
                let keys = batch.keys.get(spared as usize..).unwrap_or_default();
                craft(&attacked, &rest(&images), &rest(&labels), keys, metrics.epsilon, plan)?
            }
        };

        let adversarial = made.map(|made| match spared {
            0 => made,
            _ => Tensor::cat(&[images.narrow(0, 0, spared), made], 0),
        });

        let scored = loss::score(&trained, &images, adversarial.as_ref(), &labels, plan.train);
        let gradients = Tensor::run_backward(&[&scored.loss], &leaves, false, false);
        let norm = optimizer.update(network.flat(), &gradients, metrics.rate);
        optimizer.follow(&mut averaged, network.flat());

        let loss = scored.loss.double_value(&[]);
        if !(loss.is_finite() && norm.is_finite()) {
            return Err(diverged(plan, step, loss, norm));
        }
        metrics.loss += loss * count;
        metrics.accuracy += scored.logits.argmax(1, false).eq_tensor(&labels).sum(Kind::Int64).double_value(&[]);
        metrics.gradient_norm += norm;
        metrics.images += count as u64;
        progress(metrics.images);
    }
    optimizer.end(averaged, network.flat());
    let images = (metrics.images as f64).max(1.0);
    metrics.loss /= images;
    metrics.accuracy /= images;
    metrics.gradient_norm /= f64::from(plan.steps.max(1));
    Ok(metrics)
}

/// Adversarial images against the network as it is now; none without an adversary.
fn craft(
    model: &dyn Fn(&Tensor) -> Tensor,
    images: &Tensor,
    labels: &Tensor,
    keys: &[String],
    epsilon: f64,
    plan: &RoundPlan,
) -> Result<Option<Tensor>> {
    let Some(adversary) = plan.adversary else { return Ok(None) };
    let attack = Attack::of(adversary.method, adversary.step, adversary.noise, plan.ramp.steps);
    let keys = keys.iter().map(String::as_str).collect();
    let noise = Noise { seed: plan.seed, purpose: Purpose::Adversary, round: plan.round.into(), keys };
    if plan.train.loss != Loss::Trades {
        return Ok(Some(attack.craft(model, images, &Objective::CrossEntropy(labels), epsilon, &noise)));
    }
    if matches!(attack, Attack::Fgsm { .. }) {
        return Err(Error::usage(
            "train.loss 'trades' cannot go with adversary.method 'fgsm': the divergence has no gradient at the clean \
             image; allowed are rs-fgsm, n-fgsm and pgd, which start beside it",
        ));
    }
    let clean = tch::no_grad(|| model(images)).log_softmax(-1, Kind::Float);
    Ok(Some(attack.craft(model, images, &Objective::Divergence(&clean), epsilon, &noise)))
}

fn too_few(plan: &RoundPlan, batches: u32) -> Error {
    Error::internal(format!("round {} has {} steps to take, but only {batches} batches", plan.round, plan.steps))
}

fn diverged(plan: &RoundPlan, step: u32, loss: f64, norm: f64) -> Error {
    Error::job(format!(
        "training diverged in round {}, step {step} of {}: the loss is {loss}, the gradient's norm {norm}; lower \
         train.rate ({}) or set train.clip_norm ({})",
        plan.round, plan.total_steps, plan.rate, plan.train.clip_norm
    ))
}
