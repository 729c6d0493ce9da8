//! The model card, `model/README.md`.

use minijinja::context;
use minijinja::value::Serde;

use super::results::Figure;
use super::table::Row;
use super::{Report, format, table, template};
use crate::attack::Attack;
use crate::config::{AdversarySettings, Architecture, Resize};
use crate::error::Result;
use crate::model::ModelSpec;

/// The card of the trained model that `spec` describes, as Markdown with a YAML head.
pub fn model_card(report: &Report, spec: &ModelSpec) -> Result<String> {
    let architecture = spec.architecture.to_string();
    let cell = |figure: &Option<Figure>| match figure {
        Some(f) => format!("{} ({})", format::percent(f.accuracy), format::interval(f.low, f.high)),
        None => "–".to_owned(),
    };
    let models = report.models();
    let of = |row: &Row, model: &str| models.iter().position(|m| *m == model).and_then(|column| row.figures[column]);
    let rows = table::rows(report).into_iter().map(|row| {
        let (baseline, trained) = (cell(&of(&row, super::BASELINE)), cell(&of(&row, super::TRAINED)));
        context! { condition => row.condition, n => row.n, baseline, trained }
    });
    let rows: Vec<_> = rows.collect();
    let photos: u64 = report.splits.iter().map(|s| s.n).sum();
    template::render(
        "card.md",
        context! {
            in_timm => spec.architecture != Architecture::HardySmall,
            squash => spec.resize == Resize::Squash,
            mean => Serde(spec.mean.map(|v| v.to_string())),
            std => Serde(spec.std.map(|v| v.to_string())),
            size => spec.input_size,
            classes => Serde(&spec.classes),
            adversary => report.settings.adversary.method.to_string(),
            furthest => furthest(&report.settings.adversary),
            loss => report.settings.train.loss.to_string(),
            schedule => report.settings.train.schedule.to_string(),
            rounds => report.rounds.iter().filter(|r| r.phase == "train").count(),
            report => Serde(report),
            rows,
            architecture,
            photos,
        },
    )
}

/// How far training may have moved a value, pixel scale: its adversary may leave the ε-ball, PGD, which the guard may
/// go on with, stays inside.
fn furthest(s: &AdversarySettings) -> f64 {
    let reach = Attack::of(s.method, s.step, s.noise, s.steps).reach().max(1.0);
    (reach * s.epsilon.value()).min(1.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Adversary, Layers};

    #[test]
    fn the_bound_of_the_training_adversary_is_that_of_its_method() {
        let mut settings = Layers::new().unwrap().resolve().unwrap().settings.adversary;
        assert_eq!(format::levels(furthest(&settings)), "12/255", "(2 + 1) x 4/255");
        settings.step = 0.5;
        assert_eq!(format::levels(furthest(&settings)), "10/255");
        settings.method = Adversary::RsFgsm;
        assert_eq!(format::levels(furthest(&settings)), "4/255");
    }
}
