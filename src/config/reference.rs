//! `configs/default.toml` as a table for people: the reference is made from the file that is in force.

use super::layers::DEFAULT;

/// One setting, or a further line of its comment.
enum Line<'a> {
    Section(&'a str, &'a str),
    Key(&'a str, &'a str, &'a str),
    More(&'a str),
    Other,
}

/// Every key with its default and its meaning, a Markdown table per section.
pub fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\nEvery setting with its default, as `hardy config reference` prints it. Layers, later ones \
         win: the built-in defaults, `--config FILE` (TOML), environment variables `HARDY_SECTION__KEY`, \
         `--set section.key=value`; `hardy config show` says where each value comes from. An epsilon is a number on \
         the pixel scale [0, 1] or a fraction in quotes, `\"4/255\"`.\n",
    );
    for line in DEFAULT.lines().map(read) {
        match line {
            Line::Section(name, about) => {
                let about = if about.is_empty() { String::new() } else { format!(": {about}") };
                text += &format!("\n## `[{name}]`{about}\n\n| key | default | meaning |\n|---|---|---|\n");
            }
            Line::Key(key, value, about) => {
                text += &format!("| `{key}` | `{value}` | {} |\n", about.replace('|', "\\|"))
            }
            Line::More(about) => {
                let row = text.trim_end_matches(" |\n").len();
                text.truncate(row);
                text += &format!(" {} |\n", about.replace('|', "\\|"));
            }
            Line::Other => {}
        }
    }
    text
}

fn read(line: &str) -> Line<'_> {
    let (code, about) = split(line);
    match (code.strip_prefix('[').and_then(|c| c.strip_suffix(']')), code.split_once(" = ")) {
        (Some(name), _) => Line::Section(name, about),
        (None, Some((key, value))) => Line::Key(key, value.trim(), about),
        (None, None) if line.starts_with(' ') && !about.is_empty() => Line::More(about),
        _ => Line::Other,
    }
}

/// Code and comment; a `#` inside quotes is no comment.
fn split(line: &str) -> (&str, &str) {
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted => return (line[..at].trim(), line[at + 1..].trim()),
            _ => {}
        }
    }
    (line.trim(), "")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Layers;

    #[test]
    fn names_every_key_with_a_meaning() {
        let text = reference();
        let sources = Layers::new().unwrap().resolve().unwrap().sources;
        for name in sources.keys() {
            let key = name.split_once('.').unwrap().1;
            let row = text.lines().find(|l| l.starts_with(&format!("| `{key}` |")));
            assert!(row.is_some(), "{name} is not in the reference");
        }
        let silent: Vec<&str> = text.lines().filter(|l| l.ends_with("|  |")).collect();
        assert!(silent.is_empty(), "without a meaning: {silent:#?}");
    }

    #[test]
    fn the_document_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(there == reference(), "write it anew: hardy config reference > docs/configuration.md");
    }
}
