//! What to answer to a request.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};

use super::body::{Body, FileBody};
use super::range::{Wanted, wanted};
use super::{Site, count};
use crate::Event;
use crate::bootfile::{BootFile, Unavailable, place_of_http};

/// Answers `method` on `path` (percent-encoded, without the query).
pub(super) fn answer(
    client: Ipv4Addr,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    site: &Site,
) -> Response<Body> {
    if method != Method::GET && method != Method::HEAD {
        count(&site.counters.refused);
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this server is read-only");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let bytes = percent_decode(path.as_bytes());
    let shown = String::from_utf8_lossy(&bytes).into_owned();
    match site.files.open(client, &place_of_http(&bytes)) {
        Ok(file) => {
            let plan = plan(headers, file.size(), &etag(&file), file.modified());
            found(client, method, shown, file, plan, site)
        }
        Err(why) => {
            count(&site.counters.unavailable);
            let duration = Duration::ZERO;
            let error = Some(why.to_string());
            site.events.send(Event::FileServed { client, service: "http", path: shown, bytes: 0, duration, error });
            unavailable(&why)
        }
    }
}

fn unavailable(why: &Unavailable) -> Response<Body> {
    let status = match why {
        Unavailable::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        Unavailable::NotFound | Unavailable::NoFirmware(_) => StatusCode::NOT_FOUND,
        Unavailable::NoNode(_) | Unavailable::Refused(_) => StatusCode::FORBIDDEN,
    };
    // No Retry-After: iPXE obeys it by asking again for ever, showing dots, while a reboot shows what is the matter
    // and lets it find a server or a name that has changed.
    text(status, &why.to_string())
}

fn found(client: Ipv4Addr, method: &Method, path: String, file: BootFile, plan: Plan, site: &Site) -> Response<Body> {
    let (size, tag, modified) = (file.size(), etag(&file), file.modified());
    let (status, range) = match plan {
        Plan::NotModified => (StatusCode::NOT_MODIFIED, None),
        Plan::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, None),
        Plan::Whole => (StatusCode::OK, Some(0..size)),
        Plan::Part(ref range) => (StatusCode::PARTIAL_CONTENT, Some(range.clone())),
    };
    let length = range.as_ref().map(|range| range.end - range.start);
    let body = match range {
        Some(range) if method == Method::GET => {
            Body::File(FileBody::new(file, range, client, path, site.events.clone()))
        }
        _ => Body::Text(Bytes::new()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: String| {
        // Every value here is made of digits, hex digits and fixed ASCII text.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    set(header::ETAG, tag);
    set(header::ACCEPT_RANGES, "bytes".to_owned());
    if let Some(time) = modified.and_then(system_time) {
        set(header::LAST_MODIFIED, httpdate::fmt_http_date(time));
    }
    match plan {
        Plan::Part(range) => {
            set(header::CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1));
        }
        // RFC 9110 §15.5.17: says how long the file is.
        Plan::Unsatisfiable => set(header::CONTENT_RANGE, format!("bytes */{size}")),
        Plan::Whole | Plan::NotModified => {}
    }
    if let Some(length) = length {
        set(header::CONTENT_TYPE, "application/octet-stream".to_owned());
        // Named for HEAD, too: UEFI learns from it how much memory to set aside.
        set(header::CONTENT_LENGTH, length.to_string());
    }
    response
}

/// What the conditions and the range of a request come to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    Whole,
    Part(std::ops::Range<u64>),
    Unsatisfiable,
    NotModified,
}

/// RFC 9110 §13.2.2: the order in which the headers count.
fn plan(headers: &HeaderMap, size: u64, etag: &str, modified: Option<i64>) -> Plan {
    let field = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(tags) = field(header::IF_NONE_MATCH) {
        let matches = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag;
        if tags.split(',').map(str::trim).any(matches) {
            return Plan::NotModified;
        }
    } else if let (Some(since), Some(modified)) = (field(header::IF_MODIFIED_SINCE).and_then(seconds), modified)
        && modified <= since
    {
        return Plan::NotModified;
    }
    // §13.1.5: a range counts only if the file is still the one that the client began with.
    let same = field(header::IF_RANGE).is_none_or(|known| known.trim() == etag);
    match field(header::RANGE).filter(|_| same).map(|range| wanted(range, size)) {
        None | Some(Wanted::Whole) => Plan::Whole,
        Some(Wanted::Part(range)) => Plan::Part(range),
        Some(Wanted::Unsatisfiable) => Plan::Unsatisfiable,
    }
}

fn etag(file: &BootFile) -> String {
    format!("\"{}\"", file.tag())
}

fn seconds(date: &str) -> Option<i64> {
    let time = httpdate::parse_http_date(date).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

/// `None` for times that an HTTP date cannot tell: before 1970, after the year 9999.
fn system_time(secs: i64) -> Option<SystemTime> {
    let secs = u64::try_from(secs).ok().filter(|secs| *secs < 253_402_300_800)?;
    Some(UNIX_EPOCH + Duration::from_secs(secs))
}

fn text(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::Text(Bytes::from(format!("{message}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// RFC 3986 §2.1; what is no escape stays as it is.
fn percent_decode(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            // Two hex digits are below 256.
            decoded.push((high * 16 + low) as u8);
            rest = after;
            continue;
        }
        decoded.push(*first);
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn rfc9110_section_13_conditions() {
        use header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
        // 1,000,000,000 s after 1970.
        let (at, before) = ("Sun, 09 Sep 2001 01:46:40 GMT", "Sun, 09 Sep 2001 01:46:39 GMT");
        for (fields, expected) in [
            (&[][..], Plan::Whole),
            (&[(RANGE, "bytes=2-3")], Plan::Part(2..4)),
            (&[(RANGE, "bytes=10-")], Plan::Unsatisfiable),
            (&[(IF_NONE_MATCH, "\"a\"")], Plan::NotModified),
            (&[(IF_NONE_MATCH, "\"b\", W/\"a\"")], Plan::NotModified),
            (&[(IF_NONE_MATCH, "*")], Plan::NotModified),
            (&[(IF_NONE_MATCH, "\"b\"")], Plan::Whole),
            (&[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, at)], Plan::Whole),
            (&[(IF_MODIFIED_SINCE, at)], Plan::NotModified),
            (&[(IF_MODIFIED_SINCE, before)], Plan::Whole),
            (&[(IF_MODIFIED_SINCE, "yesterday")], Plan::Whole),
            (&[(IF_RANGE, "\"a\""), (RANGE, "bytes=2-3")], Plan::Part(2..4)),
            (&[(IF_RANGE, "\"b\""), (RANGE, "bytes=2-3")], Plan::Whole),
        ] {
            assert_eq!(plan(&headers(fields), 10, "\"a\"", Some(1_000_000_000)), expected, "{fields:?}");
        }
        assert_eq!(plan(&headers(&[(IF_MODIFIED_SINCE, at)]), 10, "\"a\"", None), Plan::Whole);
    }

    #[test]
    fn paths_are_percent_decoded_once() {
        for (text, decoded) in [
            ("/boot/PC%20Engines", &b"/boot/PC Engines"[..]),
            ("%2e%2E%2f", b"../"),
            ("%2520", b"%20"),
            ("100%", b"100%"),
            ("%4", b"%4"),
            ("%zz%41", b"%zzA"),
            ("%00%ff", b"\0\xff"),
        ] {
            assert_eq!(percent_decode(text.as_bytes()), decoded, "{text}");
        }
    }
}
