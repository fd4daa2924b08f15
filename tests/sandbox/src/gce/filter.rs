//! The `filter` parameter of lists: AIP-160's language, and the older one with regular expressions,
//! as the discovery document describes the parameter.
//! <https://docs.cloud.google.com/compute/docs/reference/rest/v1/instances/aggregatedList>
//!
//! What is not described there, or not part of this sandbox, is refused like what is wrong.

use serde_json::Value;

use super::description::{Schema, description};
use super::error::{ApiError, Result};

/// A filter.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Compare {
        path: Vec<String>,
        operator: Operator,
        value: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `:`, a part of it.
    Has,
    /// `:*`, set at all.
    Defined,
    /// `eq`, the whole by a regular expression.
    Matches,
    /// `ne`
    MatchesNot,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Operator(Operator),
    Word(String),
    Quoted(String),
}

impl Filter {
    /// Reads a filter for a list of things with this schema.
    pub(super) fn read(text: &str, schema: &str) -> Result<Filter> {
        let refused = || ApiError::invalid("filter", text, "Invalid list filter expression.");
        let tokens = tokens(text).ok_or_else(refused)?;
        let mut reader = Reader { tokens, at: 0 };
        let filter = reader.all(0).ok_or_else(refused)?;
        if reader.at < reader.tokens.len() {
            return Err(refused());
        }
        let schema = description().schema(schema).ok_or_else(refused)?;
        let (mut plain, mut regular) = (0, 0);
        if !filter.check(schema, &mut plain, &mut regular) || (plain > 0 && regular > 0) {
            return Err(refused());
        }
        Ok(filter)
    }

    /// Whether its fields are there and can be compared so.
    fn check(&self, schema: &Schema, plain: &mut usize, regular: &mut usize) -> bool {
        match self {
            Filter::All(filters) | Filter::Any(filters) => {
                filters.iter().all(|f| f.check(schema, plain, regular))
            }
            Filter::Compare {
                path,
                operator,
                value,
            } => {
                let is_regular = matches!(operator, Operator::Matches | Operator::MatchesNot);
                *if is_regular { regular } else { plain } += 1;
                let all = description();
                let mut schema = all.resolve(schema);
                for name in path {
                    let inner = schema
                        .properties
                        .get(name)
                        .or(schema.additional_properties.as_deref());
                    match inner {
                        Some(inner) => schema = all.resolve(inner),
                        None => return false,
                    }
                }
                match schema.kind.as_deref() {
                    // People report lists as refused.
                    // <https://github.com/googleapis/google-api-go-client/issues/1019>
                    Some("array") => false,
                    Some("object") => *operator == Operator::Defined,
                    Some("boolean") => {
                        *operator == Operator::Defined || value == "true" || value == "false"
                    }
                    Some("string") if schema.format.is_none() => {
                        !matches!(
                            operator,
                            Operator::Less
                                | Operator::LessOrEqual
                                | Operator::Greater
                                | Operator::GreaterOrEqual
                        ) && (!is_regular || pattern_is_known(value))
                    }
                    _ => *operator == Operator::Defined || value.parse::<f64>().is_ok(),
                }
            }
        }
    }

    /// Whether a resource passes.
    pub(super) fn passes(&self, resource: &Value) -> bool {
        match self {
            Filter::All(filters) => filters.iter().all(|filter| filter.passes(resource)),
            Filter::Any(filters) => filters.iter().any(|filter| filter.passes(resource)),
            Filter::Compare {
                path,
                operator,
                value,
            } => {
                let mut found = Some(resource);
                for name in path {
                    found = found.and_then(|inner| inner.get(name));
                }
                let Some(found) = found else {
                    return matches!(operator, Operator::NotEqual | Operator::MatchesNot);
                };
                let text = found.as_str().map_or_else(|| found.to_string(), Into::into);
                let order = || text.parse::<f64>().ok()?.partial_cmp(&value.parse().ok()?);
                match operator {
                    Operator::Equal => crate::fault::wildcard(&literal(value), &text),
                    Operator::NotEqual => !crate::fault::wildcard(&literal(value), &text),
                    Operator::Less => order().is_some_and(std::cmp::Ordering::is_lt),
                    Operator::LessOrEqual => order().is_some_and(std::cmp::Ordering::is_le),
                    Operator::Greater => order().is_some_and(std::cmp::Ordering::is_gt),
                    Operator::GreaterOrEqual => order().is_some_and(std::cmp::Ordering::is_ge),
                    Operator::Has if found.is_string() => {
                        crate::fault::wildcard(&format!("*{}*", literal(value)), &text)
                    }
                    Operator::Has => text == *value,
                    Operator::Defined => true,
                    Operator::Matches => matches(value, &text),
                    Operator::MatchesNot => !matches(value, &text),
                }
            }
        }
    }
}

