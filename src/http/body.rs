//! Request bodies: bounded, wiped, strictly JSON. No field value is interpreted here.

use std::fmt;
use std::marker::PhantomData;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::problem::Problem;
use super::problem_kind::ProblemKind;
use crate::service::MOST_RECORDS;

/// The body of a create.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateBody<'a> {
    #[serde(default)]
    pub subject: Option<String>,
    #[serde(borrow)]
    pub fields: &'a RawValue,
}

/// The body of a PATCH: fields to set, `null` to remove (RFC 7396 within `fields`).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchBody<'a> {
    #[serde(borrow)]
    pub fields: &'a RawValue,
}

/// The items of a list, of which there may be as many as a request names records. What comes after is read over: a body of
/// megabytes may hold a million items, and each would take more room than it has there.
#[derive(Debug)]
pub struct Bounded<T> {
    items: Vec<T>,
    is_whole: bool,
}

impl<T> Bounded<T> {
    /// `None` where there were more.
    pub fn whole(self) -> Option<Vec<T>> {
        self.is_whole.then_some(self.items)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVisitor(PhantomData))
    }
}

struct BoundedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for BoundedVisitor<T> {
    type Value = Bounded<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < MOST_RECORDS {
            match list.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(Bounded { items, is_whole: true }),
            }
        }
        let mut is_whole = true;
        while list.next_element::<IgnoredAny>()?.is_some() {
            is_whole = false;
        }
        Ok(Bounded { items, is_whole })
    }
}

/// Reads a whole body of at most `limit` bytes into memory that is wiped when dropped.
pub async fn read_json(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    media_types: &[&str],
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    check_headers(headers, media_types)?;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok())
        .unwrap_or(0);
    if announced > limit {
        return Err(too_large());
    }
    // Room for all of it at once: a vector that grows leaves unwiped copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(if announced > 0 { announced } else { limit }));
    let mut body = Limited::new(body, limit);
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| if error.is::<LengthLimitError>() { too_large() } else { incomplete() })?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// Parses the envelope; the values inside stay raw. Duplicate and unknown members are refused.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::of(ProblemKind::BodyNotUtf8))?;
    let parsed = serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Problem::of(ProblemKind::BodyShape),
        _ => Problem::of(ProblemKind::BodyNotJson),
    })?;
    // serde takes an array for a struct, member by member; this interface does not.
    let is_object = text.trim_ascii_start().starts_with('{');
    if is_object { Ok(parsed) } else { Err(Problem::of(ProblemKind::BodyShape)) }
}

pub(super) fn check_headers(headers: &HeaderMap, media_types: &[&str]) -> Result<(), Problem> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Problem::of(ProblemKind::EncodingUnsupported));
    }
    let mut all = headers.get_all(header::CONTENT_TYPE).iter();
    let sent = all.next().and_then(|value| value.to_str().ok()).unwrap_or("");
    let mut parts = sent.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or("");
    let charset_is_fine = parts.all(|parameter| parameter.eq_ignore_ascii_case("charset=utf-8"));
    let is_known = media_types.iter().any(|known| media_type.eq_ignore_ascii_case(known));
    if charset_is_fine && is_known && all.next().is_none() {
        return Ok(());
    }
    Err(Problem::of(ProblemKind::MediaTypeUnsupported))
}

fn too_large() -> Problem {
    Problem::of(ProblemKind::BodyTooLarge).closing()
}

fn incomplete() -> Problem {
    Problem::of(ProblemKind::BodyIncomplete)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T>(result: Result<T, Problem>) -> &'static str {
        result.err().map_or("ok", |problem| problem.code())
    }

    #[test]
    fn envelopes_are_strict() {
        let parse = |text: &'static str| code(parse::<CreateBody<'_>>(text.as_bytes()));
        assert_eq!(parse(r#"{"fields":{"a":1}}"#), "ok");
        assert_eq!(parse(r#"{"fields":{},"fields":{}}"#), "body_shape");
        assert_eq!(parse(r#"{"fields":{},"extra":1}"#), "body_shape");
        assert_eq!(parse(r"{}"), "body_shape");
        assert_eq!(parse(r#"[null,{"a":1}]"#), "body_shape");
        assert_eq!(parse(r#" [null,{"a":1}]"#), "body_shape");
        assert_eq!(parse(r#"{"fields":{}"#), "body_not_json");
        assert_eq!(parse(r#"{"fields":{}} x"#), "body_not_json");
        assert_eq!(code(super::parse::<PatchBody<'_>>(b"{\"fields\":\"\xff\"}")), "body_not_utf8");
    }

    #[test]
    fn of_a_long_list_no_more_is_kept_than_a_request_may_name() {
        let list = |items: usize| format!("[{}]", vec!["\"\""; items].join(","));
        let read = |items: usize| serde_json::from_str::<Bounded<String>>(&list(items)).unwrap();
        for items in [0, 1, MOST_RECORDS - 1, MOST_RECORDS] {
            assert_eq!(read(items).whole().unwrap().len(), items);
        }
        for items in [MOST_RECORDS + 1, 1_000_000] {
            let read = read(items);
            assert!(read.items.capacity() < 2 * MOST_RECORDS);
            assert_eq!(read.whole(), None);
        }
        // What is read over is JSON all the same.
        let list = list(MOST_RECORDS + 1).replace(']', ",}]");
        assert!(serde_json::from_str::<Bounded<&str>>(&list).unwrap_err().is_syntax());
        assert!(serde_json::from_str::<Bounded<&str>>("{}").unwrap_err().is_data());
    }

    #[test]
    fn media_types() {
        let check = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, text.parse().unwrap())]);
            code(check_headers(&headers, &["application/json"]))
        };
        assert_eq!(check("application/json"), "ok");
        assert_eq!(check("application/json; charset=UTF-8"), "ok");
        assert_eq!(check("application/json; charset=latin-1"), "media_type_unsupported");
        assert_eq!(check("text/plain"), "media_type_unsupported");
    }

    proptest::proptest! {
        #[test]
        fn an_envelope_gives_its_fields_as_they_were_sent(
            fields in r#"\{("[a-z]{1,4}": ?("[a-zé]{0,8}"|-?[1-9][0-9]{0,30}|\[\[\]\])){0,1} ?\}"#,
            subject in proptest::option::of("[a-z0-9-]{0,40}"),
        ) {
            let named = subject.as_ref().map_or(String::new(), |text| format!(r#""subject":"{text}","#));
            let body = format!(" {{{named} \"fields\" : {fields}}}\n");
            let parsed: CreateBody<'_> = super::parse(body.as_bytes()).unwrap();
            proptest::prop_assert_eq!(parsed.fields.get(), fields);
            proptest::prop_assert_eq!(parsed.subject, subject);
        }

        #[test]
        fn whatever_comes_is_an_envelope_or_a_problem(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let known = ["body_not_utf8", "body_not_json", "body_shape"];
            let refused = code(super::parse::<PatchBody<'_>>(&bytes));
            proptest::prop_assert!(known.contains(&refused), "{}", refused);
        }
    }
}
