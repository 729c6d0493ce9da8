//! What the held slice says of a round: how good it is, whether it collapsed, and what is changed then.

use super::Phase;
use crate::attack::PGD_STEP;
use crate::config::{Adversary, Settings};
use crate::report::RoundRecord;

/// Rounds for which FGSM accuracy may hide a PGD accuracy that does not rise.
const LASTING: usize = 3;

/// The training adversary as the guard has left it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Adversarial {
    pub(super) method: Adversary,
    pub(super) step: f64,
}

impl Adversarial {
    /// Makes a collapse less likely: a shorter step first, then, since single steps are what models learn to
    /// deceive, many (Madry et al. 2017). Says what it did.
    pub(super) fn soften(&mut self, settings: &Settings, rollbacks: u32) -> String {
        if rollbacks > 1 && self.method != Adversary::Pgd {
            (self.method, self.step) = (Adversary::Pgd, PGD_STEP);
            return format!("now against PGD with {} steps", settings.adversary.steps);
        }
        self.step *= settings.guard.soften;
        format!("step size now {} x epsilon", self.step)
    }
}

/// Whether a round was trained against enough for its PGD accuracy, which is measured at the full budget, to mean
/// anything: what an undefended network stands is luck, and the first small steps take it away.
pub(super) fn counts(s: &Settings, record: &RoundRecord) -> bool {
    record.epsilon >= s.adversary.epsilon.value() / 2.0
}

/// Whether a round was trained against the whole budget.
fn is_full(s: &Settings, record: &RoundRecord) -> bool {
    record.epsilon >= s.adversary.epsilon.value() - 1e-9
}

/// Of an accuracy that was measured on so many images.
fn variance(accuracy: f64, images: u64) -> f64 {
    accuracy * (1.0 - accuracy) / images.max(1) as f64
}

impl Phase {
    /// How good a round is on the held slice, and the standard error of that figure. A later round is
    /// kept unless it is worse than the best by more than this: on a few images the best one is mostly
    /// the luckiest one, and schedules are made for their last step (the one-standard-error rule of
    /// Breiman et al. 1984).
    pub(super) fn score(&self, record: &RoundRecord) -> (f64, f64) {
        let counts = if self.adversarial { vec![record.held_clean, record.held_pgd] } else { vec![record.held_clean] };
        let variance: f64 = counts.iter().map(|c| variance(c.accuracy(), c.n)).sum();
        (counts.iter().map(|c| c.accuracy()).sum(), variance.sqrt())
    }