/// Only `*` is special in AIP-160; it is in [`crate::fault::wildcard`], too.
fn literal(value: &str) -> String {
    value.replace('?', "*")
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let two = rest.get(..2).unwrap_or_default();
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            _ if two == ":*" => (Token::Operator(Operator::Defined), 2),
            ':' => (Token::Operator(Operator::Has), 1),
            _ if two == "!=" => (Token::Operator(Operator::NotEqual), 2),
            _ if two == "<=" => (Token::Operator(Operator::LessOrEqual), 2),
            _ if two == ">=" => (Token::Operator(Operator::GreaterOrEqual), 2),
            '=' => (Token::Operator(Operator::Equal), 1),
            '<' => (Token::Operator(Operator::Less), 1),
            '>' => (Token::Operator(Operator::Greater), 1),
            '"' | '\'' => {
                let end = rest[1..].find(first)?;
                (Token::Quoted(rest[1..=end].to_owned()), end + 2)
            }
            _ => {
                let end = rest
                    .find(|c: char| c.is_whitespace() || "()=!<>:\"'".contains(c))
                    .unwrap_or(rest.len());
                if end == 0 {
                    return None;
                }
                let word = &rest[..end];
                let token = match word {
                    "eq" => Token::Operator(Operator::Matches),
                    "ne" => Token::Operator(Operator::MatchesNot),
                    _ => Token::Word(word.to_owned()),
                };
                (token, end)
            }
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Some(tokens)
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
}

impl Reader {
    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.tokens.get(self.at), Some(Token::Word(found)) if found == word)
    }

    /// Expressions beside each other, with or without AND. OR binds tighter.
    /// <https://google.aip.dev/160>
    fn all(&mut self, depth: usize) -> Option<Filter> {
        let mut filters = vec![self.any(depth)?];
        loop {
            if self.is_word("AND") {
                self.at += 1;
            } else if matches!(self.tokens.get(self.at), None | Some(Token::Close)) {
                break;
            }
            filters.push(self.any(depth)?);
        }
        Some(match filters.len() {
            1 => filters.remove(0),
            _ => Filter::All(filters),
        })
    }

    fn any(&mut self, depth: usize) -> Option<Filter> {
        let mut filters = vec![self.one(depth)?];
        while self.is_word("OR") {
            self.at += 1;
            filters.push(self.one(depth)?);
        }
        Some(match filters.len() {
            1 => filters.remove(0),
            _ => Filter::Any(filters),
        })
    }

    fn one(&mut self, depth: usize) -> Option<Filter> {
        if depth > 20 {
            return None;
        }
        let field = match self.next()? {
            Token::Open => {
                let inner = self.all(depth + 1)?;
                return (self.next()? == Token::Close).then_some(inner);
            }
            Token::Word(word) => word,
            _ => return None,
        };
        let Token::Operator(operator) = self.next()? else {
            return None;
        };
        let value = match operator {
            Operator::Defined => String::new(),
            _ => match self.next()? {
                Token::Word(value) | Token::Quoted(value) => value,
                _ => return None,
            },
        };
        Some(Filter::Compare {
            path: field.split('.').map(Into::into).collect(),
            operator,
            value,
        })
    }
}

