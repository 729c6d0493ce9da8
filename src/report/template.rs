//! The templates and the filters they use. What an HTML page prints is escaped as HTML; what `card.md`
//! prints must pass through `markdown` or `quoted`.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, UndefinedBehavior, Value};

use super::format;
use crate::error::{Context, Kind, Result};

/// Fills the template `name`: `page.html`, `history.html` or `card.md`.
pub(super) fn render(name: &str, values: Value) -> Result<String> {
    environment()
        .and_then(|env| env.get_template(name)?.render(values))
        .context(Kind::Internal, || format!("{name} cannot be filled"))
}

fn environment() -> std::result::Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.add_filter("percent", |share: Option<f64>| or_dash(share, format::percent));
    env.add_filter("levels", |epsilon: Option<f64>| or_dash(epsilon, format::levels));
    env.add_filter("decimals", |value: Option<f64>, places: usize| or_dash(value, |v| format!("{v:.places$}")));
    env.add_filter("points", |points: Option<f64>| or_dash(points, |v| format!("{v:+.1}")));
    env.add_filter("probability", |p: Option<f64>| or_dash(p, format::probability));
    env.add_filter("interval", format::interval);
    env.add_filter("model", |name: String| format::model(&name).to_owned());
    env.add_filter("quoted", |text: String| quoted(&text));
    env.add_filter("markdown", |text: String| markdown(&text));
    env.add_template("head.html", include_str!("head.html"))?;
    env.add_template("figure.html", include_str!("figure.html"))?;
    env.add_template("page.html", include_str!("page.html"))?;
    env.add_template("history.html", include_str!("history.html"))?;
    env.add_template("card.md", include_str!("card.md"))?;
    Ok(env)
}

fn or_dash(value: Option<f64>, write: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), write)
}

/// A string literal in YAML, JSON and Python alike.
fn quoted(text: &str) -> String {
    let mut literal = String::new();
    for c in serde_json::Value::from(text).to_string().chars() {
        match c {
            // JSON leaves them as they are; YAML does not allow some and ends lines at others.
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                literal.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => literal.push(c),
        }
    }
    literal
}

/// Text that Markdown shows as it is: on one line, every mark of punctuation that may mean something escaped.
fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => escaped.push(' '),
            ',' | '.' | ':' | ';' | '%' | '/' | '\'' | '-' | '(' | ')' | '=' => escaped.push(c),
            c if c.is_ascii_punctuation() => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn markdown_and_yaml_cannot_be_broken_out_of() {
        assert_eq!(markdown("<script>|`a`"), "\\<script\\>\\|\\`a\\`");
        assert_eq!(markdown("a\n# b [c](d)"), "a \\# b \\[c\\](d)");
        assert_eq!(quoted("rose\n---\nx: \"y\""), r#""rose\n---\nx: \"y\"""#);
    }

    proptest! {
        #[test]
        fn a_name_stays_on_its_line_and_can_be_read_back(name in any::<String>()) {
            let breaks = ['\n', '\r', '\u{85}', '\u{2028}'];
            prop_assert!(!markdown(&name).contains(breaks));
            prop_assert!(!quoted(&name).contains(breaks));
            prop_assert_eq!(serde_json::from_str::<String>(&quoted(&name)).unwrap(), name);
        }
    }
}
