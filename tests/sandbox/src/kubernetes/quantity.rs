//! Amounts of resources: `500m`, `1.5Gi`, `2e3`.
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>

use serde_json::Value;

/// What is wrong with a quantity.
pub(super) const COMPLAINT: &str = "quantities must match the regular expression \
    '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

const SUFFIXES: &[(&str, f64)] = &[
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

/// The amount; `None`: it is no quantity.
pub(super) fn read(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => parse(text),
        _ => None,
    }
}

fn parse(text: &str) -> Option<f64> {
    let is_digit = |c: char| c.is_ascii_digit() || c == '.';
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c| !is_digit(c)).unwrap_or(unsigned.len());
    let (digits, suffix) = unsigned.split_at(end);
    let number: f64 = digits.parse().ok()?;
    let number = if text.starts_with('-') {
        -number
    } else {
        number
    };
    if suffix.is_empty() {
        return Some(number);
    }
    if let Some((_, factor)) = SUFFIXES.iter().find(|(known, _)| *known == suffix) {
        return Some(number * factor);
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some(number * 10f64.powi(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, amount) in [
            ("1", Some(1.0)),
            ("500m", Some(0.5)),
            ("1.5Gi", Some(1_610_612_736.0)),
            ("2e3", Some(2000.0)),
            ("-1", Some(-1.0)),
            ("1E", Some(1e18)),
            ("", None),
            ("1gb", None),
            ("1 Gi", None),
            ("Gi", None),
            ("0x10", None),
        ] {
            assert_eq!(parse(text), amount, "{text}");
        }
    }
}
