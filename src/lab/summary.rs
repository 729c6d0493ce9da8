//! A folder under attack, counted.

use serde::{Deserialize, Serialize};

use super::plan::shown;
use super::record::{Class, Finding, Guess, Record, State};
use crate::config::Epsilon;
use crate::outcome::Count;

/// What came of all photos of a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The attack's name.
    pub attack: String,
    /// `linf`, `l2` or `l0`.
    pub norm: String,
    /// The class to reach.
    pub target: Option<String>,
    /// Photos that could be used.
    pub n: u64,
    /// Of those, the ones that the model is wrong about already; not attacked, not broken.
    pub misclassified: u64,
    /// Of those, the ones that show the target already; not attacked.
    pub on_target: u64,
    /// Of those, the ones that are smaller than the network's input and were enlarged.
    #[serde(default)]
    pub enlarged: u64,
    /// Photos that could not be used, with the reason.
    pub unusable: Vec<(String, String)>,
    /// Each budget, or each smallest level that was found.
    pub budgets: Vec<Budget>,
    /// Where the smallest was sought: photos that no level broke.
    pub never_broken: Option<u64>,
    /// `(class, photos, misclassified)`, of classes that have photos.
    pub classes: Vec<ClassLine>,
}

/// One class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassLine {
    /// Its name.
    pub class: String,
    /// Its photos.
    pub n: u64,
    /// Of those, misclassified already.
    pub misclassified: u64,
    /// Saved pictures broken at each of [`Summary::budgets`].
    pub broken: Vec<u64>,
}

/// What came of one budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// The budget.
    pub epsilon: Epsilon,
    /// Whole levels of the saved picture's ball.
    pub ball: u8,
    /// Photos attacked.
    pub attacked: u64,
    /// Broken as the attack left them.
    pub broken_float: u64,
    /// Broken as 8-bit pictures.
    pub broken: u64,
    /// Share of the attacked whose picture is broken, and its 95 % Wilson interval.
    pub rate: (f64, f64, f64),
    /// Share of all photos that are classified correctly after the attack, likewise. Those that were not attacked count
    /// as they are; where the smallest level was sought, those that no level up to this one broke count as correct.
    pub accuracy: (f64, f64, f64),
    /// `(what happened, broken pictures still broken afterwards)`.
    pub survival: Vec<(String, u64)>,
}

impl Summary {
    /// Counts `records`, of which there is at least one. `smallest`: each was broken by the smallest level.
    pub fn of(records: &[Record], unusable: Vec<(String, String)>, smallest: bool) -> Self {
        let state = |state: State| records.iter().filter(|r| r.state == state).count() as u64;
        let attacked = state(State::Attacked);
        let mut epsilons: Vec<Epsilon> = Vec::new();
        for finding in records.iter().flat_map(|r| &r.findings) {
            if !epsilons.contains(&finding.epsilon) {
                epsilons.push(finding.epsilon);
            }
        }
        if smallest {
            epsilons.sort_by(|a, b| a.value().total_cmp(&b.value()));
        }
        let sees = |top: &[Guess], label: &Class| top.first().is_some_and(|guess| guess.index == label.index);
        let unharmed = records.iter().filter(|r| r.state != State::Attacked && sees(&r.clean, &r.label)).count() as u64;
        let budget = |&epsilon: &Epsilon| {
            let of_it = |f: &&Finding| f.epsilon == epsilon;
            let all: Vec<_> = records.iter().filter_map(|r| Some((r, r.findings.iter().find(of_it)?))).collect();
            // What a smaller level broke counts as broken at this one too.
            let before = records.iter().flat_map(|r| &r.findings).filter(|f| f.epsilon.value() < epsilon.value());
            let before = if smallest { before.count() as u64 } else { 0 };
            let broken = before + all.iter().filter(|(_, f)| f.saved.broken).count() as u64;
            // Short of its target, a picture may still be taken for a third class.
            let correct = if smallest {
                attacked - broken
            } else {
                all.iter().filter(|(r, f)| sees(&f.saved.top, &r.label)).count() as u64
            };
            let correct = Count { correct: unharmed + correct, n: records.len() as u64 };
            let mut survival: Vec<(String, u64)> = Vec::new();
            for way in all.iter().filter(|(_, f)| f.saved.broken).flat_map(|(_, f)| &f.survival) {
                match survival.iter_mut().find(|(after, _)| *after == way.after) {
                    Some((_, count)) => *count += u64::from(way.broken),
                    None => survival.push((way.after.clone(), u64::from(way.broken))),
                }
            }
            Budget {
                epsilon,
                ball: all.first().map_or(0, |(_, f)| f.saved.ball),
                attacked,
                broken_float: before + all.iter().filter(|(_, f)| f.float.broken).count() as u64,
                broken,
                rate: share(Count { correct: broken, n: attacked }),
                accuracy: share(correct),
                survival,
            }
        };
        let budgets: Vec<Budget> = epsilons.iter().map(budget).collect();
        let mut names: Vec<(usize, &str)> = records.iter().map(|r| (r.label.index, r.label.name.as_str())).collect();
        names.sort_unstable();
        names.dedup();
        let class = |&(index, name): &(usize, &str)| {
            let of: Vec<&Record> = records.iter().filter(|r| r.label.index == index).collect();
            let broken = |&epsilon: &Epsilon| {
                let counts = |r: &&&Record| {
                    r.findings.iter().any(|f| {
                        f.saved.broken && (f.epsilon == epsilon || smallest && f.epsilon.value() < epsilon.value())
                    })
                };
                of.iter().filter(counts).count() as u64
            };
            ClassLine {
                class: name.to_string(),
                n: of.len() as u64,
                misclassified: of.iter().filter(|r| r.state == State::Misclassified).count() as u64,
                broken: epsilons.iter().map(broken).collect(),
            }
        };
        let first = records.first();
        Self {
            attack: first.map(|r| r.attack.clone()).unwrap_or_default(),
            norm: first.map(|r| r.norm.clone()).unwrap_or_default(),
            target: first.and_then(|r| r.target.as_ref()).map(|t| t.name.clone()),
            n: records.len() as u64,
            misclassified: state(State::Misclassified),
            on_target: state(State::Target),
            enlarged: records.iter().filter(|r| r.enlarged).count() as u64,
            unusable,
            never_broken: smallest.then(|| attacked - records.iter().filter(|r| !r.findings.is_empty()).count() as u64),
            budgets,
            classes: names.iter().map(class).collect(),
        }
    }

