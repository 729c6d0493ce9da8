//! `report.html`: one file with everything in it, for a browser and for paper.

use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

use super::headline::ALL;
use super::json::{ExampleEntry, Report};
use super::results::{self, Confusion, Figure};
use super::table::{self, FailureRow, PairedRow, Row, TransferRow};
use super::{Example, chart, format, picture, template};
use crate::error::{Context, Error, Kind, Result};
use crate::outcome::Count;

/// The style of the page, for other pages that show parts of a report.
pub const STYLE: &str = include_str!("page.css");

/// Longer lists end with a pointer to `report.json`.
const LISTED: usize = 100;
/// More classes than this do not fit a matrix; the most frequent confusions are listed instead.
const MATRIX: usize = 12;
/// How many of them.
const CONFUSIONS: usize = 15;

/// Lays `report` out as HTML with the pictures of `examples`, those that `report` was made with.
/// An error of kind `Internal` when a picture cannot be read.
pub fn page(report: &Report, examples: &[Example]) -> Result<String> {
    if examples.len() != report.examples.len() {
        return Err(Error::internal(format!(
            "the report describes {} examples, {} were given",
            report.examples.len(),
            examples.len()
        )));
    }
    let curves = table::attacks(report)
        .iter()
        .map(|a| Ok((format::attack(a), chart::accuracy_curve(report, a)?)))
        .collect::<Result<_>>()?;
    let training = ["baseline", "train"]
        .into_iter()
        .filter(|phase| report.rounds.iter().any(|r| r.phase == *phase))
        .map(|phase| Ok((phase.to_owned(), chart::training_curve(&report.rounds, &report.guard_events, phase)?)))
        .collect::<Result<_>>()?;
    let pictures = report
        .examples
        .iter()
        .zip(examples)
        .map(|(entry, example)| shown(report, entry, example))
        .collect::<Result<_>>()?;
    let settings =
        toml::to_string(&report.settings).context(Kind::Internal, || "the settings are no TOML".to_owned())?;
    let parts = Parts {
        rows: table::rows(report),
        failures: table::failures(report),
        transfer: table::transfer(report),
        paired: table::paired(report),
        models: models(report),
        cards: cards(report),
        classes: classes(report),
        under: report.headline.main().filter(|m| m.epsilon > 0.0).map(|m| format::condition(&m.attack, m.epsilon)),
        curves,
        training,
        matrices: report.confusion.iter().map(|c| matrix(c, report)).collect(),
        pictures,
        settings,
    };
    template::render(
        "page.html",
        context! {
            style => Value::from_safe_string(STYLE.to_owned()),
            listed => LISTED,
            report => Serde(report),
            ..Serde(&parts)
        },
    )
}

/// What the template needs in another shape than the report has it.
#[derive(Serialize)]
struct Parts {
    rows: Vec<Row>,
    failures: Vec<FailureRow>,
    /// Condition, rows.
    transfer: Option<(String, Vec<TransferRow>)>,
    paired: Vec<PairedRow>,
    models: Vec<ModelLook>,
    cards: Vec<Card>,
    classes: Vec<ClassRow>,
    /// The attack in them.
    under: Option<String>,
    /// Attack, SVG.
    curves: Vec<(String, String)>,
    /// Phase, SVG.
    training: Vec<(String, String)>,
    matrices: Vec<Matrix>,
    pictures: Vec<Picture>,
    settings: String,
}

/// A class clean and under what the headline's sentence is about.
#[derive(Serialize)]
struct ClassRow {
    class: String,
    n: u64,
    /// Clean and attacked of each model in turn.
    figures: Vec<Option<Figure>>,
}

/// A model as the page shows it.
#[derive(Serialize)]
struct ModelLook {
    name: String,
    class: &'static str,
    shape: &'static str,
}

