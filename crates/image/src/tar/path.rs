//! Names of entries: brought into the image, whatever they say.

use super::{MAX_PATH, TarErrorReason};

/// What an entry's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// An object at this path.
    Object(Box<[u8]>),
    /// The path that a whiteout hides.
    Whiteout(Box<[u8]>),
    /// The directory that is opaque.
    Opaque(Box<[u8]>),
    /// Book-keeping of the AUFS storage driver, which is no part of the image.
    AufsMetadata,
}

/// Longest name of a directory entry, as `NAME_MAX`.
const MAX_NAME: usize = 255;
const WHITEOUT: &[u8] = b".wh.";
/// AUFS's own names: `.wh..wh.plnk` and the like.
const METADATA: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Reads an entry's name (OCI image specification, "Whiteouts").
pub(super) fn classify(raw: &[u8]) -> Result<Name, TarErrorReason> {
    let path = normalise(raw)?;
    let (parent, name) = match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], &path[..]),
    };
    match parent.split(|&b| b == b'/').find(|component| component.starts_with(WHITEOUT)) {
        Some(component) if component.starts_with(METADATA) => return Ok(Name::AufsMetadata),
        Some(_) => return Err(TarErrorReason::Whiteout),
        None => {}
    }
    if name == OPAQUE {
        return Ok(Name::Opaque(parent.into()));
    }
    if name.starts_with(METADATA) {
        return Ok(Name::AufsMetadata);
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Name::Object(path)),
        Some(b"" | b"." | b"..") => Err(TarErrorReason::Whiteout),
        Some(hidden) if parent.is_empty() => Ok(Name::Whiteout(hidden.into())),
        Some(hidden) => Ok(Name::Whiteout([parent, b"/", hidden].concat().into())),
    }
}

/// Removes empty components, `.`, and `..` together with what it takes back: a path that climbs
/// above the root or starts there ends up inside of the image.
pub(super) fn normalise(raw: &[u8]) -> Result<Box<[u8]>, TarErrorReason> {
    if raw.contains(&0) {
        return Err(TarErrorReason::NulInPath);
    }
    let mut path: Vec<u8> = Vec::with_capacity(raw.len());
    for component in raw.split(|&b| b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => path.truncate(path.iter().rposition(|&b| b == b'/').unwrap_or(0)),
            name if name.len() > MAX_NAME => return Err(TarErrorReason::NameTooLong),
            name => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend(name);
            }
        }
    }
    if path.len() > MAX_PATH {
        return Err(TarErrorReason::PathTooLong);
    }
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for (raw, expected) in [
            ("./", ""),
            ("/", ""),
            ("", ""),
            ("./etc/./passwd", "etc/passwd"),
            ("/etc//passwd/", "etc/passwd"),
            ("../../etc/passwd", "etc/passwd"),
            ("a/../../../b", "b"),
            ("a/b/../c", "a/c"),
            ("..", ""),
            ("...", "..."),
        ] {
            assert_eq!(&*normalise(raw.as_bytes()).unwrap(), expected.as_bytes(), "{raw}");
        }
        assert_eq!(normalise(b"a\0b"), Err(TarErrorReason::NulInPath));
        assert!(normalise(&[b'a'; 255]).is_ok());
        assert_eq!(normalise(&[b'a'; 256]), Err(TarErrorReason::NameTooLong));
        assert!(normalise(&[b"a/".repeat(2047), b"a".to_vec()].concat()).is_ok());
        assert_eq!(normalise(&b"a/".repeat(2049)), Err(TarErrorReason::PathTooLong));
    }

    #[test]
    fn whiteouts_are_told_from_objects() {
        let object = |p: &str| Ok(Name::Object(p.as_bytes().into()));
        let whiteout = |p: &str| Ok(Name::Whiteout(p.as_bytes().into()));
        for (raw, expected) in [
            ("a/wh.b", object("a/wh.b")),
            ("a/.wh", object("a/.wh")),
            (".wh.a", whiteout("a")),
            ("./d/.wh.a", whiteout("d/a")),
            ("d/.wh..a", whiteout("d/.a")),
            ("d/.wh.", Err(TarErrorReason::Whiteout)),
            ("d/.wh..", Err(TarErrorReason::Whiteout)),
            ("d/.wh...", Err(TarErrorReason::Whiteout)),
            (".wh.d/a", Err(TarErrorReason::Whiteout)),
            (".wh..wh..opq", Ok(Name::Opaque(b"".as_slice().into()))),
            ("a/b/.wh..wh..opq", Ok(Name::Opaque(b"a/b".as_slice().into()))),
            (".wh..wh.plnk/12.3", Ok(Name::AufsMetadata)),
            (".wh..wh.aufs", Ok(Name::AufsMetadata)),
        ] {
            assert_eq!(classify(raw.as_bytes()), expected, "{raw}");
        }
    }
}
