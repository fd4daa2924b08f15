//! XML as AWS prints it.

use std::fmt::Display;

/// A document, or a piece of one, that grows.
#[derive(Debug, Default)]
pub(crate) struct Xml {
    text: String,
    depth: usize,
}

impl Xml {
    /// A piece to be put inside a root element.
    pub(crate) fn piece() -> Self {
        Xml {
            text: String::new(),
            depth: 1,
        }
    }

    /// A whole document around a piece.
    pub(crate) fn document(root: &str, namespace: Option<&str>, piece: Xml) -> String {
        let namespace = namespace.map_or(String::new(), |uri| format!(" xmlns=\"{uri}\""));
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}{namespace}>\n{}</{root}>\n",
            piece.text
        )
    }

    /// The piece with something before it.
    pub(crate) fn after(self, fill: impl FnOnce(&mut Xml)) -> Xml {
        let mut whole = Xml::piece();
        fill(&mut whole);
        whole.text.push_str(&self.text);
        whole
    }

    /// Puts a piece here.
    pub(crate) fn put(&mut self, piece: Xml) {
        self.text.push_str(&piece.text);
    }

    fn indent(&mut self) {
        self.text.extend(std::iter::repeat_n("    ", self.depth));
    }

    /// `<name>value</name>`
    pub(crate) fn text(&mut self, name: &str, value: impl Display) {
        self.indent();
        let value = escape(&value.to_string());
        self.text.push_str(&format!("<{name}>{value}</{name}>\n"));
    }

    /// The same, when there is a value.
    pub(crate) fn maybe(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// An element with others inside.
    pub(crate) fn node(&mut self, name: &str, fill: impl FnOnce(&mut Xml)) {
        self.indent();
        let start = self.text.len();
        self.text.push_str(&format!("<{name}>\n"));
        let inside = self.text.len();
        self.depth += 1;
        fill(self);
        self.depth -= 1;
        if self.text.len() == inside {
            self.text.truncate(start);
            self.text.push_str(&format!("<{name}/>\n"));
        } else {
            self.indent();
            self.text.push_str(&format!("</{name}>\n"));
        }
    }

    /// `<name><item>…</item>…</name>`
    pub(crate) fn set<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        fill: impl Fn(&mut Xml, T),
    ) {
        self.node(name, |set| {
            for item in items {
                set.node("item", |xml| fill(xml, item));
            }
        });
    }

    /// `<name><item>word</item>…</name>`
    pub(crate) fn words<'a>(&mut self, name: &str, words: impl IntoIterator<Item = &'a str>) {
        self.node(name, |set| {
            for word in words {
                set.text("item", word);
            }
        });
    }

    /// A tag set.
    pub(crate) fn tags(&mut self, tags: &super::state::Tags) {
        if !tags.is_empty() {
            self.set("tagSet", tags, |xml, (key, value)| {
                xml.text("key", key);
                xml.text("value", value);
            });
        }
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_nested_and_escaped() {
        let mut xml = Xml::piece();
        xml.text("a", "<&>");
        xml.set("list", [1, 2], |xml, n| xml.text("n", n));
        xml.set("none", [0; 0], |xml, n| xml.text("n", n));
        assert_eq!(
            Xml::document("R", Some("urn:x"), xml),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<R xmlns=\"urn:x\">\n    \
             <a>&lt;&amp;&gt;</a>\n    <list>\n        <item>\n            <n>1</n>\n        \
             </item>\n        <item>\n            <n>2</n>\n        </item>\n    </list>\n    \
             <none/>\n</R>\n"
        );
    }
}
