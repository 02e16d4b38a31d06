//! Metrics as text (Prometheus text format 0.0.4).

use std::fmt::{Display, Write};

/// A text of metrics that grows.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

/// Kind of a metric.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Exposition {
    /// Begins a metric; its values follow.
    pub(super) fn metric(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string can not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A value of the metric that was begun last.
    pub(super) fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if at == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A metric that is one value.
    pub(super) fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.value(name, &[], value);
    }

    /// All of it.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_help_are_escaped() {
        let mut text = Exposition::default();
        text.metric("a", Kind::Gauge, "one\\two\nlines");
        text.value("a", &[("b", "x\"y\\z\n"), ("c", "")], 1.5);
        text.single("d_total", Kind::Counter, "d", 2);
        let expected = "# HELP a one\\\\two\\nlines\n# TYPE a gauge\na{b=\"x\\\"y\\\\z\\n\",c=\"\"} 1.5\n\
                        # HELP d_total d\n# TYPE d_total counter\nd_total 2\n";
        assert_eq!(text.into_text(), expected);
    }
}