/// Of regular expressions, this sandbox has characters, `.`, `\` before a character, `*`, `+`, `?`
/// and `|`.
fn pattern_is_known(pattern: &str) -> bool {
    !pattern.contains(['[', ']', '(', ')', '{', '}', '^', '$'])
}

/// Whether an expression matches all of a text.
fn matches(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    pattern.split('|').any(|branch| {
        let mut atoms: Vec<(Option<char>, char)> = Vec::new();
        let mut characters = branch.chars();
        while let Some(character) = characters.next() {
            match character {
                '*' | '+' | '?' => {
                    if let Some(last) = atoms.last_mut() {
                        last.1 = character;
                    }
                }
                '.' => atoms.push((None, '1')),
                '\\' => atoms.push((characters.next(), '1')),
                other => atoms.push((Some(other), '1')),
            }
        }
        matches_atoms(&atoms, &text)
    })
}

fn matches_atoms(atoms: &[(Option<char>, char)], text: &[char]) -> bool {
    let Some(((wanted, times), rest)) = atoms.split_first() else {
        return text.is_empty();
    };
    let fits = |at: usize| {
        text.get(at)
            .is_some_and(|found| wanted.is_none_or(|wanted| wanted == *found))
    };
    let (least, most) = match times {
        '*' => (0, text.len()),
        '+' => (1, text.len()),
        '?' => (0, 1),
        _ => (1, 1),
    };
    let longest = (0..most).take_while(|at| fits(*at)).count();
    (least..=longest).any(|count| matches_atoms(rest, &text[count..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_pass_what_they_say() {
        let instance = json!({
            "name": "cml-1-abc",
            "description": "runner-launch abc: cml-1 for https://github.com/o/r",
            "status": "TERMINATED",
            "zone": "https://www.googleapis.com/compute/v1/projects/p/zones/us-west1-b",
            "labels": {"runner-launch-id": "abc"},
            "scheduling": {"automaticRestart": false, "provisioningModel": "SPOT"},
            "id": "42",
        });
        for (filter, expected) in [
            ("name = cml-1-abc", true),
            ("name=\"cml-1-abc\"", true),
            ("name = 'other'", false),
            ("name = cml-*", true),
            ("name != cml-1-abc", false),
            ("cpuPlatform != \"Intel Skylake\"", true),
            ("description : \"runner-launch\"", true),
            ("description:runner-launch", true),
            ("description:launcher", false),
            ("labels.runner-launch-id:*", true),
            ("labels.owner:*", false),
            ("labels.runner-launch-id = abc", true),
            ("scheduling.automaticRestart = false", true),
            ("id > 41", true),
            ("id <= 41", false),
            ("(status = TERMINATED) (name = cml-1-abc)", true),
            ("(status = TERMINATED) AND (name = x)", false),
            ("(status = RUNNING) OR (status = TERMINATED)", true),
            // (a OR b) AND c
            ("name = x OR name = cml-1-abc AND status = RUNNING", false),
            ("zone eq .*/us-west1-.", true),
            ("name eq 'cml-.+-abc|x'", true),
            ("name ne .*abc", false),
            ("(name eq cml.*) (status ne RUNNING)", true),
        ] {
            let read = Filter::read(filter, "Instance").unwrap();
            assert_eq!(read.passes(&instance), expected, "{filter}");
        }
    }

    #[test]
    fn what_is_not_in_the_language_is_refused() {
        for filter in [
            "",
            "name",
            "name =",
            "= x",
            "(name = x",
            "name = x)",
            "colour = red",
            "tags = x",
            "tags.items = x",
            "networkInterfaces.network : x",
            "name = x status eq y",
            "name < x",
            "scheduling.automaticRestart = maybe",
            "NOT name = x",
            "name eq [a-z]*",
        ] {
            let error = Filter::read(filter, "Instance").unwrap_err();
            assert_eq!(error.status, 400, "{filter}");
            assert_eq!(
                error.message,
                format!(
                    "Invalid value for field 'filter': '{filter}'. Invalid list filter expression."
                )
            );
        }
    }
}
