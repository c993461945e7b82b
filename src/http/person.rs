//! The person behind the client: their token, from the `Authorization` header (RFC 6750 section 2.1).

use axum::http::header::{AUTHORIZATION, Entry};
use axum::http::{HeaderMap, HeaderValue};

use super::App;
use super::problem_kind::ProblemKind;
use crate::domain::actor::Actor;
use crate::people::{Refusal, Token, TokenFault};

/// What came as `Authorization`.
pub enum Bearer {
    Absent,
    One(HeaderValue),
    /// More than one, another scheme, or no token in it.
    Unreadable,
}

impl Bearer {
    /// Takes the header out of the request: whoever handles it has no use for the token.
    pub fn take(headers: &mut HeaderMap) -> Self {
        let Entry::Occupied(sent) = headers.entry(AUTHORIZATION) else { return Self::Absent };
        let (_, mut values) = sent.remove_entry_mult();
        match (values.next(), values.next()) {
            (Some(mut value), None) if token(&value).is_some() => {
                value.set_sensitive(true);
                Self::One(value)
            }
            _ => Self::Unreadable,
        }
    }
}

/// The token of a header. The scheme is read in any case (RFC 9110 section 11.1).
fn token(value: &HeaderValue) -> Option<&str> {
    const SCHEME: &str = "bearer ";
    let text = value.to_str().ok()?;
    let (scheme, token) = text.split_at_checked(SCHEME.len())?;
    (scheme.eq_ignore_ascii_case(SCHEME) && (1..=Token::LONGEST_BYTES).contains(&token.len()))
        .then_some(token)
}

/// The actor with the person whose token was sent, or the reason why the request goes no further. A token that does not
/// count is never as good as none: the client said that it acts for somebody.
pub async fn behind(app: &App, actor: &Actor, bearer: Bearer) -> Result<Actor, ProblemKind> {
    let sent = match &bearer {
        Bearer::Absent => return Ok(actor.clone()),
        Bearer::One(value) => token(value),
        Bearer::Unreadable => None,
    };
    // What cannot be read is judged as well, so that there is one place that says who may not send any.
    let judged =
        app.people.authenticate(sent.unwrap_or(""), &actor.identity, &actor.certificate, app.service.clock());
    // Boxed: not all have one, and all would make room for it.
    Box::pin(judged).await.map(|person| actor.clone().for_person(person)).map_err(kind_of)
}

const fn kind_of(refusal: Refusal) -> ProblemKind {
    match refusal {
        Refusal::NotAllowed => ProblemKind::PersonNotAllowed,
        Refusal::Token(TokenFault::Invalid) => ProblemKind::TokenInvalid,
        Refusal::Token(TokenFault::Expired) => ProblemKind::TokenExpired,
        Refusal::Token(TokenFault::NotBound) => ProblemKind::TokenNotBound,
        Refusal::Unavailable => ProblemKind::PeopleUnavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(values: &[&[u8]]) -> (Bearer, HeaderMap) {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", HeaderValue::from_static("kept"));
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        (Bearer::take(&mut headers), headers)
    }

    #[test]
    fn one_bearer_token_and_nothing_else() {
        for good in ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c"] {
            let (Bearer::One(value), headers) = taken(&[good.as_bytes()]) else { panic!("{good}") };
            assert_eq!(token(&value), Some("a.b.c"));
            assert!(value.is_sensitive() && !format!("{value:?}").contains("a.b.c"));
            assert_eq!((headers.len(), headers.get(AUTHORIZATION)), (1, None));
        }
        let long = format!("Bearer {}", "x".repeat(Token::LONGEST_BYTES + 1));
        for bad in [
            &[&b"Bearer a.b.c"[..], b"Bearer a.b.c"][..],
            &[b"Basic YTpi"],
            &[b"Bearer"],
            &[b"Bearer "],
            &[b""],
            &[b"Bearera.b.c"],
            &[b"Bearer \xff.b.c"],
            &["B\u{e9}arer a.b.c".as_bytes()],
            &[long.as_bytes()],
        ] {
            let (bearer, headers) = taken(bad);
            assert!(matches!(bearer, Bearer::Unreadable), "{bad:?}");
            assert!(headers.get(AUTHORIZATION).is_none());
        }
        assert!(matches!(taken(&[]).0, Bearer::Absent));
    }
}
