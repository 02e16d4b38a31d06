use super::*;

fn look(file: &[u8]) -> Option<Platform> {
    platform(&|offset, buf| {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
        let len = buf.len().min(file.len() - from);
        buf[..len].copy_from_slice(&file[from..from + len]);
        len
    })
}

fn said(file: &[u8]) -> Option<String> {
    look(file).map(|platform| platform.to_string())
}

/// The header of a program, and nothing else.
fn header(class: u8, data: u8, machine: u16) -> Vec<u8> {
    let mut file = vec![0; HEADER];
    file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, data, 1]);
    let order = |number: u16| if data == 2 { number.to_be_bytes() } else { number.to_le_bytes() };
    file[16..18].copy_from_slice(&order(2));
    file[18..20].copy_from_slice(&order(machine));
    file
}

/// A 32-bit ARM program with one section, of build attributes.
fn arm(attributes: &[u8]) -> Vec<u8> {
    let mut file = header(1, 1, 40);
    let table = file.len();
    file[32..36].copy_from_slice(&(table as u32).to_le_bytes());
    file[46..48].copy_from_slice(&(SECTION_HEADER as u16).to_le_bytes());
    file[48..50].copy_from_slice(&2_u16.to_le_bytes());
    // Section 0 is always empty.
    file.extend([0; 2 * SECTION_HEADER]);
    let at = table + SECTION_HEADER;
    file[at + 4..at + 8].copy_from_slice(&SHT_ARM_ATTRIBUTES.to_le_bytes());
    let start = file.len() as u32;
    file[at + 16..at + 20].copy_from_slice(&start.to_le_bytes());
    file[at + 20..at + 24].copy_from_slice(&(attributes.len() as u32).to_le_bytes());
    file.extend(attributes);
    file
}

/// A section of build attributes with these pairs, as gcc writes it.
fn attributes(pairs: &[u8]) -> Vec<u8> {
    let file = [&[1][..], &(5 + pairs.len() as u32).to_le_bytes(), pairs].concat();
    let vendor = [&b"aeabi\0"[..], &file].concat();
    [&b"A"[..], &(4 + vendor.len() as u32).to_le_bytes(), &vendor].concat()
}

#[test]
fn machines_by_their_header() {
    for (class, data, machine, expected) in [
        (2, 1, 62, "linux/amd64"),
        (1, 1, 62, "linux/amd64p32"),
        (1, 1, 3, "linux/386"),
        (2, 1, 183, "linux/arm64"),
        (2, 2, 183, "linux/arm64be"),
        (1, 1, 40, "linux/arm"),
        (1, 2, 40, "linux/armbe"),
        (2, 1, 243, "linux/riscv64"),
        (2, 2, 22, "linux/s390x"),
        (2, 1, 4711, "linux/machine-4711"),
    ] {
        assert_eq!(said(&header(class, data, machine)).as_deref(), Some(expected));
    }
}

#[test]
fn what_is_no_program_says_nothing() {
    let good = header(2, 1, 62);
    let with = |at: usize, byte: u8| {
        let mut file = good.clone();
        file[at] = byte;
        file
    };
    let object = with(16, 1);
    for file in [&b""[..], b"#!/bin/sh\n", b"\x7fELF", &good[..19], &with(4, 0), &with(4, 3), &with(5, 0), &object] {
        assert_eq!(look(file), None, "{file:?}");
    }
}

#[test]
fn arm_programs_say_which_processor_they_need() {
    // As `readelf -A` shows them of Debian's armhf and armel, and of Raspberry Pi OS.
    let armhf = b"\x05Cortex-A7\0\x06\x0a\x07A\x08\x01";
    let rpi = b"\x05ARM1176JZF-S\0\x06\x07\x08\x01";
    let armel = b"\x055TE\0\x06\x04\x08\x01";
    for (pairs, expected) in [
        (&armhf[..], "linux/arm/v7"),
        (rpi, "linux/arm/v6"),
        (armel, "linux/arm/v6"),
        (b"\x06\x0e", "linux/arm/v7"),
        // Tags before it: a number, an odd one above 32 with a text, an even one with a number of two bytes.
        (b"\x07A\x43text\0\x44\x81\x01\x06\x06", "linux/arm/v6"),
        (b"\x20\x01gnu\0\x06\x09", "linux/arm/v6"),
        // A microcontroller, and one that does not say.
        (b"\x06\x0b", "linux/arm"),
        (b"\x08\x01", "linux/arm"),
        (b"\x06", "linux/arm"),
    ] {
        assert_eq!(said(&arm(&attributes(pairs))).as_deref(), Some(expected), "{pairs:?}");
    }
    // Another vendor's come first; an attribute of a section says nothing of the file.
    let section = [&[2][..], &9_u32.to_le_bytes(), b"\x01\0\x06\x0a"].concat();
    let other = [&b"A"[..], &9_u32.to_le_bytes(), b"gnu\0\x06", &attributes(b"\x06\x06")[1..]].concat();
    assert_eq!(said(&arm(&other)).as_deref(), Some("linux/arm/v6"));
    let vendor = [&b"aeabi\0"[..], &section, &[1], &7_u32.to_le_bytes(), b"\x06\x06"].concat();
    let both = [&b"A"[..], &(4 + vendor.len() as u32).to_le_bytes(), &vendor].concat();
    assert_eq!(said(&arm(&both)).as_deref(), Some("linux/arm/v6"));
}

#[test]
fn a_damaged_section_leaves_the_machine() {
    let whole = arm(&attributes(b"\x06\x0a"));
    assert_eq!(said(&whole).as_deref(), Some("linux/arm/v7"));
    for len in 52..whole.len() {
        assert!(said(&whole[..len]).is_some_and(|said| said.starts_with("linux/arm")), "{len}");
    }
    for size in [0_u32, 3, u32::MAX] {
        let mut bad = attributes(b"\x06\x0a");
        bad[1..5].copy_from_slice(&size.to_le_bytes());
        assert_eq!(said(&arm(&bad)).as_deref(), Some("linux/arm"), "{size}");
    }
}

#[test]
fn a_real_program() {
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let expected = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        other => panic!("add {other} to the table"),
    };
    assert_eq!(said(&own).as_deref(), Some(expected));
}

/// No bytes make it panic, go on for long, or ask for much memory.
#[test]
fn random_bytes() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let seed = arm(&attributes(b"\x05Cortex-A7\0\x06\x0a\x07A\x20\x01gnu\0"));
    for _ in 0..200_000 {
        let mut file = seed.clone();
        // Behind what makes it an ARM program, anything: some bytes, and numbers at the ends of their range.
        for _ in 0..=next() % 6 {
            let at = 20 + next() as usize % (file.len() - 24);
            match next() % 4 {
                0 => file[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes()),
                1 => file[at..at + 4].copy_from_slice(&[0; 4]),
                _ => file[at] = next() as u8,
            }
        }
        file.truncate(20 + next() as usize % (file.len() - 19));
        look(&file);
        let noise: Vec<u8> = (0..next() % 200).map(|_| next() as u8).collect();
        look(&noise);
        look(&arm(&noise));
        look(&arm(&attributes(&noise)));
    }
}
