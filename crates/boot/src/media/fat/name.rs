//! Names: eight and three capital letters, and entries of 13 characters each for the name as it really is.

use std::collections::HashSet;

use super::{ENTRY, FatError};

/// "LDIR_Ord with 0x40 is the last long entry of the set", which stands first.
const LAST: u8 = 0x40;
/// ATTR_LONG_NAME.
const LONG_NAME: u8 = 0x0f;
/// Where the 13 characters of a long entry are.
const CHARACTERS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// The names in a directory.
#[derive(Default)]
pub(super) struct Names {
    long: HashSet<String>,
    short: HashSet<[u8; 11]>,
}

/// How a name is written.
pub(super) struct Entries {
    /// Entries for the long name, as they stand in the directory. None if the short name says all.
    pub(super) long: Vec<[u8; ENTRY]>,
    pub(super) short: [u8; 11],
}

impl Names {
    /// Takes a name into the directory.
    pub(super) fn add(&mut self, name: &str) -> Result<Entries, FatError> {
        let allowed = |c: char| matches!(c, ' '..='~') && !r#""*/:<>?\|"#.contains(c);
        let inner = !name.starts_with(' ') && !name.ends_with([' ', '.']);
        if name.is_empty() || name.len() > 255 || !inner || !name.chars().all(allowed) {
            return Err(FatError::Name(name.to_owned()));
        }
        if !self.long.insert(name.to_ascii_lowercase()) {
            return Err(FatError::Twice(name.to_owned()));
        }
        let exact = short(name);
        let short = match exact.filter(|short| !self.short.contains(short)) {
            Some(short) => short,
            None => (1..)
                .map(|number| numbered(name, number))
                .find(|short| !self.short.contains(short))
                .expect("more numbers than entries of a directory"),
        };
        self.short.insert(short);
        // Firmware that reads short names alone finds START.ELF; everybody else sees start.elf.
        let says_all = exact == Some(short) && !name.contains(|c: char| c.is_ascii_lowercase());
        let long = if says_all { Vec::new() } else { long_entries(name, &short) };
        Ok(Entries { long, short })
    }
}

/// The name in capitals, if that is a short name.
fn short(name: &str) -> Option<[u8; 11]> {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let fits = |part: &str, length| part.len() <= length && part.bytes().all(fits_short);
    (!base.is_empty() && fits(base, 8) && fits(extension, 3)).then(|| padded(base, extension))
}

/// "Letters, digits, and $ % ' - _ @ ~ ` ! ( ) { } ^ # &".
fn fits_short(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"$%'-_@~`!(){}^#&".contains(&byte)
}

/// `BCM283~1.DTB`, as the specification's "basis-name generation algorithm" has it.
fn numbered(name: &str, number: u32) -> [u8; 11] {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let clean = |part: &str, length: usize| -> String {
        part.bytes().filter(|byte| fits_short(*byte)).map(char::from).take(length).collect()
    };
    let tail = format!("~{number}");
    padded(&format!("{}{tail}", clean(base, 8 - tail.len())), &clean(extension, 3))
}

fn padded(base: &str, extension: &str) -> [u8; 11] {
    let mut short = [b' '; 11];
    for (place, byte) in short[..8].iter_mut().zip(base.bytes()) {
        *place = byte.to_ascii_uppercase();
    }
    for (place, byte) in short[8..].iter_mut().zip(extension.bytes()) {
        *place = byte.to_ascii_uppercase();
    }
    short
}

fn long_entries(name: &str, short: &[u8; 11]) -> Vec<[u8; ENTRY]> {
    // "The sum of the short name", so that a long name whose file was renamed by old software is not believed.
    let sum = short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let mut characters: Vec<u16> = name.encode_utf16().collect();
    // "NUL-terminated and padded with 0xFFFF", unless it fills its last entry.
    if !characters.len().is_multiple_of(CHARACTERS.len()) {
        characters.push(0);
    }
    characters.resize(characters.len().next_multiple_of(CHARACTERS.len()), 0xffff);
    let count = characters.len() / CHARACTERS.len();
    let pieces = characters.chunks(CHARACTERS.len()).enumerate().map(|(number, piece)| {
        let mut entry = [0; ENTRY];
        entry[0] = (number + 1) as u8 | if number + 1 == count { LAST } else { 0 };
        entry[11] = LONG_NAME;
        entry[13] = sum;
        for (at, character) in CHARACTERS.iter().zip(piece) {
            entry[*at..at + 2].copy_from_slice(&character.to_le_bytes());
        }
        entry
    });
    let mut entries: Vec<_> = pieces.collect();
    entries.reverse();
    entries
}
