//! The query protocol: `Action=X&List.1.Field=value`, read as a tree from which handlers take what
//! they know. What is left over is unknown, and refused.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::error::{ApiError, Result};
use super::state::Tags;
use crate::fault::wildcard;

/// A parameter, or several with a common beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Node {
    path: String,
    value: Option<String>,
    children: BTreeMap<String, Node>,
}

impl Node {
    /// Reads a form.
    pub(crate) fn parse(form: &[u8]) -> Result<Node> {
        let mut root = Node::default();
        for (name, value) in url::form_urlencoded::parse(form) {
            let mut node = &mut root;
            for part in name.split('.') {
                let path = if node.path.is_empty() {
                    part.to_owned()
                } else {
                    format!("{}.{part}", node.path)
                };
                node = node
                    .children
                    .entry(part.to_owned())
                    .or_insert_with(|| Node {
                        path,
                        ..Node::default()
                    });
            }
            if node.value.replace(value.into_owned()).is_some() {
                return Err(ApiError::client(
                    "InvalidParameter",
                    format!("The parameter {name} is given twice"),
                ));
            }
        }
        Ok(root)
    }

    /// A child's full name, for messages.
    fn name(&self, child: &str) -> String {
        if self.path.is_empty() {
            child.to_owned()
        } else {
            format!("{}.{child}", self.path)
        }
    }

    /// Takes a child with all that is in it; an empty one when it isn't there.
    pub(crate) fn node(&mut self, name: &str) -> Node {
        self.children.remove(name).unwrap_or_else(|| Node {
            path: self.name(name),
            ..Node::default()
        })
    }

