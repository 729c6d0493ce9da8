//! How figures are written for people, the same everywhere.

use super::headline::ALL;
use crate::config::Epsilon;

/// `62.0 %`; the space does not break.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}\u{a0}%", share * 100.0)
}

/// `57.9–66.0 %`.
pub(super) fn interval(low: f64, high: f64) -> String {
    format!("{:.1}–{:.1}\u{a0}%", low * 100.0, high * 100.0)
}

/// `0.031`, `< 0.001`.
pub(super) fn probability(p: f64) -> String {
    if p < 0.001 { "<\u{a0}0.001".into() } else { format!("{p:.3}") }
}

/// A budget on the pixel scale as people write it: `4/255` or `0.01`.
pub fn epsilon(value: f64) -> String {
    Epsilon::new(value).map_or_else(|| value.to_string(), |e| e.to_string())
}

/// `2.4/255`: a budget on its way up is no round number.
pub(super) fn levels(value: f64) -> String {
    let levels = value * 255.0;
    if (levels - levels.round()).abs() < 1e-6 { epsilon(value) } else { format!("{levels:.1}/255") }
}

/// The attack's usual spelling: `PGD-20` of `pgd20`; names it does not know stay as they are.
pub(super) fn attack(name: &str) -> String {
    let digits = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let (stem, number) = name.split_at(digits);
    let stem = match stem {
        "clean" => "clean",
        "fgsm" => "FGSM",
        "rs-fgsm" => "RS-FGSM",
        "n-fgsm" => "N-FGSM",
        "pgd" => "PGD",
        "apgd" => "APGD",
        "apgd-ce" => "APGD-CE",
        "apgd-dlr" => "APGD-DLR",
        "apgd-t" => "APGD-T",
        "fab-t" => "FAB-T",
        "bim" => "BIM",
        "mi-fgsm" => "MI-FGSM",
        "square" => "Square",
        "autoattack" => "AutoAttack",
        _ => return name.to_owned(),
    };
    if number.is_empty() { stem.to_owned() } else { format!("{stem}-{number}") }
}

/// `PGD-20 at 4/255`, `all attacks up to 4/255`; of `clean` just that.
pub(super) fn condition(name: &str, budget: f64) -> String {
    match name {
        ALL => format!("all attacks up to {}", epsilon(budget)),
        _ if budget > 0.0 => format!("{} at {}", attack(name), epsilon(budget)),
        _ => attack(name),
    }
}

/// The model for a reader: `undefended` is clearer than `baseline`.
pub(super) fn model(name: &str) -> &str {
    if name == super::BASELINE { "undefended" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(percent(331.0 / 550.0), "60.2\u{a0}%");
        assert_eq!(interval(0.0, 1.0), "0.0–100.0\u{a0}%");
        assert_eq!(condition("pgd20", 4.0 / 255.0), "PGD-20 at 4/255");
        assert_eq!(condition("fgsm", 0.01), "FGSM at 0.01");
        assert_eq!(condition("clean", 0.0), "clean");
        assert_eq!(condition(ALL, 8.0 / 255.0), "all attacks up to 8/255");
        assert_eq!(["apgd-t50", "square500", "autoattack"].map(attack), ["APGD-T-50", "Square-500", "AutoAttack"]);
        assert_eq!(attack("my-attack2"), "my-attack2");
    }
}
