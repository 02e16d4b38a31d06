//! ONC-RPC version 2 (RFC 5531): call and reply headers, AUTH_NONE and AUTH_SYS credentials.

use crate::xdr::{Reader, Writer, XdrError};

/// Version of the protocol itself.
pub const RPC_VERSION: u32 = 2;
/// RFC 5531 §8.2: an `opaque_auth` body has at most 400 bytes.
const MAX_AUTH: u32 = 400;
/// RFC 5531 §14 (Appendix A): `machinename<255>`, `gids<16>`.
const MAX_MACHINE_NAME: u32 = 255;
const MAX_GIDS: u32 = 16;

const CALL: u32 = 0;
const REPLY: u32 = 1;
const AUTH_NONE: u32 = 0;
const AUTH_SYS: u32 = 1;
const MSG_ACCEPTED: u32 = 0;
const MSG_DENIED: u32 = 1;
const RPC_MISMATCH: u32 = 0;
const AUTH_ERROR: u32 = 1;

/// Who calls, as the caller says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// AUTH_NONE: nobody in particular.
    None,
    /// AUTH_SYS: Unix identity.
    Sys(UnixIdentity),
}

/// Body of AUTH_SYS (RFC 5531, Appendix A) without stamp and machine name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixIdentity {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    groups: [u32; MAX_GIDS as usize],
    group_count: u8,
}

impl UnixIdentity {
    /// An identity; only the first 16 supplementary groups are kept.
    pub fn new(uid: u32, gid: u32, supplementary: &[u32]) -> Self {
        let mut groups = [0; MAX_GIDS as usize];
        let count = supplementary.len().min(groups.len());
        groups[..count].copy_from_slice(&supplementary[..count]);
        Self { uid, gid, groups, group_count: count as u8 }
    }

    /// Supplementary groups, at most 16.
    pub fn groups(&self) -> &[u32] {
        &self.groups[..usize::from(self.group_count)]
    }

    /// Whether `gid` is the effective or a supplementary group.
    pub fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups().contains(&gid)
    }
}

/// Header of a call (RFC 5531 §9); the arguments follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Transaction, copied into the reply.
    pub xid: u32,
    /// Program number.
    pub program: u32,
    /// Version of the program.
    pub version: u32,
    /// Procedure of that version.
    pub procedure: u32,
    /// Who calls.
    pub credential: Credential,
}

/// Why a message is no call that can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No RPC call at all: there is nothing to answer to.
    #[error("message is no RPC call")]
    NotACall,
    /// A call that must be denied; the reply says why.
    #[error("call {xid:#x} denied: {reason:?}")]
    Denied {
        /// Transaction.
        xid: u32,
        /// Reason.
        reason: Denial,
    },
}

/// Reasons of MSG_DENIED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// RPC_MISMATCH: another version of RPC itself than 2.
    RpcVersion,
    /// AUTH_ERROR with this status.
    Auth(AuthStat),
}

/// `auth_stat` of RFC 5531 §9, as far as a server of ours says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthStat {
    /// AUTH_BADCRED: the credential is malformed.
    BadCredential = 1,
    /// AUTH_REJECTEDCRED: the kind of credential is not served here.
    RejectedCredential = 2,
    /// AUTH_BADVERF: the verifier is malformed.
    BadVerifier = 3,
    /// AUTH_TOOWEAK.
    TooWeak = 5,
}

