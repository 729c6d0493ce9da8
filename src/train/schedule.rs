//! How the learning rate and the budget go over all steps of training.

use crate::config::{AdversarySettings, Schedule, TrainSettings};

/// The first rate, as a share of the peak; the last one is 1/10,000 of it (Smith & Topin 2018,
/// <https://arxiv.org/abs/1708.07120>, with the values that fastai and PyTorch settled on).
const FIRST: f64 = 1.0 / 25.0;
const LAST: f64 = FIRST / 10_000.0;

/// The learning rate of step `step` of `total`, as a share of the peak. One-cycle: a cosine up over
/// the warm-up share of all steps, a cosine down over the rest. Cosine: a straight line up from 0, then
/// a cosine down to 0 (Loshchilov & Hutter 2016, <https://arxiv.org/abs/1608.03983>).
pub fn rate(settings: &TrainSettings, step: u32, total: u32) -> f64 {
    let last = f64::from(total.saturating_sub(1)).max(1.0);
    let warmup = settings.warmup * last;
    let step = f64::from(step).min(last);
    let half_cosine =
        |from: f64, to: f64, share: f64| to + (from - to) * (1.0 + (std::f64::consts::PI * share).cos()) / 2.0;
    match settings.schedule {
        Schedule::OneCycle if step < warmup => half_cosine(FIRST, 1.0, step / warmup),
        Schedule::OneCycle => half_cosine(1.0, LAST, share(step, warmup, last)),
        // From 1 and not 0, so that no step is wasted.
        Schedule::Cosine if step < warmup => (step + 1.0) / (warmup + 1.0),
        Schedule::Cosine => half_cosine(1.0, 0.0, share(step, warmup, last + 1.0)),
    }
}

/// The budget at step `step` of `total`, as a share of the full one: 0 up to `ramp_start`, then a
/// straight line up to 1 at `ramp_end`.
pub fn ramp(settings: &AdversarySettings, step: u32, total: u32) -> f64 {
    let now = f64::from(step) / f64::from(total.max(1));
    if now >= settings.ramp_end { 1.0 } else { share(now, settings.ramp_start, settings.ramp_end) }
}

/// Where `at` lies between `from` and `to`, in `[0, 1]`.
fn share(at: f64, from: f64, to: f64) -> f64 {
    if to > from { ((at - from) / (to - from)).clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::train::tests::settings;
    use proptest::prelude::*;

    #[test]
    fn one_cycle_agrees_with_pytorch() {
        // torch.optim.lr_scheduler.OneCycleLR: see tests/python/optimizer_reference.py.
        const ONE_CYCLE: [f64; 11] = [
            0.04,
            0.52,
            1.0,
            0.961939918497,
            0.85355397638,
            0.691342950816,
            0.500002,
            0.308661049184,
            0.14645002362,
            0.038064081503,
            4e-06,
        ];
        let (train, _) = settings();
        let ours: Vec<f64> = (0..11).map(|s| rate(&train, s, 11)).collect();
        for (ours, reference) in ours.iter().zip(ONE_CYCLE) {
            assert!((ours - reference).abs() < 1e-9, "{ours} {reference}");
        }
    }

    proptest! {
        #[test]
        fn rates_rise_to_the_peak_and_fall(total in 2u32..500, warmup in 0.0f64..0.9, cosine in any::<bool>()) {
            let (mut train, _) = settings();
            train.warmup = warmup;
            train.schedule = if cosine { Schedule::Cosine } else { Schedule::OneCycle };
            let rates: Vec<f64> = (0..total).map(|s| rate(&train, s, total)).collect();
            let peak = rates.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
            prop_assert!(rates.iter().all(|r| (0.0..=1.0).contains(r) && *r > 0.0));
            prop_assert!(rates[..=peak].is_sorted());
            prop_assert!(rates[peak..].iter().rev().is_sorted());
        }

        #[test]
        fn the_budget_never_falls_nor_leaves_its_range(total in 1u32..500, a in 0.0f64..=1.0, b in 0.0f64..=1.0) {
            let (_, mut adversary) = settings();
            (adversary.ramp_start, adversary.ramp_end) = (a.min(b), a.max(b));
            let budgets: Vec<f64> = (0..=total).map(|s| ramp(&adversary, s, total)).collect();
            prop_assert!(budgets.is_sorted());
            prop_assert!(budgets.iter().all(|r| (0.0..=1.0).contains(r)));
            prop_assert_eq!(budgets[total as usize], 1.0);
        }
    }

    #[test]
    fn the_budget_ramps_between_its_two_marks() {
        let (_, adversary) = settings();
        let at = |step| ramp(&adversary, step, 100);
        assert_eq!((at(0), at(10), at(50), at(99)), (0.0, 0.0, 1.0, 1.0));
        assert!((at(30) - 0.5).abs() < 1e-12);
    }
}
