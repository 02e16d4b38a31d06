use super::super::testing::Packet;
use super::*;
use crate::MacAddr;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 5, 1);
const BIOS: &[u8] = b"PXEClient:Arch:00000:UNDI:002001";
const UEFI: &[u8] = b"PXEClient:Arch:00007:UNDI:003016";

#[test]
fn each_client_gets_its_boot_file() {
    let vci = |vci: &[u8]| Packet::new(1).option(60, vci);
    let arch = |arch: u8| Packet::new(1).option(60, b"PXEClient").option(93, &[0, arch]);
    let pi = |oui: [u8; 3]| vci(BIOS).option(93, &[0, 0]).mac(MacAddr([oui[0], oui[1], oui[2], 1, 2, 3]));
    let cases: &[(&str, Packet, Client, Option<&str>)] = &[
        ("BIOS PXE", vci(BIOS).option(93, &[0, 0]), Client::PxeBios, Some("pxe/undionly.kpxe")),
        ("arch 0", arch(0), Client::PxeBios, Some("pxe/undionly.kpxe")),
        ("arch 7", arch(7), Client::PxeUefi, Some("pxe/snponly.efi")),
        ("arch 9", arch(9), Client::PxeUefi, Some("pxe/snponly.efi")),
        ("no option 93: the class tells", vci(UEFI), Client::PxeUefi, Some("pxe/snponly.efi")),
        ("arm64 UEFI: nothing to give", arch(11), Client::Other, None),
        ("no architecture at all", vci(b"PXEClient"), Client::Other, None),
        (
            "HTTP boot",
            vci(b"HTTPClient:Arch:00016:UNDI:003001").option(93, &[0, 16]),
            Client::HttpUefi,
            Some("http://192.168.5.1/boot/pxe/snponly.efi"),
        ),
        ("HTTP boot of 32 bits", vci(b"HTTPClient:Arch:00015:UNDI:003001"), Client::Other, None),
        (
            "iPXE in a PXE ROM",
            vci(BIOS).option(93, &[0, 0]).option(77, b"iPXE"),
            Client::Ipxe { http: false },
            Some("pxe/walt.ipxe"),
        ),
        (
            "iPXE, RFC 3004",
            vci(UEFI).option(93, &[0, 7]).option(77, b"\x04iPXE"),
            Client::Ipxe { http: false },
            Some("pxe/walt.ipxe"),
        ),
        (
            "iPXE with HTTP",
            vci(UEFI).option(93, &[0, 7]).option(77, b"iPXE").option(175, &[0x12, 1, 1, 0x13, 1, 1]),
            Client::Ipxe { http: true },
            Some("http://192.168.5.1/boot/pxe/walt.ipxe"),
        ),
        (
            "iPXE whose options are cut short",
            vci(UEFI).option(93, &[0, 7]).option(77, b"iPXE").option(175, &[0x12, 9, 1, 0x13, 1, 1]),
            Client::Ipxe { http: false },
            Some("pxe/walt.ipxe"),
        ),
        ("iPXE of ours", vci(BIOS).option(77, b"walt.node.pc-x86-64"), Client::WaltNode, None),
        ("iPXE of ours, RFC 3004", vci(BIOS).option(77, b"\x13walt.node.pc-x86-64"), Client::WaltNode, None),
        ("U-Boot of ours", vci(b"walt.node.rpi-3-b"), Client::WaltNode, None),
        ("Raspberry Pi 3", pi([0xb8, 0x27, 0xeb]), Client::RaspberryPi, None),
        ("Raspberry Pi 4", pi([0xdc, 0xa6, 0x32]), Client::RaspberryPi, None),
        (
            "Raspberry Pi 4 with another MAC",
            vci(BIOS).option(93, &[0, 0]).option(97, b"\0RPi4\x11\x31\x03\0"),
            Client::RaspberryPi,
            None,
        ),
        ("a Pi's Linux", Packet::new(1).mac(MacAddr([0xb8, 0x27, 0xeb, 1, 2, 3])), Client::Other, None),
        ("a laptop", vci(b"MSFT 5.0"), Client::Other, None),
        ("nothing said", Packet::new(1), Client::Other, None),
    ];
    for (name, packet, client, file) in cases {
        let found = Client::of(&packet.request());
        assert_eq!(found, *client, "{name}");
        assert_eq!(found.boot_file(SERVER, UefiLoader::SnpOnly).as_deref(), *file, "{name}");
    }
}

#[test]
fn the_uefi_loader_is_a_setting() {
    assert_eq!(Client::PxeUefi.boot_file(SERVER, UefiLoader::Ipxe).as_deref(), Some("pxe/ipxe.efi"));
    let url = Client::HttpUefi.boot_file(SERVER, UefiLoader::Ipxe);
    assert_eq!(url.as_deref(), Some("http://192.168.5.1/boot/pxe/ipxe.efi"));
}

#[test]
fn pxe_2_1_vendor_options() {
    assert_eq!(Client::PxeBios.vendor_options(), Some(&[6, 1, 8, 255][..]));
    for quiet in [Client::Ipxe { http: false }, Client::WaltNode, Client::HttpUefi, Client::Other] {
        assert_eq!(quiet.vendor_options(), None, "{quiet:?}");
    }
}

/// Raspberry Pi documentation, boot-net.adoc, "DHCP Request / Reply": option 43 of the offer, as tcpdump shows it.
#[test]
fn boot_net_adoc_option_43() {
    let documented =
        "6.1.3.10.4.0.80.88.69.9.20.0.0.17.82.97.115.112.98.101.114.114.121.32.80.105.32.66.111.111.116.255";
    let documented: Vec<u8> = documented.split('.').map(|byte| byte.parse().unwrap()).collect();
    let ours = Client::RaspberryPi.vendor_options().unwrap();
    assert_eq!(ours, documented);
    // PXE 2.1 §2.2.3: PXE_BOOT_MENU (9) holds, for each entry, its type, its length and its text.
    let menu = ours.windows(2).position(|tag| tag == [9, 20]).unwrap();
    assert_eq!(ours[menu + 2..menu + 5], [0, 0, 17]);
    assert_eq!(&ours[menu + 5..menu + 22], b"Raspberry Pi Boot");
}
