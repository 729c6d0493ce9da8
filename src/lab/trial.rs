//! Photos under attack: the attack, the picture that is saved, and what the model sees in it.

use image::{ImageFormat, RgbImage};
use tch::{Kind as Type, Tensor};

use super::plan::{Budgets, Plan, norm_name, shown};
use super::record::{Class, Finding, Guess, Labelled, Record, Saved, Sight, State, Survival};
use super::survival::Way;
use super::{comparison, likeness};
use crate::attack::{Goal, Noise, Norm, channels_last, quantise_in};
use crate::config::Epsilon;
use crate::error::{Context, Error, Kind, Result};
use crate::model::images::png;
use crate::model::predict::{predict, top};
use crate::model::{Classifier, images};
use crate::seed::Purpose;

/// Classes that a record names.
const TOP: usize = 5;

/// A photo as the model sees it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// For the record: its path.
    pub image: String,
    /// Random starts depend on it.
    pub key: String,
    /// The stem of its files' names.
    pub stem: String,
    /// At the model's input size.
    pub view: RgbImage,
    /// It was smaller than that.
    pub enlarged: bool,
    /// Its true class and who says so; none: what the model sees.
    pub label: Option<(usize, Labelled)>,
}

/// A photo after the attack.
#[derive(Debug)]
pub struct Specimen {
    /// What became of it.
    pub record: Record,
    /// The pictures of each finding, in their order.
    pub pictures: Vec<Pictures>,
}

/// PNG files.
#[derive(Debug)]
pub struct Pictures {
    /// The adversarial picture.
    pub adversarial: Vec<u8>,
    /// Original, perturbation and adversarial picture; none unless asked for.
    pub comparison: Option<Vec<u8>>,
}

/// Who is attacked.
#[derive(Debug, Clone, Copy)]
pub struct Models<'a> {
    /// The model that is to be misled.
    pub attacked: &'a Classifier,
    /// The images are made against this one; none: against the attacked one.
    pub surrogate: Option<&'a Classifier>,
    /// The classes that both tell apart.
    pub classes: &'a [String],
}

/// Carries `plan` out on `subjects` together. Random starts come from `seed` and the keys. `step` is told, in a
/// search for the smallest ε, the level it is at and the photos that still stand.
///
/// # Errors
/// When the attack needs gradients that the model hides.
pub fn examine(
    models: &Models,
    subjects: &[Subject],
    plan: &Plan,
    (seed, comparisons): (u64, bool),
    step: &dyn Fn(u8, usize),
) -> Result<Vec<Specimen>> {
    let Models { attacked: model, surrogate, classes } = *models;
    if plan.attack.follows_gradient() && !surrogate.unwrap_or(model).is_differentiable() {
        return Err(Error::model(format!(
            "the model hides its gradient, which {} follows; attacks that only ask for scores work on it",
            plan.attack
        )));
    }
    let norm = norm_name(plan.attack.norm());
    let lab = Lab { model, surrogate, plan, classes, seed, comparisons };
    let views: Vec<RgbImage> = subjects.iter().map(|s| s.view.clone()).collect();
    let clean = predict(model, &views);
    let mut specimens: Vec<Specimen> = subjects.iter().zip(&clean).map(|(s, seen)| lab.before(s, seen)).collect();
    let mut standing: Vec<usize> =
        (0..subjects.len()).filter(|&i| specimens[i].record.state == State::Attacked).collect();
    match &plan.budgets {
        Budgets::Each(epsilons) => {
            for &epsilon in epsilons {
                let tag = if epsilons.len() > 1 { ending(epsilon, norm) } else { String::new() };
                for (at, hit) in standing.iter().zip(lab.strike(subjects, &specimens, &standing, epsilon)?) {
                    lab.keep(&subjects[*at], &mut specimens[*at], hit, &tag)?;
                }
            }
        }
        // An image that a larger step misses a smaller one may hit, so halving would not find the smallest.
        Budgets::Smallest => {
            for level in 1..=u8::MAX {
                step(level, standing.len());
                if standing.is_empty() {
                    break;
                }
                let epsilon = Epsilon::new(f64::from(level) / 255.0).unwrap_or(Epsilon::ZERO);
                let hits = lab.strike(subjects, &specimens, &standing, epsilon)?;
                let mut left = Vec::new();
                for (at, hit) in standing.into_iter().zip(hits) {
                    if lab.reached(&specimens[at].record, &hit.saved_seen) {
                        lab.keep(&subjects[at], &mut specimens[at], hit, "")?;
                    } else {
                        left.push(at);
                    }
                }
                standing = left;
            }
        }
    }
    Ok(specimens)
}

