//! Names of models, nodes and images.

/// True for what may be a node model: it becomes part of paths, so nothing but lower-case letters,
/// digits and dashes, 1 to 64 of them, the first a letter.
pub fn is_model(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Words that mean something else where a device is named.
const NOT_A_NAME: [&str; 8] =
    ["server", "walt-server", "default", "my-nodes", "free-nodes", "all-nodes", "all-switches", "all-devices"];

/// True for what may be the name of a device: a host name in lower case (RFC 1123 §2.1), up to 63 letters, digits and
/// dashes, that begins with a letter, does not end with a dash, and is not a word with another meaning.
pub fn is_device_name(text: &str) -> bool {
    text.len() <= 63 && is_model(text) && !text.ends_with('-') && !NOT_A_NAME.contains(&text)
}

/// Model that a vendor class identifier or user class names: `walt.node.<model>`.
pub fn model_of_class<'a>(vci: &'a str, uci: &'a str) -> Option<&'a str> {
    // The user class may carry length bytes before its text (RFC 3004 §4), and a vendor class may
    // have a NUL after it: look for the prefix, and cut at the first byte that no model contains.
    [vci, uci].into_iter().find_map(|class| {
        let (_, rest) = class.split_once("walt.node.")?;
        let end =
            rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')).unwrap_or(rest.len());
        Some(&rest[..end]).filter(|model| is_model(model))
    })
}

/// Board that the first stage has no model for, by the name of its device tree or what else it knows of it:
/// `walt.node.unknown-<board>`. Made of what a model is made of: other characters of file names become dashes, and it has at
/// most 64 bytes. `None` if nothing of a name is left.
pub fn board_of_class(vci: &str, uci: &str) -> Option<String> {
    [vci, uci].into_iter().find_map(|class| {
        let (_, rest) = class.split_once("walt.node.unknown-")?;
        let of_file_name = |c: &char| c.is_ascii_alphanumeric() || "-_.,+".contains(*c);
        let text: String = rest.chars().take_while(of_file_name).take(64).collect();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let board = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
        Some(board).filter(|board| !board.is_empty())
    })
}

/// Full form of an image name: registry, repository and tag are spelled out
/// (`debian` → `docker.io/library/debian:latest`).
///
/// # Errors
/// It is no image name.
pub fn full_image_name(name: &str) -> Result<String, image::reference::ParseReferenceError> {
    Ok(name.parse::<image::Reference>()?.to_string())
}

/// User that an image belongs to: `ada` for `docker.io/ada/tiny:v1`. Images of other registries, those of no user
/// (`library`) and those of the platform (`waltplatform`) belong to nobody.
pub fn owner_of_image(full_name: &str) -> Option<&str> {
    let (user, rest) = full_name.strip_prefix("docker.io/")?.split_once('/')?;
    (!rest.contains('/') && !["library", "waltplatform"].contains(&user)).then_some(user)
}

/// The one of `candidates` that `wrong` was probably meant to be.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(wrong, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names() {
        for (name, full) in [
            ("debian", "docker.io/library/debian:latest"),
            ("waltplatform/pc-x86-64-default", "docker.io/waltplatform/pc-x86-64-default:latest"),
            ("localhost:5000/tiny:v1", "localhost:5000/tiny:v1"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("10.0.0.1:5000/tiny", "10.0.0.1:5000/tiny:latest"),
        ] {
            assert_eq!(full_image_name(name).as_deref(), Ok(full));
        }
        for wrong in ["", "A", "a b", "a/../b", "a:", "/a", "a//b", "host.x/", "a:b c"] {
            assert!(full_image_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_of_devices() {
        for name in ["a", "node-0a1b2c", "kitchen", "rpi3"] {
            assert!(is_device_name(name), "{name}");
        }
        for name in ["", "Kitchen", "a.b", "a_b", "-a", "a-", "3d", "server", "my-nodes", "..", &"x".repeat(64)] {
            assert!(!is_device_name(name), "{name}");
        }
    }

    #[test]
    fn owners_of_images() {
        for (name, owner) in [
            ("docker.io/ada/tiny:v1", Some("ada")),
            ("docker.io/library/debian:latest", None),
            ("docker.io/waltplatform/rpi-3-b-default:latest", None),
            ("docker.io/a/b/c:latest", None),
            ("localhost:5000/ada/tiny:v1", None),
        ] {
            assert_eq!(owner_of_image(name), owner, "{name}");
        }
    }

    #[test]
    fn models_of_classes() {
        for (vci, uci, model) in [
            ("walt.node.pc-x86-64", "", Some("pc-x86-64")),
            ("PXEClient", "walt.node.rpi-3-b", Some("rpi-3-b")),
            ("", "\u{15}walt.node.rpi-3-b\0", Some("rpi-3-b")),
            ("walt.node.", "", None),
            ("walt.node.../etc", "", None),
            ("PXEClient:Arch:00000", "iPXE", None),
        ] {
            assert_eq!(model_of_class(vci, uci), model, "{vci:?} {uci:?}");
        }
    }

    #[test]
    fn boards_of_classes() {
        for (vci, uci, board) in [
            ("walt.node.unknown-bcm2711-rpi-cm4", "", Some("bcm2711-rpi-cm4")),
            ("walt.node.unknown-socfpga_cyclone5_DE0\0", "", Some("socfpga-cyclone5-de0")),
            ("", "\u{9}walt.node.unknown-a..b/../c", Some("a-b")),
            ("walt.node.unknown-", "", None),
            ("walt.node.unknown--._", "", None),
            ("walt.node.unknown-\u{1b}[2J", "", None),
            ("walt.node.rpi-3-b", "", None),
        ] {
            assert_eq!(board_of_class(vci, uci).as_deref(), board, "{vci:?} {uci:?}");
        }
        let long = board_of_class(&format!("walt.node.unknown-{}", "x".repeat(255)), "").unwrap();
        assert_eq!(long.len(), 64);
    }

    #[test]
    fn nearest_name() {
        let names = ["node-00aa01", "node-00aa02", "server"];
        assert_eq!(nearest("node-00aa1", names), Some("node-00aa01"));
        assert_eq!(nearest("zzz", names), None);
    }
}