impl Call {
    /// Reads the header of a call; `reader` is then at the arguments.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CallError> {
        let mut word = || reader.u32().map_err(|_| CallError::NotACall);
        let xid = word()?;
        if word()? != CALL {
            return Err(CallError::NotACall);
        }
        let denied = |reason| CallError::Denied { xid, reason };
        if word()? != RPC_VERSION {
            return Err(denied(Denial::RpcVersion));
        }
        let (program, version, procedure) = (word()?, word()?, word()?);
        let (flavor, body) = decode_auth(reader).map_err(|_| denied(Denial::Auth(AuthStat::BadCredential)))?;
        let credential = match flavor {
            AUTH_NONE => Credential::None,
            AUTH_SYS => decode_unix_identity(body)
                .map(Credential::Sys)
                .map_err(|_| denied(Denial::Auth(AuthStat::BadCredential)))?,
            _ => return Err(denied(Denial::Auth(AuthStat::RejectedCredential))),
        };
        // RFC 5531, Appendix A: the verifier that goes with AUTH_SYS says nothing; it must only be well-formed.
        decode_auth(reader).map_err(|_| denied(Denial::Auth(AuthStat::BadVerifier)))?;
        Ok(Self { xid, program, version, procedure, credential })
    }

    /// Writes the header; the arguments are to be written after it.
    pub fn encode(&self, out: &mut Writer) {
        for word in [self.xid, CALL, RPC_VERSION, self.program, self.version, self.procedure] {
            out.u32(word);
        }
        match &self.credential {
            Credential::None => encode_auth_none(out),
            Credential::Sys(identity) => {
                out.u32(AUTH_SYS);
                let length = out.len();
                out.u32(0);
                out.u32(0); // stamp
                out.opaque(b"walt");
                out.u32(identity.uid);
                out.u32(identity.gid);
                out.u32(u32::from(identity.group_count));
                identity.groups().iter().for_each(|gid| out.u32(*gid));
                out.set_u32(length, (out.len() - length - 4) as u32);
            }
        }
        encode_auth_none(out);
    }
}

fn decode_auth<'a>(reader: &mut Reader<'a>) -> Result<(u32, &'a [u8]), XdrError> {
    Ok((reader.u32()?, reader.opaque(MAX_AUTH)?))
}

fn encode_auth_none(out: &mut Writer) {
    out.u32(AUTH_NONE);
    out.u32(0);
}

fn decode_unix_identity(body: &[u8]) -> Result<UnixIdentity, XdrError> {
    let mut reader = Reader::new(body);
    let _stamp = reader.u32()?;
    let _machine = reader.opaque(MAX_MACHINE_NAME)?;
    let (uid, gid) = (reader.u32()?, reader.u32()?);
    let count = reader.u32()?;
    if count > MAX_GIDS {
        return Err(XdrError::TooLong { length: count, limit: MAX_GIDS });
    }
    let mut groups = [0; MAX_GIDS as usize];
    for group in &mut groups[..count as usize] {
        *group = reader.u32()?;
    }
    Ok(UnixIdentity { uid, gid, groups, group_count: count as u8 })
}

/// What became of an accepted call: `accept_stat` of RFC 5531 §9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptStat {
    /// SUCCESS: the results follow.
    Success,
    /// PROG_UNAVAIL: no such program here.
    ProgramUnavailable,
    /// PROG_MISMATCH: the program is there in versions `low..=high`.
    ProgramMismatch {
        /// Lowest version served.
        low: u32,
        /// Highest version served.
        high: u32,
    },
    /// PROC_UNAVAIL: the program has no such procedure.
    ProcedureUnavailable,
    /// GARBAGE_ARGS: the arguments can't be decoded.
    GarbageArguments,
    /// SYSTEM_ERR: the server could not do it.
    SystemError,
}

/// Writes the header of a reply to an accepted call; after SUCCESS the results are to follow.
pub fn encode_accepted(out: &mut Writer, xid: u32, stat: AcceptStat) {
    out.u32(xid);
    out.u32(REPLY);
    out.u32(MSG_ACCEPTED);
    encode_auth_none(out);
    match stat {
        AcceptStat::Success => out.u32(0),
        AcceptStat::ProgramUnavailable => out.u32(1),
        AcceptStat::ProgramMismatch { low, high } => {
            out.u32(2);
            out.u32(low);
            out.u32(high);
        }
        AcceptStat::ProcedureUnavailable => out.u32(3),
        AcceptStat::GarbageArguments => out.u32(4),
        AcceptStat::SystemError => out.u32(5),
    }
}

/// Writes the reply to a call that is denied.
pub fn encode_denied(out: &mut Writer, xid: u32, reason: Denial) {
    out.u32(xid);
    out.u32(REPLY);
    out.u32(MSG_DENIED);
    match reason {
        Denial::RpcVersion => {
            out.u32(RPC_MISMATCH);
            out.u32(RPC_VERSION);
            out.u32(RPC_VERSION);
        }
        Denial::Auth(stat) => {
            out.u32(AUTH_ERROR);
            out.u32(stat as u32);
        }
    }
}

/// Outcome of a call, as its reply says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server took the call; after `Success` the results follow.
    Accepted(AcceptStat),
    /// The server denied the call.
    Denied,
}

