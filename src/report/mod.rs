//! What a run tells people: `report.json`, `report.html`, the model card, the lines on the terminal.
//!
//! Pure: a [`RunRecord`] in, bytes out. [`Report`] is the one source of every figure; the page, the
//! card and the terminal only lay it out.

mod card;
mod chart;
mod format;
mod headline;
mod history;
mod json;
mod page;
pub(crate) mod picture;
mod record;
mod results;
mod table;
mod template;
mod verdict;

pub use card::model_card;
pub use chart::{LOOKS, curve};
pub use format::epsilon;
pub use headline::{BASELINE, Headline, HeadlineFigure, NamedFigure, TRAINED, headline};
pub use history::{Trend, TrendNight, history_page};
pub use json::{Balance, ExampleEntry, Listed, Prediction, Report, Round, SplitCount, VERSION};
pub use page::{STYLE, page};
pub use record::*;
pub use results::{ClassCount, Confusion, Failures, Figure, Measured, Paired, StaticFigure, Transfer, WorstCase};
pub use verdict::{Finding, Gap, Verdict};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
