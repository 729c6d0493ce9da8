//! Class names as people give them: a number, a name, or nearly a name.

use crate::error::{Error, Result};

/// Suggestions in a message.
const SUGGESTIONS: usize = 3;
/// Jaro-Winkler similarity from which on a name is suggested.
const NEAR: f64 = 0.75;

/// The class that `text` names among `classes`: its number from 0 on, or its name. Case does not
/// matter, and `_` is a space. `what` says in messages where the text came from.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) when there is no such class, with the nearest names, or
/// when several have the name.
pub fn find_class(classes: &[String], text: &str, what: &str) -> Result<usize> {
    if let Some(exact) = classes.iter().position(|class| class == text) {
        return Ok(exact);
    }
    let shown = text.escape_debug();
    if let Ok(number) = text.parse::<i128>() {
        return usize::try_from(number).ok().filter(|&n| n < classes.len()).ok_or_else(|| {
            Error::usage(format!("{what} {number} is out of range: the model knows classes 0 to {}", classes.len() - 1))
        });
    }
    let wanted = plain(text);
    let same: Vec<usize> = (0..classes.len()).filter(|&i| plain(&classes[i]) == wanted).collect();
    match same[..] {
        [one] => Ok(one),
        [] => Err(Error::usage(format!("{what} '{shown}' is no class of the model{}", suggestion(classes, &wanted)))),
        _ => {
            let numbers: Vec<String> = same.iter().map(usize::to_string).collect();
            Err(Error::usage(format!("{what} '{shown}' names several classes: give one of {}", numbers.join(", "))))
        }
    }
}

/// The class of the folder `name`, likewise, but never by its number: a folder `1` may be the first one.
///
/// # Errors
/// [`Kind::Data`](crate::error::Kind::Data) when the model does not know it, with the nearest names.
pub fn class_of_folder(classes: &[String], name: &str) -> Result<usize> {
    let wanted = plain(name);
    let exact = classes.iter().position(|class| class == name);
    exact.or_else(|| classes.iter().position(|class| plain(class) == wanted)).ok_or_else(|| {
        Error::data(format!(
            "the photos have a class {name:?} that the model does not know{}",
            suggestion(classes, name)
        ))
    })
}

/// `; did you mean …?`, or the first names where none is near.
fn suggestion(classes: &[String], wanted: &str) -> String {
    let wanted = plain(wanted);
    let near = |class: &String| {
        let name = plain(class);
        // A part of the name is near too: "labrador".
        if !wanted.is_empty() && name.contains(&wanted) { 1.0 } else { strsim::jaro_winkler(&name, &wanted) }
    };
    let mut found: Vec<(f64, usize)> = classes.iter().enumerate().map(|(i, class)| (near(class), i)).collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let named = |i: usize| format!("'{}' ({i})", classes[i]);
    let close: Vec<String> =
        found.iter().filter(|(score, _)| *score >= NEAR).take(SUGGESTIONS).map(|&(_, i)| named(i)).collect();
    if close.is_empty() {
        let first: Vec<String> = (0..classes.len().min(5)).map(named).collect();
        let more = if classes.len() > 5 { ", …" } else { "" };
        return format!("; it knows {}{more}", first.join(", "));
    }
    format!("; did you mean {}?", close.join(" or "))
}

fn plain(text: &str) -> String {
    text.trim().replace('_', " ").to_lowercase()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn classes() -> Vec<String> {
        include_str!("imagenet_classes.txt").lines().map(str::to_string).collect()
    }

    #[test]
    fn a_class_is_found_by_number_and_by_name() {
        for text in ["208", "Labrador retriever", "labrador_retriever", " LABRADOR retriever"] {
            assert_eq!(find_class(&classes(), text, "--label").unwrap(), 208, "{text}");
        }
        assert_eq!(find_class(&classes(), "0", "--label").unwrap(), 0);
        assert_eq!(find_class(&classes(), "999", "--label").unwrap(), 999);
        // A class may be called like a number.
        assert_eq!(find_class(&["7".into(), "0".into()], "0", "--label").unwrap(), 1);
    }

    #[test]
    fn a_folder_is_a_class_by_its_name_alone() {
        assert_eq!(class_of_folder(&classes(), "labrador_retriever").unwrap(), 208);
        let refused = |name: &str| class_of_folder(&classes(), name).unwrap_err();
        assert_eq!(refused("208").kind(), crate::error::Kind::Data);
        assert!(refused("tabby_cats").to_string().contains("'tabby"), "{}", refused("tabby_cats"));
    }

    #[test]
    fn what_is_no_class_is_refused_with_near_ones() {
        let refused = |text: &str| find_class(&classes(), text, "--label").unwrap_err().to_string();
        assert!(refused("labrador").contains("did you mean 'Labrador retriever' (208)"), "{}", refused("labrador"));
        assert!(refused("Labradr retreiver").contains("'Labrador retriever' (208)"));
        assert!(refused("1000").contains("0 to 999") && refused("-1").contains("0 to 999"));
        assert!(refused("\u{1b}").contains("\\u{1b}") && refused("").contains("it knows"));
        let twins = ["a b".to_string(), "A_b".to_string()];
        assert!(find_class(&twins, "A B", "--target").unwrap_err().to_string().contains("give one of 0, 1"));
    }
}