/// What tells the pictures of one ε from those of another. A number keeps its point, so that no ending is the end of
/// another, as `.5` is of `.0.5`: pictures of `a.0.jpg` and `a.jpg` never meet.
fn ending(epsilon: Epsilon, norm: &str) -> String {
    match norm {
        "linf" => format!(".{}", epsilon.to_string().replace('/', "-")),
        _ => format!(".{:?}", epsilon.value()),
    }
}

struct Lab<'a> {
    model: &'a Classifier,
    surrogate: Option<&'a Classifier>,
    plan: &'a Plan,
    classes: &'a [String],
    seed: u64,
    comparisons: bool,
}

/// What an attack on one photo gave.
struct Hit {
    epsilon: Epsilon,
    float_seen: Vec<f32>,
    linf: f64,
    l2: f64,
    /// Levels that a value of the picture may move.
    ball: u8,
    png: Vec<u8>,
    /// Decoded from `png`.
    picture: RgbImage,
    saved_seen: Vec<f32>,
}

impl Lab<'_> {
    fn before(&self, subject: &Subject, seen: &[f32]) -> Specimen {
        let predicted = top(seen, 1)[0];
        let (label, labelled) = subject.label.unwrap_or((predicted, Labelled::Model));
        let state = match self.plan.target {
            _ if predicted != label => State::Misclassified,
            Some(target) if target == label => State::Target,
            _ => State::Attacked,
        };
        let record = Record {
            image: subject.image.clone(),
            attack: self.plan.attack.to_string(),
            transferred: self.surrogate.is_some(),
            norm: norm_name(self.plan.attack.norm()).into(),
            seed: self.seed,
            size: subject.view.width(),
            enlarged: subject.enlarged,
            label: self.class(label),
            labelled,
            target: self.plan.target.map(|target| self.class(target)),
            clean: self.best(seen),
            state,
            findings: Vec::new(),
        };
        Specimen { record, pictures: Vec::new() }
    }

    /// Attacks the photos at `standing` within `epsilon`, saves their pictures and looks at them again.
    fn strike(
        &self,
        subjects: &[Subject],
        specimens: &[Specimen],
        standing: &[usize],
        epsilon: Epsilon,
    ) -> Result<Vec<Hit>> {
        if standing.is_empty() {
            return Ok(Vec::new());
        }
        let device = self.model.device();
        let clean = channels_last(&images::tensor(standing.iter().map(|&i| &subjects[i].view)).to_device(device));
        let classes: Vec<i64> =
            standing.iter().map(|&i| self.plan.target.unwrap_or(specimens[i].record.label.index) as i64).collect();
        let classes = Tensor::from_slice(&classes).to_device(device);
        let goal = if self.plan.target.is_some() { Goal::Towards(&classes) } else { Goal::Away(&classes) };
        let keys = standing.iter().map(|&i| subjects[i].key.as_str()).collect();
        let noise = Noise { seed: self.seed, purpose: Purpose::Attack, round: 0, keys };
        let model = |x: &Tensor| self.model.logits(x);
        let attack = &self.plan.attack;
        let attempt = match self.surrogate {
            Some(other) => {
                attack.transfer(&|x: &Tensor| other.logits(x), &model, &clean, &goal, epsilon.value(), &noise)
            }
            None => attack.attempt(&model, &clean, &goal, epsilon.value(), &noise),
        };
        let ball = if self.plan.attack.norm() == Norm::LInf { epsilon.levels() } else { u8::MAX };
        let change = (&attempt.adversarial - &clean).reshape([standing.len() as i64, -1]);
        let linf = change.abs().amax([1].as_slice(), false);
        let l2 = change.to_kind(Type::Double).square().sum_dim_intlist([1].as_slice(), false, Type::Double).sqrt();
        let seen = tch::no_grad(|| model(&attempt.adversarial)).softmax(-1, Type::Float).to_device(tch::Device::Cpu);
        let mut pngs = Vec::with_capacity(standing.len());
        let mut pictures = Vec::with_capacity(standing.len());
        for picture in images::pictures(&quantise_in(&attempt.adversarial, &clean, attack.norm(), epsilon)) {
            let png = png(&picture)?;
            let decoded = image::load_from_memory_with_format(&png, ImageFormat::Png);
            pictures.push(decoded.context(Kind::Internal, || "a PNG cannot be read back".into())?.into_rgb8());
            pngs.push(png);
        }
        let saved = predict(self.model, &pictures);
        let all = pngs.into_iter().zip(pictures).zip(saved).enumerate();
        let hits = all.map(|(i, ((png, picture), saved_seen))| {
            let row = seen.get(i as i64);
            let mut float_seen = vec![0.0; row.numel()];
            row.copy_data(&mut float_seen, row.numel());
            let at = [i as i64];
            Hit {
                epsilon,
                float_seen,
                linf: linf.double_value(&at),
                l2: l2.double_value(&at),
                ball,
                png,
                picture,
                saved_seen,
            }
        });
        Ok(hits.collect())
    }

    /// Adds a hit to what is known of a photo.
    fn keep(&self, subject: &Subject, specimen: &mut Specimen, hit: Hit, tag: &str) -> Result<()> {
        let record = &mut specimen.record;
        let (original, picture) = (&subject.view, &hit.picture);
        let levels = picture.iter().zip(original.iter()).map(|(a, b)| a.abs_diff(*b));
        let squares = levels.clone().map(|level| (f64::from(level) / 255.0).powi(2));
        let psnr = likeness::psnr(original, picture);
        let saved = Saved {
            broken: self.reached(record, &hit.saved_seen),
            top: self.best(&hit.saved_seen),
            ball: hit.ball,
            l2: squares.sum::<f64>().sqrt(),
            levels: levels.max().unwrap_or(0),
            pixels: picture.pixels().zip(original.pixels()).filter(|(a, b)| a != b).count(),
            psnr: psnr.is_finite().then_some(psnr),
            ssim: likeness::ssim(original, picture),
            picture: format!("{}{tag}.adversarial.png", subject.stem),
            comparison: format!("{}{tag}.comparison.png", subject.stem),
        };
        let float = Sight {
            broken: self.reached(record, &hit.float_seen),
            top: self.best(&hit.float_seen),
            linf: hit.linf,
            l2: hit.l2,
        };
        let comparison = match self.comparisons {
            true => Some(png(&comparison::draw(record, &saved, &shown(hit.epsilon, &record.norm), original, picture))?),
            false => None,
        };
        let survival = self.survival(record, original, picture)?;
        record.findings.push(Finding { epsilon: hit.epsilon, float, saved, survival });
        specimen.pictures.push(Pictures { adversarial: hit.png, comparison });
        Ok(())
    }

    /// What the model sees in both pictures after each of the ways.
    fn survival(&self, record: &Record, original: &RgbImage, adversarial: &RgbImage) -> Result<Vec<Survival>> {
        let ways = |picture: &RgbImage| Way::ALL.iter().map(|way| way.apply(picture)).collect::<Result<Vec<_>>>();
        let seen = predict(self.model, &[ways(original)?, ways(adversarial)?].concat());
        let (before, after) = seen.split_at(Way::ALL.len());
        let each = Way::ALL.iter().zip(before.iter().zip(after));
        let each = each.map(|(way, (before, after))| Survival {
            after: way.name(),
            broken: self.reached(record, after),
            adversarial: self.best(after).remove(0),
            original: self.best(before).remove(0),
        });
        Ok(each.collect())
    }

    /// Whether the goal is reached where the model sees this.
    fn reached(&self, record: &Record, seen: &[f32]) -> bool {
        let predicted = top(seen, 1)[0];
        match self.plan.target {
            Some(target) => predicted == target,
            None => predicted != record.label.index,
        }
    }

    fn best(&self, seen: &[f32]) -> Vec<Guess> {
        let guess = |index: usize| {
            let Class { index, name } = self.class(index);
            Guess { index, name, confidence: seen[index].into() }
        };
        top(seen, TOP).into_iter().map(guess).collect()
    }

    fn class(&self, index: usize) -> Class {
        Class { index, name: self.classes.get(index).cloned().unwrap_or_default() }
    }
}