    /// Whether nothing was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.value.is_none() && self.children.is_empty()
    }

    /// Takes a child's value.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>> {
        let node = self.node(name);
        if let Some(child) = node.children.values().next() {
            return Err(ApiError::unknown(&child.path));
        }
        Ok(node.value)
    }

    /// Takes a child's value, which must be there.
    pub(crate) fn required(&mut self, name: &str) -> Result<String> {
        self.text(name)?
            .filter(|value| !value.is_empty())
            .ok_or_else(|| ApiError::missing(&self.name(name)))
    }

    /// Takes a number.
    pub(crate) fn number<T: FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        self.text(name)?
            .map(|value| {
                value.parse().map_err(|_| {
                    let name = self.name(name);
                    ApiError::value(format!(
                        "Invalid value '{value}' for {name}. Must be a number"
                    ))
                })
            })
            .transpose()
    }

    /// Takes `true` or `false`.
    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>> {
        self.text(name)?
            .map(|value| match value.as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(ApiError::value(format!(
                    "Invalid value '{value}' for {}. Must be true or false",
                    self.name(name)
                ))),
            })
            .transpose()
    }

    /// Takes one of some words.
    pub(crate) fn word(&mut self, name: &str, allowed: &[&str]) -> Result<Option<String>> {
        let value = self.text(name)?;
        match &value {
            Some(value) if !allowed.contains(&value.as_str()) => Err(ApiError::value(format!(
                "Value ({value}) for parameter {} is invalid. Valid values: {}",
                self.name(name),
                allowed.join(", ")
            ))),
            _ => Ok(value),
        }
    }

    /// Takes a list: `Name.1`, `Name.2`, …
    pub(crate) fn list(&mut self, name: &str) -> Result<Vec<Node>> {
        let node = self.node(name);
        if node.value.is_some() {
            return Err(ApiError::unknown(&node.path));
        }
        let mut items = Vec::new();
        for (number, item) in node.children {
            match number.parse::<u32>() {
                Ok(number @ 1..) => items.push((number, item)),
                _ => return Err(ApiError::unknown(&item.path)),
            }
        }
        items.sort_by_key(|(number, _)| *number);
        Ok(items.into_iter().map(|(_, item)| item).collect())
    }

    /// Takes a list of values.
    pub(crate) fn texts(&mut self, name: &str) -> Result<Vec<String>> {
        self.list(name)?
            .into_iter()
            .map(|item| match item {
                Node {
                    value: Some(value),
                    children,
                    ..
                } if children.is_empty() => Ok(value),
                other => Err(ApiError::unknown(&other.path)),
            })
            .collect()
    }

    /// Refuses whatever nobody took.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.value.is_some() && !self.path.is_empty() {
            return Err(ApiError::unknown(&self.path));
        }
        match self.children.values().next() {
            Some(child) if child.children.is_empty() => Err(ApiError::unknown(&child.path)),
            Some(child) => child.finish(),
            None => Ok(()),
        }
    }

    /// Takes `Tag.N.Key` and `Tag.N.Value`.
    pub(crate) fn tags(&mut self) -> Result<Tags> {
        let mut tags = Tags::new();
        for mut item in self.list("Tag")? {
            let key = item.required("Key")?;
            let value = item.text("Value")?.unwrap_or_default();
            item.finish()?;
            if key.chars().count() > 128 || value.chars().count() > 256 {
                return Err(ApiError::value(format!(
                    "Tag '{key}' is too long: keys have at most 128 characters, values 256"
                )));
            }
            if key.to_lowercase().starts_with("aws:") {
                return Err(ApiError::value(
                    "Tag keys starting with 'aws:' are reserved for internal use",
                ));
            }
            if tags.insert(key.clone(), value).is_some() {
                return Err(ApiError::value(format!(
                    "Duplicate tag key '{key}' specified."
                )));
            }
        }
        if tags.len() > 50 {
            return Err(ApiError::client(
                "TagLimitExceeded",
                "The maximum number of Tags for a resource has been reached.",
            ));
        }
        Ok(tags)
    }

    /// Takes `TagSpecification.N`, by resource type.
    pub(crate) fn tag_specifications(
        &mut self,
        allowed: &[&str],
    ) -> Result<BTreeMap<String, Tags>> {
        let mut specifications = BTreeMap::new();
        for mut item in self.list("TagSpecification")? {
            let kind = item.required("ResourceType")?;
            let tags = item.tags()?;
            item.finish()?;
            if !allowed.contains(&kind.as_str()) {
                return Err(ApiError::value(format!(
                    "'{kind}' is not a valid taggable resource type for this operation."
                )));
            }
            if tags.is_empty() {
                return Err(ApiError::value(
                    "Tag specification must have at least one tag",
                ));
            }
            if specifications.insert(kind.clone(), tags).is_some() {
                return Err(ApiError::value(format!(
                    "The same resource type may not be specified more than once in tag \
                     specifications: {kind}"
                )));
            }
        }
        Ok(specifications)
    }

    /// Takes `Filter.N`; the names must be among `known`, or `tag:…` and `tag-key`.
    pub(crate) fn filters(&mut self, known: &[&str]) -> Result<Filters> {
        let mut filters = Vec::new();
        for mut item in self.list("Filter")? {
            let name = item.required("Name")?;
            let values = item.texts("Value")?;
            item.finish()?;
            if !known.contains(&name.as_str()) && name != "tag-key" && !name.starts_with("tag:") {
                return Err(ApiError::value(format!("The filter '{name}' is invalid")));
            }
            if values.is_empty() {
                return Err(ApiError::value(format!(
                    "The filter '{name}' must have at least one value"
                )));
            }
            filters.push((name, values));
        }
        Ok(Filters(filters))
    }

    /// Takes `MaxResults` and `NextToken`.
    pub(crate) fn page(&mut self, least: usize, most: usize) -> Result<Page> {
        let size = self.number::<usize>("MaxResults")?;
        if let Some(size) = size.filter(|size| !(least..=most).contains(size)) {
            return Err(ApiError::value(format!(
                "Value ( {size} ) for parameter maxResults is invalid. Expecting a value from \
                 {least} to {most}."
            )));
        }
        let start = match self.text("NextToken")? {
            None => 0,
            Some(token) => read_token(&token).ok_or_else(|| {
                ApiError::value(format!("Invalid value '{token}' for parameter nextToken"))
            })?,
        };
        Ok(Page { start, size })
    }
}

