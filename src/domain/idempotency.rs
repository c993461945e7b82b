//! The caller's name for one request, by which a repeated one is known
//! (draft-ietf-httpapi-idempotency-key-header-07, section 2).

/// An `Idempotency-Key`: 1 to 255 visible ASCII characters, sent as a structured-field string (`"…"`, RFC 8941 section
/// 3.3.3) or bare, which is the same key. It may tell something about a person, so it has no `Debug`, and only its keyed
/// digest is stored.
pub struct IdempotencyKey(String);

const LONGEST: usize = 255;

impl IdempotencyKey {
    pub fn parse(sent: &str) -> Option<Self> {
        let key = match sent.strip_prefix('"') {
            Some(quoted) => unquoted(quoted.strip_suffix('"')?)?,
            // A bare key is what most clients send; only what a structured-field token may hold, and the colon.
            None => sent.bytes().all(is_bare).then(|| sent.to_owned())?,
        };
        (1..=LONGEST).contains(&key.len()).then_some(Self(key))
    }

    /// For its digest and nothing else.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The inside of a structured-field string: printable ASCII, with `\"` and `\\`.
fn unquoted(text: &str) -> Option<String> {
    let mut key = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        match char {
            '\\' => key.push(rest.next().filter(|next| matches!(next, '"' | '\\'))?),
            '"' => return None,
            '!'..='~' => key.push(char),
            _ => return None,
        }
    }
    Some(key)
}

const fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=' | b'~' | b'*' | b'!')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quoted_or_bare_is_the_same_key() {
        let parse = |text: &str| IdempotencyKey::parse(text).map(|key| key.0);
        assert_eq!(parse("\"8e03978e-40d5\"").as_deref(), Some("8e03978e-40d5"));
        assert_eq!(parse("8e03978e-40d5").as_deref(), Some("8e03978e-40d5"));
        assert_eq!(parse(r#""a\"b\\c""#).as_deref(), Some(r#"a"b\c"#));
        for bad in
            ["", "\"\"", "\"a", "a\"", "a b", "\"a b\"", "\"a\\n\"", "a,b", "\"é\"", "ключ", &"k".repeat(256)]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert!(parse(&"k".repeat(255)).is_some());
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_back(key in "[!-~]{1,255}") {
            let quoted = format!("\"{}\"", key.replace('\\', r"\\").replace('"', "\\\""));
            prop_assert_eq!(IdempotencyKey::parse(&quoted).map(|key| key.0), Some(key));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,300}") {
            if let Some(key) = IdempotencyKey::parse(&text) {
                prop_assert!((1..=255).contains(&key.0.len()) && key.0.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
