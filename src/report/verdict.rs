//! Under- or overfitting, judged from the rounds.

use serde::{Deserialize, Serialize};

use super::format::percent;
use super::json::Round;
use super::results::Figure;

/// A training accuracy this far above the held one is more than the usual gap.
const WIDE: f64 = 0.10;
/// A held accuracy that fell this far from its best, or a training accuracy that rose this much
/// from the third quarter of the rounds to the last, is more than noise between rounds.
const TREND: f64 = 0.03;

/// What a comparison of training and held accuracy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// Training and held accuracy were both still rising: more training would help.
    Underfitting,
    /// Held accuracy lies far below training accuracy, or fell while training went on.
    Overfitting,
    /// Neither.
    Balanced,
}

/// Training against held accuracy at the checkpoint that was kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// `baseline` or `train`.
    pub phase: String,
    /// The round that was kept.
    pub round: u32,
    /// Accuracy on the training images as the network saw them.
    pub training: f64,
    /// Held accuracy: clean for the baseline, under PGD for adversarial training.
    pub held: f64,
    /// The highest held accuracy of any round.
    pub best: f64,
    /// The held accuracy of the last round.
    pub last: f64,
    /// What follows.
    pub finding: Finding,
}

/// On both models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The baseline on clean images, if it was trained.
    pub clean: Option<Gap>,
    /// Adversarial training under attack, if there was any.
    pub robust: Option<Gap>,
    /// Both in words, with the figures.
    pub sentence: String,
}

impl Verdict {
    /// Judges `rounds`, in order, baseline first.
    pub fn new(rounds: &[Round]) -> Self {
        let clean = gap(rounds, "baseline", |r| r.held_clean);
        let robust = gap(rounds, "train", |r| r.held_pgd);
        let mut parts = Vec::new();
        if let Some(gap) = &clean {
            parts.push(describe("The undefended model", "clean", gap));
        }
        if let Some(gap) = &robust {
            parts.push(describe("The adversarially trained model", "PGD", gap));
            // A round that the guard undid bears the number of the one that was done over after it.
            if let Some(round) = rounds.iter().rfind(|r| r.phase == "train" && r.round == gap.round) {
                parts.push(format!("Its clean accuracy on held images is {}.", percent(round.held_clean.accuracy)));
            }
        }
        if parts.is_empty() {
            parts.push("No round was trained and measured, so there is nothing to judge.".into());
        }
        Self { clean, robust, sentence: parts.join(" ") }
    }
}

/// None where nothing was measured: without a guard there is no accuracy under PGD.
fn gap(rounds: &[Round], phase: &str, figure: impl Fn(&Round) -> Figure) -> Option<Gap> {
    let tells = |r: &&Round| r.phase == phase && r.train_accuracy.is_some() && figure(r).n > 0;
    let rounds: Vec<&Round> = rounds.iter().filter(tells).collect();
    let held = |r: &Round| figure(r).accuracy;
    let last = rounds.last()?;
    let kept = rounds.iter().rev().find(|r| r.best).unwrap_or(last);
    let training = kept.train_accuracy?;
    let best = rounds.iter().map(|r| held(r)).fold(0.0, f64::max);
    let learning = rise(&rounds, |r| r.train_accuracy) > TREND;
    let finding = if training - held(kept) > WIDE || (best - held(last) > TREND && learning) {
        Finding::Overfitting
    } else if learning && rise(&rounds, |r| Some(held(r))) > TREND {
        Finding::Underfitting
    } else {
        Finding::Balanced
    };
    Some(Gap { phase: phase.into(), round: kept.round, training, held: held(kept), best, last: held(last), finding })
}

/// How much an accuracy rose from the third quarter of the rounds to the last, over rounds of the
/// same, full budget; too few of them show no trend.
fn rise(rounds: &[&Round], accuracy: impl Fn(&Round) -> Option<f64>) -> f64 {
    let full = rounds.last().and_then(|r| r.epsilon);
    let accuracies: Vec<f64> = rounds.iter().filter(|r| r.epsilon == full).filter_map(|r| accuracy(r)).collect();
    let quarter = accuracies.len() / 4;
    if quarter == 0 {
        return 0.0;
    }
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (before, end) = accuracies[accuracies.len() - 2 * quarter..].split_at(quarter);
    mean(end) - mean(before)
}