    /// The counts as a small table, for a terminal. Ends with a line feed.
    pub fn table(&self) -> String {
        let percent = |(share, low, high): (f64, f64, f64)| {
            format!("{:.1} % ({:.1}-{:.1})", 100.0 * share, 100.0 * low, 100.0 * high)
        };
        let goal = self.target.as_ref().map(|t| format!(" towards '{t}'")).unwrap_or_default();
        let mut text = format!("{} in {}{goal}: {} photos", self.attack, self.norm, self.n);
        text.push_str(&format!(", {} misclassified already (not attacked, not counted as broken)", self.misclassified));
        if self.on_target > 0 {
            text.push_str(&format!(", {} of the target class", self.on_target));
        }
        if !self.unusable.is_empty() {
            text.push_str(&format!(", {} more cannot be used", self.unusable.len()));
        }
        if self.enlarged > 0 {
            text.push_str(&format!("\n  {}", crate::dataset::view::told_of_small(self.enlarged)));
        }
        text.push_str("\n\n");
        for budget in &self.budgets {
            let ball = if self.norm == "linf" { format!(" (saved within {}/255)", budget.ball) } else { String::new() };
            text.push_str(&format!(
                "  epsilon {}{ball}: {} of {} broken as pictures, {}; {} as floats; accuracy left {}\n",
                shown(budget.epsilon, &self.norm),
                budget.broken,
                budget.attacked,
                percent(budget.rate),
                budget.broken_float,
                percent(budget.accuracy),
            ));
            let survives: Vec<String> = budget.survival.iter().map(|(after, n)| format!("{after} {n}")).collect();
            if !survives.is_empty() {
                text.push_str(&format!("    still broken after {}\n", survives.join(", ")));
            }
        }
        if let Some(never) = self.never_broken {
            text.push_str(&format!("  no level breaks {never}\n"));
        }
        let width = self.classes.iter().map(|line| line.class.chars().count()).max().unwrap_or(0);
        text.push_str("\n  per class: broken at each epsilon, of those not misclassified\n");
        for line in &self.classes {
            let broken: Vec<String> = line.broken.iter().map(|n| format!("{n:>5}")).collect();
            let ours = line.n - line.misclassified;
            text.push_str(&format!("  {:<width$} {} of {ours} (n = {})\n", line.class, broken.join(""), line.n));
        }
        text
    }
}

fn share(count: Count) -> (f64, f64, f64) {
    let (low, high) = count.wilson();
    (count.accuracy(), low, high)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A photo of class `label` in which `clean` was seen, and `after` once it was attacked towards class 2.
    fn towards_two(label: usize, clean: usize, after: Option<usize>) -> Record {
        let top = |index| json!([{ "index": index, "name": format!("c{index}"), "confidence": 0.9 }]);
        let sight = |index| {
            json!({
                "broken": index == 2, "top": top(index), "linf": 0.01, "l2": 0.1, "ball": 2, "levels": 2, "pixels": 9,
                "psnr": null, "ssim": null, "picture": "", "comparison": "",
            })
        };
        let finding = |i| json!({ "epsilon": 0.01, "float": sight(i), "saved": sight(i), "survival": [] });
        let state = match after {
            Some(_) => "attacked",
            None if clean == 2 || label == 2 => "target",
            None => "misclassified",
        };
        serde_json::from_value(json!({
            "image": "a.png", "attack": "pgd20", "norm": "linf", "seed": 1, "size": 32, "enlarged": false,
            "label": { "index": label, "name": format!("c{label}") }, "labelled": "folder",
            "target": { "index": 2, "name": "c2" }, "clean": top(clean), "state": state,
            "findings": after.into_iter().map(finding).collect::<Vec<_>>(),
        }))
        .unwrap()
    }

    #[test]
    fn towards_a_target_accuracy_counts_what_is_still_right() {
        let records = [
            towards_two(0, 0, Some(2)),
            // Short of the target, and yet no longer right.
            towards_two(0, 0, Some(1)),
            towards_two(1, 1, Some(1)),
            // The target's own photo is right as it is.
            towards_two(2, 2, None),
            towards_two(0, 2, None),
            towards_two(1, 0, None),
        ];
        let summary = Summary::of(&records, Vec::new(), false);
        let budget = &summary.budgets[0];
        assert_eq!((budget.attacked, budget.broken), (3, 1));
        assert_eq!(budget.accuracy.0, 2.0 / 6.0);
    }
}
