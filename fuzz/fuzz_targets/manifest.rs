//! Documents of registries and archives: manifests, indexes, configurations, names, challenges.
//!
//! The first byte of the input says what the rest is.
#![no_main]

use image::config::ImageConfig;
use image::registry::auth::parse_challenges;
use image::registry::manifest::{Document, choose};
use image::{Digest, Platform, Reference};
use libfuzzer_sys::fuzz_target;

const TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json; charset=utf-8",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "text/plain",
];

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 8 {
        0 => document(rest, None),
        kind @ 1..=4 => document(rest, Some(TYPES[usize::from(kind) - 1])),
        5 => {
            let Ok(config) = ImageConfig::parse(rest) else { return };
            if let Ok(labels) = config.walt_labels() {
                assert!(!labels.models.is_empty());
                // They become parts of paths.
                assert!(labels.models.iter().all(|m| !m.is_empty() && !m.contains(['/', '.', '\0'])));
            }
        }
        6 => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            let Ok(reference) = text.parse::<Reference>() else { return };
            let full = reference.to_string();
            assert_eq!(full.parse::<Reference>().unwrap(), reference);
            assert_eq!(reference.familiar().parse::<Reference>().unwrap(), reference);
            // It becomes part of a URL.
            assert!(full.bytes().all(|b| b.is_ascii_graphic() && !b"?#%\\\"<>".contains(&b)), "{full}");
            assert!(!full.split('/').any(|part| part == ".." || part.is_empty()), "{full}");
        }
        _ => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            for challenge in parse_challenges(text.split('\n')) {
                assert!(!challenge.scheme.is_empty());
            }
            if let Ok(digest) = text.parse::<Digest>() {
                assert_eq!(digest.to_string(), text);
            }
        }
    }
});

fn document(json: &[u8], content_type: Option<&str>) {
    let Ok(Document::Index(entries)) = Document::parse(json, content_type) else { return };
    for platform in [Platform::amd64(), Platform::linux("arm", Some("v6")), Platform::linux("arm64", None)] {
        if let Some(entry) = choose(&entries, std::slice::from_ref(&platform)) {
            assert!(entry.platform.as_ref().is_none_or(|offered| platform.rank(offered).is_some()));
        }
    }
}
