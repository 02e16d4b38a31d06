//! What a program is built for, told by its ELF header.
//!
//! Many images have a manifest that says nothing useful of their architecture, or lies: `docker build` on a PC writes
//! `amd64` over content that was unpacked from a Raspberry Pi. Their programs can not lie and run.

use crate::platform::Platform;

/// Bytes of the header of a 64-bit file; that of a 32-bit one has 52 (System V ABI, "ELF Header").
const HEADER: usize = 64;
/// Bytes of an entry of the section header table of a 32-bit file (System V ABI, "Section Header").
const SECTION_HEADER: usize = 40;
/// Most sections that are looked at; a program has some thirty.
const MAX_SECTIONS: usize = 512;
/// Most bytes of build attributes that are read; a program has some fifty.
const MAX_ATTRIBUTES: usize = 4096;
/// ELF for the Arm Architecture, "Sections".
const SHT_ARM_ATTRIBUTES: u32 = 0x7000_0003;

/// `e_machine` (System V ABI and its supplements), whether the file has 64 bits, whether its numbers are big-endian,
/// and Go's word for that, which OCI platforms use.
const MACHINES: [(u16, bool, bool, &str); 16] = [
    (62, true, false, "amd64"),
    (62, false, false, "amd64p32"),
    (3, false, false, "386"),
    (40, false, false, "arm"),
    (40, false, true, "armbe"),
    (183, true, false, "arm64"),
    (183, true, true, "arm64be"),
    (183, false, false, "arm64p32"),
    (243, true, false, "riscv64"),
    (243, false, false, "riscv"),
    (21, true, false, "ppc64le"),
    (21, true, true, "ppc64"),
    (22, true, true, "s390x"),
    (8, false, false, "mipsle"),
    (8, false, true, "mips"),
    (258, true, false, "loong64"),
];

/// What the program is built for; `None` if it is no ELF file of Linux.
///
/// `read` is as `pread(2)`: fewer bytes than asked for at the end of the file, or where it can not be read. A 32-bit
/// ARM program that does not say which variant it needs gets none.
pub fn platform(read: &dyn Fn(u64, &mut [u8]) -> usize) -> Option<Platform> {
    let mut header = [0; HEADER];
    let len = read(0, &mut header).min(HEADER);
    let file = Bytes { bytes: &header[..len], big_endian: header[5] == 2 };
    // e_ident: magic, EI_CLASS (1: 32 bits, 2: 64), EI_DATA (1: little-endian, 2: big).
    if file.bytes.get(..4)? != b"\x7fELF" || !matches!(header[4], 1 | 2) || !matches!(header[5], 1 | 2) {
        return None;
    }
    // e_type: a program, or one that may lie anywhere (as every dynamic loader). An object or a core dump is neither.
    if !matches!(file.u16(16)?, 2 | 3) {
        return None;
    }
    let (machine, is_64) = (file.u16(18)?, header[4] == 2);
    let known =
        MACHINES.iter().find(|(of, bits_64, big, _)| (*of, *bits_64, *big) == (machine, is_64, file.big_endian));
    let Some((.., name)) = known else {
        return Some(Platform::linux(&format!("machine-{machine}"), None));
    };
    let variant = if *name == "arm" { arm_variant(&file, read) } else { None };
    Some(Platform::linux(name, variant))
}

