//! What a name stood for when its image came, as text.

use image::Platform;
use image::store::Source;
use serde_json::{Value, json};

/// `plain`, or a JSON object with what an index offered and what was chosen.
pub(super) fn to_text(source: &Source) -> String {
    match source {
        Source::Plain => "plain".to_owned(),
        Source::Index { offered, chosen } => {
            let text = |platform: &Platform| platform.to_string();
            json!({
                "offered": offered.iter().map(text).collect::<Vec<_>>(),
                "chosen": chosen.as_ref().map(text),
            })
            .to_string()
        }
    }
}

/// Reads it. What makes no sense is taken for an index of which nothing is known: then nothing is concluded from it for
/// other machines.
pub(super) fn of_text(text: &str) -> Source {
    if text == "plain" {
        return Source::Plain;
    }
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let platform = |value: &Value| value.as_str()?.parse::<Platform>().ok();
    let offered = value["offered"].as_array().map(Vec::as_slice).unwrap_or_default();
    let offered: Option<Vec<_>> = offered.iter().map(platform).collect();
    Source::Index { offered: offered.unwrap_or_default(), chosen: platform(&value["chosen"]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_is_written() {
        let (amd64, arm) = (Platform::amd64(), Platform::linux("arm", Some("v7")));
        for source in [
            Source::Plain,
            Source::Index { offered: vec![amd64.clone(), arm.clone()], chosen: Some(arm) },
            Source::Index { offered: Vec::new(), chosen: None },
        ] {
            assert_eq!(of_text(&to_text(&source)), source);
        }
        let unknown = Source::Index { offered: Vec::new(), chosen: None };
        for text in ["", "x", "[]", r#"{"offered":["x"],"chosen":1}"#] {
            assert_eq!(of_text(text), unknown, "{text}");
        }
        // A platform of somebody's invention can not be read again: then the whole list is nothing to go by.
        let odd = Source::Index { offered: vec![amd64, Platform::linux("a b", None)], chosen: None };
        assert_eq!(of_text(&to_text(&odd)), unknown);
    }
}
