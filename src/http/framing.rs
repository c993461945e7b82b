//! Whether a request says in one way only where it ends and for whom it is. A proxy in front may read an ambiguous one in the
//! other way (RFC 9112 section 11.2), so it is refused whole and the connection ended.

use axum::http::{HeaderMap, Version, header};

/// Whether an HTTP/1 request has a second length, or a length beside a transfer coding, or another coding than `chunked`
/// once (RFC 9112 section 6), or not exactly one host (section 3.2). HTTP/2 has frames for all that.
pub(super) fn is_ambiguous(version: Version, headers: &HeaderMap) -> bool {
    if version >= Version::HTTP_2 {
        return false;
    }
    let count = |name| headers.get_all(name).iter().count();
    let (lengths, codings, hosts) =
        (count(header::CONTENT_LENGTH), count(header::TRANSFER_ENCODING), count(header::HOST));
    let is_chunked = |coding: &axum::http::HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    let is_other = !headers.get_all(header::TRANSFER_ENCODING).iter().all(is_chunked);
    let hosts_wanted = usize::from(version == Version::HTTP_11);
    lengths + codings > 1 || is_other || hosts > 1 || hosts < hosts_wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_length_one_coding_one_host() {
        let check = |version, lines: &[(&'static str, &'static str)]| {
            let headers = lines
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .fold(HeaderMap::new(), |mut headers, (name, value): (axum::http::HeaderName, _)| {
                    headers.append(name, value);
                    headers
                });
            is_ambiguous(version, &headers)
        };
        let (host, length) = (("host", "x"), ("content-length", "2"));
        let chunked = ("transfer-encoding", "Chunked");
        for plain in [&[host][..], &[host, length], &[host, chunked]] {
            assert!(!check(Version::HTTP_11, plain), "{plain:?}");
        }
        assert!(!check(Version::HTTP_10, &[]) && !check(Version::HTTP_2, &[]));
        for bad in [
            &[][..],
            &[host, host],
            &[host, length, length],
            &[host, length, chunked],
            &[host, chunked, chunked],
            &[host, ("transfer-encoding", "gzip, chunked")],
            &[host, ("transfer-encoding", "identity")],
        ] {
            assert!(check(Version::HTTP_11, bad), "{bad:?}");
        }
    }
}