fn describe(who: &str, kind: &str, gap: &Gap) -> String {
    let figures = format!(
        "{} on its training images against {} ({kind}) on held ones in round {}, the one that was kept",
        percent(gap.training),
        percent(gap.held),
        gap.round + 1
    );
    match gap.finding {
        Finding::Balanced => format!("{who} neither under- nor overfits: {figures}."),
        Finding::Underfitting => {
            format!("{who} underfits: {figures}, and both were still rising, so more rounds should help.")
        }
        Finding::Overfitting => format!(
            "{who} overfits: {figures}; held accuracy was {} at best and {} in the last round.",
            percent(gap.best),
            percent(gap.last)
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::outcome::Count;

    fn rounds(phase: &str, figures: &[(f64, u64)], kept: usize) -> Vec<Round> {
        figures
            .iter()
            .enumerate()
            .map(|(i, &(train, held))| Round {
                phase: phase.into(),
                round: i as u32,
                loss: Some(1.0),
                train_accuracy: Some(train),
                epsilon: Some(4.0 / 255.0),
                held_clean: Count { correct: held, n: 100 }.into(),
                held_fgsm: Count { correct: held, n: 100 }.into(),
                held_pgd: Count { correct: held, n: 100 }.into(),
                checkpoint_sha256: String::new(),
                best: i == kept,
            })
            .collect()
    }

    fn finding(figures: &[(f64, u64)], kept: usize) -> Finding {
        Verdict::new(&rounds("train", figures, kept)).robust.unwrap().finding
    }

    #[test]
    fn names_the_three_cases() {
        let steady = [(0.50, 48), (0.60, 57), (0.64, 60), (0.65, 60), (0.65, 61), (0.65, 60), (0.66, 61), (0.65, 61)];
        assert_eq!(finding(&steady, 6), Finding::Balanced);
        let memorised = [(0.5, 48), (0.6, 55), (0.7, 58), (0.8, 57), (0.85, 52), (0.9, 49), (0.95, 47), (0.98, 45)];
        assert_eq!(finding(&memorised, 7), Finding::Overfitting);
        assert_eq!(finding(&memorised, 1), Finding::Overfitting, "held fell while training rose, whatever was kept");
        let short = [(0.30, 30), (0.36, 36), (0.42, 42), (0.48, 47), (0.53, 52), (0.58, 57), (0.62, 61), (0.67, 66)];
        assert_eq!(finding(&short, 7), Finding::Underfitting);
    }

    #[test]
    fn the_sentence_states_the_figures_it_rests_on() {
        let verdict = Verdict::new(&rounds("baseline", &[(0.973, 93)], 0));
        assert!(verdict.sentence.contains("97.3\u{a0}%") && verdict.sentence.contains("93.0\u{a0}%"), "{verdict:?}");
        assert!(verdict.robust.is_none());
        assert!(Verdict::new(&[]).sentence.contains("nothing to judge"));
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        let mut unguarded = rounds("train", &[(0.9, 0)], 0);
        unguarded[0].held_pgd = Count { correct: 0, n: 0 }.into();
        let verdict = Verdict::new(&unguarded);
        assert!(verdict.robust.is_none() && verdict.sentence.contains("nothing to judge"), "{verdict:?}");
    }

    #[test]
    fn a_round_that_was_done_over_counts_as_it_was_the_second_time() {
        let mut both = rounds("train", &[(0.6, 55), (0.9, 3)], 0);
        both.extend(rounds("train", &[(0.0, 0), (0.6, 56)], 1).split_off(1));
        both[0].best = false;
        let verdict = Verdict::new(&both);
        assert!(verdict.sentence.contains("clean accuracy on held images is 56.0"), "{}", verdict.sentence);
    }
}