    /// Says why, if the round looks like catastrophic overfitting (Wong et al. 2020). `best_pgd` is of those rounds before
    /// it that `counts`.
    pub(super) fn collapse(
        &self,
        s: &Settings,
        method: Adversary,
        earlier: &[RoundRecord],
        record: &RoundRecord,
        best_pgd: f64,
    ) -> Option<String> {
        if !self.adversarial || !s.guard.enabled {
            return None;
        }
        let (fgsm, pgd) = (record.held_fgsm.accuracy(), record.held_pgd.accuracy());
        // On a few images such a fall may be nothing but luck: it must exceed two standard errors, too.
        let images = record.held_pgd.n;
        let luck = 2.0 * (variance(pgd, images) + variance(best_pgd, images)).sqrt();
        if counts(s, record) && pgd < best_pgd - s.guard.drop.max(luck) {
            return Some(format!("PGD accuracy fell to {:.1} % from {:.1} %", pgd * 100.0, best_pgd * 100.0));
        }
        // Only single steps can be deceived: against PGD a gap is what it seems.
        if method == Adversary::Pgd {
            return None;
        }
        // A model that is not robust yet shows the same gap; one that is losing it falls at the same time.
        let noise = variance(pgd, images).sqrt();
        if is_full(s, record) && fgsm - pgd > s.guard.gap && pgd < best_pgd - noise.max(s.guard.drop / 4.0) {
            return Some(format!("FGSM accuracy {:.1} % hides PGD accuracy {:.1} %", fgsm * 100.0, pgd * 100.0));
        }
        // Nor does its PGD accuracy stand still there.
        let masked = |r: &RoundRecord| is_full(s, r) && r.held_fgsm.accuracy() - r.held_pgd.accuracy() > s.guard.gap;
        let lately = earlier.get(earlier.len().checked_sub(LASTING - 1)?..)?;
        let risen = pgd - lately.first()?.held_pgd.accuracy();
        if masked(record) && lately.iter().all(masked) && risen < s.guard.drop / 4.0 {
            let (fgsm, pgd) = (fgsm * 100.0, pgd * 100.0);
            return Some(format!(
                "FGSM accuracy {fgsm:.1} % hides PGD accuracy {pgd:.1} %, which has not risen for {LASTING} rounds"
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use crate::outcome::Count;
    use crate::store::Blob;

    fn verdict(fgsm: u64, pgd: u64, epsilon: f64, best_pgd: f64) -> Option<String> {
        verdict_after(&[], fgsm, pgd, epsilon, best_pgd)
    }

    /// The same after rounds with these FGSM and PGD accuracies at the full budget.
    fn verdict_after(before: &[(u64, u64)], fgsm: u64, pgd: u64, epsilon: f64, best_pgd: f64) -> Option<String> {
        verdict_on(100, before, fgsm, pgd, epsilon, best_pgd)
    }

    /// The same on so many images.
    fn verdict_on(n: u64, before: &[(u64, u64)], fgsm: u64, pgd: u64, epsilon: f64, best_pgd: f64) -> Option<String> {
        let settings = Layers::new().unwrap().set(&["guard.gap=0.4".into(), "guard.drop=0.2".into()]).unwrap();
        let settings = settings.resolve().unwrap().settings;
        let origin = Blob { key: crate::store::Key::new("x").unwrap(), sha256: String::new(), size: 0 };
        let phase = Phase { name: "train", rounds: 9, rate: 0.1, adversarial: true, origin };
        let count = |correct| Count { correct, n };
        let record = |fgsm, pgd, epsilon| RoundRecord {
            phase: "train".into(),
            round: 5,
            loss: 1.0,
            train_accuracy: 0.9,
            epsilon,
            held_clean: count(n),
            held_fgsm: count(fgsm),
            held_pgd: count(pgd),
            checkpoint_sha256: String::new(),
            best: false,
        };
        let earlier: Vec<RoundRecord> = before.iter().map(|&(f, p)| record(f, p, 4.0 / 255.0)).collect();
        phase.collapse(&settings, Adversary::NFgsm, &earlier, &record(fgsm, pgd, epsilon), best_pgd)
    }

    #[test]
    fn fgsm_accuracy_that_goes_on_hiding_pgd_accuracy_is_a_collapse() {
        let full = 4.0 / 255.0;
        let stuck = verdict_after(&[(85, 0), (78, 3)], 86, 2, full, 0.03);
        assert!(stuck.unwrap().contains("has not risen for 3 rounds"));
        assert!(verdict_after(&[(78, 3)], 86, 2, full, 0.03).is_none(), "two rounds are no habit");
        assert!(verdict_after(&[(85, 10), (78, 20)], 86, 30, full, 0.2).is_none(), "it rises");
        assert!(verdict_after(&[(85, 60), (78, 60)], 86, 60, full, 0.6).is_none(), "nothing is hidden");
    }

    #[test]
    fn robustness_that_falls_away_is_a_collapse() {
        let full = 4.0 / 255.0;
        assert!(verdict(70, 30, full, 0.55).unwrap().contains("fell to 30.0 % from 55.0 %"));
        assert!(verdict(70, 40, full, 0.55).is_none(), "15 points are noise");
        let fell_on = |n: u64| verdict_on(n, &[], 70 * n / 100, 30 * n / 100, full, 0.55).is_some();
        assert!(fell_on(40) && !fell_on(20), "on 20 images 25 points are");
        assert!(verdict(70, 30, full / 2.0, 0.55).is_some());
        assert!(verdict(70, 30, full / 4.0, 0.55).is_none(), "there was hardly anything to withstand yet");
    }

    #[test]
    fn fgsm_accuracy_that_pgd_does_not_bear_out_is_a_collapse_once_the_budget_is_full() {
        let full = 4.0 / 255.0;
        assert!(verdict(66, 15, full, 0.25).unwrap().contains("hides PGD accuracy 15.0 %"));
        assert!(verdict(66, 15, full, 0.15).is_none(), "a model on its way up is not robust yet");
        assert!(verdict(66, 15, full / 2.0, 0.25).is_none(), "nor while the budget still grows");
        assert!(verdict(71, 55, full, 0.55).is_none());
    }
}
