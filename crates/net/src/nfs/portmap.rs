//! The port mapper's answers: a fixed table.

use wire::portmap::{self, CALLIT, DUMP, GETPORT, Mapping, NULL, SET, TCP, UDP, UNSET};
use wire::rpc::AcceptStat;
use wire::xdr::{Reader, Writer};
use wire::{mount, nfs3};

/// Ports that clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) portmap: u16,
    pub(super) nfs: u16,
}

/// Writes the results of `procedure`; `Err` is the reply's status instead, `Ok(false)` no reply at all.
pub(super) fn answer(
    ports: Ports,
    procedure: u32,
    arguments: &mut Reader<'_>,
    out: &mut Writer,
) -> Result<bool, AcceptStat> {
    match procedure {
        NULL => {}
        GETPORT => {
            let wanted = Mapping::decode(arguments).map_err(|_| AcceptStat::GarbageArguments)?;
            out.u32(port(ports, &wanted));
        }
        DUMP => portmap::encode_dump(out, &table(ports)),
        // Nobody registers here.
        SET | UNSET => out.bool(false),
        // RFC 1833 §3.2: CALLIT is silent unless the call it forwards succeeds; we forward none.
        CALLIT => return Ok(false),
        _ => return Err(AcceptStat::ProcedureUnavailable),
    }
    Ok(true)
}

/// RFC 1833 §3.2: the port of the program; a version that is not there has none, so that the client
/// learns it here and need not be told by PROG_MISMATCH.
fn port(ports: Ports, wanted: &Mapping) -> u32 {
    table(ports)
        .iter()
        .find(|m| (m.program, m.version, m.protocol) == (wanted.program, wanted.version, wanted.protocol))
        .map_or(0, |m| m.port)
}

fn table(ports: Ports) -> [Mapping; 6] {
    let programs = [
        (portmap::PROGRAM, portmap::VERSION, ports.portmap),
        (mount::PROGRAM, mount::VERSION, ports.nfs),
        (nfs3::PROGRAM, nfs3::VERSION, ports.nfs),
    ];
    std::array::from_fn(|index| {
        let (program, version, port) = programs[index / 2];
        Mapping { program, version, protocol: [TCP, UDP][index % 2], port: u32::from(port) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc1833_section_3_2_getport() {
        let ports = Ports { portmap: 111, nfs: 2049 };
        let ask = |program, version, protocol| {
            let mut arguments = Writer::new();
            Mapping { program, version, protocol, port: 0 }.encode(&mut arguments);
            let mut out = Writer::new();
            assert_eq!(answer(ports, GETPORT, &mut Reader::new(arguments.bytes()), &mut out), Ok(true));
            Reader::new(out.bytes()).u32().unwrap()
        };
        for protocol in [TCP, UDP] {
            assert_eq!(ask(100_003, 3, protocol), 2049);
            assert_eq!(ask(100_005, 3, protocol), 2049);
            assert_eq!(ask(100_000, 2, protocol), 111);
        }
        assert_eq!(ask(100_003, 4, TCP), 0);
        assert_eq!(ask(100_003, 3, 1), 0);
        assert_eq!(ask(100_021, 4, TCP), 0);
    }

    #[test]
    fn nobody_registers_and_callit_is_silent() {
        let ports = Ports { portmap: 111, nfs: 2049 };
        let mut out = Writer::new();
        assert_eq!(answer(ports, SET, &mut Reader::new(&[]), &mut out), Ok(true));
        assert_eq!(out.bytes(), [0; 4]);
        assert_eq!(answer(ports, CALLIT, &mut Reader::new(&[]), &mut out), Ok(false));
        let garbage = answer(ports, GETPORT, &mut Reader::new(&[0; 12]), &mut out);
        assert_eq!(garbage, Err(AcceptStat::GarbageArguments));
        assert_eq!(answer(ports, 6, &mut Reader::new(&[]), &mut out), Err(AcceptStat::ProcedureUnavailable));
    }
}