/// A headline figure.
#[derive(Serialize)]
struct Card {
    title: String,
    /// The model that matters most first.
    figures: Vec<(String, &'static str, Figure)>,
}

#[derive(Serialize)]
struct Matrix {
    model: String,
    class: &'static str,
    condition: String,
    /// Per true class: its name and, per predicted class, images and their share of the row.
    rows: Vec<(String, Vec<(u64, f64)>)>,
    /// In place of `rows` when there are many classes: true class, predicted class, images.
    confusions: Vec<(String, String, u64)>,
}

#[derive(Serialize)]
struct Picture {
    entry: ExampleEntry,
    class: &'static str,
    condition: String,
    fooled: bool,
    amplification: u32,
    original: String,
    perturbation: String,
    adversarial: String,
}

fn models(report: &Report) -> Vec<ModelLook> {
    let models = report.models();
    let shown = |model: &&str| {
        let look = chart::look(&models, model);
        ModelLook { name: format::model(model).into(), class: look.class, shape: look.shape }
    };
    models.iter().map(shown).collect()
}

fn cards(report: &Report) -> Vec<Card> {
    let mut models = report.models();
    // What was trained comes before what it is compared with; other models as they were given.
    models.sort_by_key(|model| *model == super::BASELINE);
    let all = report.models();
    let card = |figure: &super::HeadlineFigure| Card {
        title: match &figure.attack[..] {
            _ if figure.epsilon == 0.0 => "Clean images".into(),
            ALL => format!("All attacks up to {}", format::epsilon(figure.epsilon)),
            attack => format::condition(attack, figure.epsilon),
        },
        figures: models
            .iter()
            .filter_map(|model| Some((format::model(model).into(), chart::look(&all, model).class, figure.of(model)?)))
            .collect(),
    };
    report.headline.figures.iter().map(card).collect()
}

fn classes(report: &Report) -> Vec<ClassRow> {
    let Some(main) = report.headline.main() else { return Vec::new() };
    let of = |model, epsilon| report.confusion.iter().find(|c| c.model == model && results::same(c.epsilon, epsilon));
    let attacked = Some(main.epsilon).filter(|&epsilon| epsilon > 0.0);
    let found: Vec<Option<&Confusion>> = report
        .models()
        .into_iter()
        .flat_map(|model| [of(model, 0.0), attacked.and_then(|epsilon| of(model, epsilon))])
        .collect();
    let row = |(number, class): (usize, &String)| {
        let count = |c: &Confusion| Count { correct: c.matrix[number][number], n: c.matrix[number].iter().sum() };
        let counts: Vec<Option<Count>> = found.iter().map(|c| c.map(count)).collect();
        ClassRow {
            class: class.clone(),
            n: counts.iter().flatten().map(|c| c.n).max().unwrap_or(0),
            figures: counts.into_iter().map(|c| c.map(Figure::from)).collect(),
        }
    };
    report.classes.iter().enumerate().map(row).collect()
}

fn matrix(confusion: &Confusion, report: &Report) -> Matrix {
    let classes = &report.classes;
    let mut rows = Vec::new();
    let mut confusions = Vec::new();
    for (truth, (class, counts)) in classes.iter().zip(&confusion.matrix).enumerate() {
        if classes.len() <= MATRIX {
            let all = counts.iter().sum::<u64>().max(1) as f64;
            rows.push((class.clone(), counts.iter().map(|&n| (n, n as f64 / all)).collect()));
        } else {
            let wrong = counts.iter().enumerate().filter(|&(taken, &n)| taken != truth && n > 0);
            confusions.extend(wrong.map(|(taken, &n)| (class.clone(), classes[taken].clone(), n)));
        }
    }
    confusions.sort_by_key(|c| std::cmp::Reverse(c.2));
    confusions.truncate(CONFUSIONS);
    Matrix {
        model: confusion.model.clone(),
        class: chart::look(&report.models(), &confusion.model).class,
        condition: format::condition(&confusion.attack, confusion.epsilon),
        rows,
        confusions,
    }
}

fn shown(report: &Report, entry: &ExampleEntry, example: &Example) -> Result<Picture> {
    Ok(Picture {
        entry: entry.clone(),
        class: chart::look(&report.models(), &entry.model).class,
        condition: format::condition(&entry.attack, entry.epsilon),
        fooled: entry.after.class != entry.label,
        amplification: picture::amplification(example.epsilon),
        original: picture::data_uri(&example.original),
        perturbation: picture::data_uri(&picture::perturbation(example)?),
        adversarial: picture::data_uri(&example.adversarial),
    })
}