/// Reads the header of a reply: its transaction and outcome; `reader` is then at the results.
pub fn decode_reply(reader: &mut Reader<'_>) -> Result<(u32, Outcome), XdrError> {
    let xid = reader.u32()?;
    match reader.u32()? {
        REPLY => {}
        other => return Err(XdrError::BadValue(other)),
    }
    match reader.u32()? {
        MSG_ACCEPTED => {}
        MSG_DENIED => return Ok((xid, Outcome::Denied)),
        other => return Err(XdrError::BadValue(other)),
    }
    decode_auth(reader)?;
    let stat = match reader.u32()? {
        0 => AcceptStat::Success,
        1 => AcceptStat::ProgramUnavailable,
        2 => AcceptStat::ProgramMismatch { low: reader.u32()?, high: reader.u32()? },
        3 => AcceptStat::ProcedureUnavailable,
        4 => AcceptStat::GarbageArguments,
        5 => AcceptStat::SystemError,
        other => return Err(XdrError::BadValue(other)),
    };
    Ok((xid, Outcome::Accepted(stat)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(credential: Credential) -> Call {
        Call { xid: 9, program: 100_003, version: 3, procedure: 1, credential }
    }

    #[test]
    fn a_call_survives_the_round_trip() {
        let identity = UnixIdentity::new(1000, 100, &[4, 24, 27]);
        for credential in [Credential::None, Credential::Sys(identity)] {
            let mut out = Writer::new();
            call(credential).encode(&mut out);
            out.u32(0xfeed);
            let mut reader = Reader::new(out.bytes());
            assert_eq!(Call::decode(&mut reader), Ok(call(credential)));
            assert_eq!(reader.u32(), Ok(0xfeed));
        }
        assert!(identity.in_group(100) && identity.in_group(27) && !identity.in_group(0));
    }

    #[test]
    fn rfc5531_section_9_denials() {
        let mut out = Writer::new();
        call(Credential::None).encode(&mut out);
        let good = out.bytes().to_vec();
        let decode = |bytes: &[u8]| Call::decode(&mut Reader::new(bytes));
        let with = |at: usize, value: u32| {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
            bytes
        };
        let denied = |reason| Err(CallError::Denied { xid: 9, reason });
        assert_eq!(decode(&with(4, 1)), Err(CallError::NotACall));
        assert_eq!(decode(&with(8, 3)), denied(Denial::RpcVersion));
        // RPCSEC_GSS is not served.
        assert_eq!(decode(&with(24, 6)), denied(Denial::Auth(AuthStat::RejectedCredential)));
        assert_eq!(decode(&with(28, 401)), denied(Denial::Auth(AuthStat::BadCredential)));
        // AUTH_SYS with an empty body.
        assert_eq!(decode(&with(24, 1)), denied(Denial::Auth(AuthStat::BadCredential)));
        assert_eq!(decode(&with(36, 401)), denied(Denial::Auth(AuthStat::BadVerifier)));
        for length in 0..good.len() {
            assert!(decode(&good[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn rfc5531_appendix_a_at_most_16_groups() {
        let mut body = Writer::new();
        for word in [0, 0, 1000, 1000, 17] {
            body.u32(word);
        }
        (0..17).for_each(|gid| body.u32(gid));
        assert_eq!(decode_unix_identity(body.bytes()), Err(XdrError::TooLong { length: 17, limit: 16 }));
    }

    #[test]
    fn replies_are_read_as_written() {
        for stat in [
            AcceptStat::Success,
            AcceptStat::ProgramUnavailable,
            AcceptStat::ProgramMismatch { low: 2, high: 3 },
            AcceptStat::ProcedureUnavailable,
            AcceptStat::GarbageArguments,
            AcceptStat::SystemError,
        ] {
            let mut out = Writer::new();
            encode_accepted(&mut out, 5, stat);
            assert_eq!(decode_reply(&mut Reader::new(out.bytes())), Ok((5, Outcome::Accepted(stat))));
        }
        let mut out = Writer::new();
        encode_denied(&mut out, 5, Denial::Auth(AuthStat::RejectedCredential));
        assert_eq!(out.bytes(), [0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(decode_reply(&mut Reader::new(out.bytes())), Ok((5, Outcome::Denied)));
    }
}