/// Filters: all must hold, each by any of its values; `*` and `?` stand for anything.
#[derive(Debug)]
pub(crate) struct Filters(Vec<(String, Vec<String>)>);

impl Filters {
    /// Whether something passes, given its tags and its other properties by name.
    pub(crate) fn pass(&self, tags: &Tags, property: impl Fn(&str) -> Vec<String>) -> bool {
        self.0.iter().all(|(name, wanted)| {
            let actual = if name == "tag-key" {
                tags.keys().cloned().collect()
            } else if let Some(key) = name.strip_prefix("tag:") {
                tags.get(key).cloned().into_iter().collect()
            } else {
                property(name)
            };
            wanted
                .iter()
                .any(|pattern| actual.iter().any(|value| wildcard(pattern, value)))
        })
    }
}

/// Which part of a long answer is wanted.
#[derive(Debug)]
pub(crate) struct Page {
    start: usize,
    size: Option<usize>,
}

impl Page {
    pub(crate) fn is_given(&self) -> bool {
        self.size.is_some()
    }

    /// Cuts the page out; the token leads to the next one.
    pub(crate) fn cut<T>(&self, items: Vec<T>) -> (Vec<T>, Option<String>) {
        let size = self.size.unwrap_or(usize::MAX);
        let end = self.start.saturating_add(size);
        let token = (items.len() > end).then(|| write_token(end));
        let page = items.into_iter().skip(self.start).take(size).collect();
        (page, token)
    }
}

fn write_token(position: usize) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(format!("sandbox-page:{position}"))
}

fn read_token(token: &str) -> Option<usize> {
    use base64::Engine;
    let text = base64::prelude::BASE64_STANDARD.decode(token).ok()?;
    std::str::from_utf8(&text)
        .ok()?
        .strip_prefix("sandbox-page:")?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_took_is_unknown() {
        let mut node =
            Node::parse(b"A=1&List.2.X=c&List.1.X=b&List.10.X=d&Ebs.Size=3&Odd.1.Z=1").unwrap();
        assert_eq!(node.number::<u32>("A").unwrap(), Some(1));
        let list: Vec<_> = node
            .list("List")
            .unwrap()
            .into_iter()
            .map(|mut item| item.required("X").unwrap())
            .collect();
        assert_eq!(list, ["b", "c", "d"]);
        assert_eq!(node.node("Ebs").text("Size").unwrap().as_deref(), Some("3"));
        assert_eq!(node.finish(), Err(ApiError::unknown("Odd.1.Z")));
        node.node("Odd");
        assert_eq!(node.finish(), Ok(()));
        assert_eq!(node.required("B"), Err(ApiError::missing("B")));
    }

    #[test]
    fn pages_follow_each_other() {
        let page = |form: &[u8]| Node::parse(form).unwrap().page(2, 100);
        let (first, token) = page(b"MaxResults=2").unwrap().cut(vec![1, 2, 3]);
        assert_eq!(first, [1, 2]);
        let form = format!(
            "MaxResults=2&NextToken={}",
            token.unwrap().replace('=', "%3D")
        );
        assert_eq!(
            page(form.as_bytes()).unwrap().cut(vec![1, 2, 3]),
            (vec![3], None)
        );
        assert!(page(b"MaxResults=1").is_err());
        assert!(page(b"NextToken=x").is_err());
    }

    #[test]
    fn tags_are_checked() {
        let tags = |form: &[u8]| Node::parse(form).unwrap().tags();
        assert_eq!(tags(b"Tag.1.Key=a&Tag.1.Value=b").unwrap().len(), 1);
        assert!(tags(b"Tag.1.Key=aws:a&Tag.1.Value=b").is_err());
        assert!(tags(b"Tag.1.Key=a&Tag.1.Value=b&Tag.2.Key=a&Tag.2.Value=c").is_err());
    }
}