/// The least processor that a 32-bit ARM program runs on, by its build attributes.
fn arm_variant(header: &Bytes<'_>, read: &dyn Fn(u64, &mut [u8]) -> usize) -> Option<&'static str> {
    let (offset, size, count) = (header.u32(32)?, header.u16(46)?, header.u16(48)?);
    if usize::from(size) != SECTION_HEADER {
        return None;
    }
    let mut table = vec![0; usize::from(count).min(MAX_SECTIONS) * SECTION_HEADER];
    let len = read(u64::from(offset), &mut table).min(table.len());
    let sections = table[..len].chunks_exact(SECTION_HEADER).map(|bytes| Bytes { bytes, ..*header });
    let attributes = sections.into_iter().find(|section| section.u32(4) == Some(SHT_ARM_ATTRIBUTES))?;
    let (offset, size) = (attributes.u32(16)?, attributes.u32(20)?);
    let mut content = vec![0; usize::try_from(size).ok()?.min(MAX_ATTRIBUTES)];
    let len = read(u64::from(offset), &mut content).min(content.len());
    variant_of(cpu_arch(&Bytes { bytes: &content[..len], ..*header })?)
}

/// Values of `Tag_CPU_arch` (Addenda to the ABI for the Arm Architecture, "The target-related attributes").
fn variant_of(cpu_arch: u64) -> Option<&'static str> {
    match cpu_arch {
        // Pre-v4 to v6K; what is older than v6 runs on v6.
        0..=9 => Some("v6"),
        10 => Some("v7"),
        // v6-M, v6S-M, v7E-M, v8-M, v8.1-M: microcontrollers, which Linux does not know.
        11..=13 | 16 | 17 | 21 => None,
        // v8-A and later, as a 32-bit program: the oldest that we tell apart is v7.
        _ => Some("v7"),
    }
}

/// `Tag_CPU_arch` of a build attributes section (Addenda to the ABI for the Arm Architecture, "Representing build
/// attributes in ELF files"): `A`, then for each vendor a length, a name, and sub-sections of a tag, a length and
/// pairs of tag and value.
fn cpu_arch(section: &Bytes<'_>) -> Option<u64> {
    /// Vendor of the public attributes.
    const VENDOR: &[u8] = b"aeabi\0";
    const TAG_FILE: u8 = 1;
    const TAG_CPU_RAW_NAME: u64 = 4;
    const TAG_CPU_NAME: u64 = 5;
    const TAG_CPU_ARCH: u64 = 6;
    const TAG_COMPATIBILITY: u64 = 32;
    let mut rest = section.bytes.strip_prefix(b"A")?;
    while !rest.is_empty() {
        let (vendor, after) = Bytes { bytes: rest, ..*section }.sized(0)?;
        rest = after;
        let Some(mut subsections) = vendor.get(4..)?.strip_prefix(VENDOR) else { continue };
        while let Some(tag) = subsections.first() {
            let (subsection, after) = Bytes { bytes: subsections, ..*section }.sized(1)?;
            subsections = after;
            if *tag != TAG_FILE {
                continue;
            }
            let mut pairs = subsection.get(5..)?;
            while !pairs.is_empty() {
                let tag = uleb128(&mut pairs)?;
                match tag {
                    TAG_CPU_ARCH => return uleb128(&mut pairs),
                    TAG_COMPATIBILITY => {
                        uleb128(&mut pairs)?;
                        text(&mut pairs)?;
                    }
                    TAG_CPU_RAW_NAME | TAG_CPU_NAME => text(&mut pairs)?,
                    // Above 32, odd tags have a text and even ones a number; below it, all others have a number.
                    tag if tag > TAG_COMPATIBILITY && tag % 2 == 1 => text(&mut pairs)?,
                    _ => drop(uleb128(&mut pairs)?),
                }
            }
        }
    }
    None
}

/// Takes a number in base 128, the lowest digits first (DWARF 4, §7.6).
fn uleb128(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Takes a text that ends with NUL.
fn text(bytes: &mut &[u8]) -> Option<()> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    *bytes = &bytes[end + 1..];
    Some(())
}

/// Bytes whose numbers have the order of the file.
#[derive(Clone, Copy)]
struct Bytes<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl<'a> Bytes<'a> {
    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u16::from_be_bytes(*bytes) } else { u16::from_le_bytes(*bytes) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) })
    }

    /// Splits where the part ends whose length, itself and all that is before it included, stands at `at`.
    fn sized(&self, at: usize) -> Option<(&'a [u8], &'a [u8])> {
        let len = usize::try_from(self.u32(at)?).ok()?;
        // A part is longer than its length: so each step gets on.
        if len < at + 4 {
            return None;
        }
        self.bytes.split_at_checked(len)
    }
}

#[cfg(test)]
mod tests;
