//! Whose people are believed: the file, the key sets that providers serve, and the tokens that clients send.

use std::path::Path;

use strongroom::domain::id::TenantId;
use strongroom::people::{Algorithm, KeySet, Known, Token, parse};
use uuid::Uuid;

pub fn people(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let tenant = |name: &str| (name == "clinic-north").then(|| TenantId::from_uuid(Uuid::from_u128(1)));
    let known = Known {
        tenant: &tenant,
        has_role: &|role| role == "clinician",
        has_department: &|name| name == "cardiology",
    };
    if let Ok(issuers) = parse(text, Path::new("/nowhere"), &known) {
        for issuer in &issuers {
            assert!((1..=48).contains(&issuer.name.len()));
            assert!(issuer.tenant == TenantId::from_uuid(Uuid::from_u128(1)));
        }
        let again = parse(text, Path::new("/nowhere"), &known);
        assert!(again.as_ref() == Ok(&issuers), "read twice, it says two things");
    }
}

pub fn keysets(data: &[u8]) {
    const ALL: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    let Ok((keys, ignored)) = KeySet::parse(data, &ALL) else { return };
    assert!(keys.len() + ignored.len() <= 64);
    assert!(ignored.windows(2).all(|two| two[0].place < two[1].place));
    // Of fewer algorithms there are no other keys.
    let each = ALL.map(|one| KeySet::parse(data, &[one]).expect("a set is one for every algorithm").0.len());
    assert_eq!(each.iter().sum::<usize>(), keys.len());
}

pub fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if Token::parse(text).is_some() {
        assert!(text.len() <= Token::LONGEST_BYTES);
        assert_eq!(text.bytes().filter(|byte| *byte == b'.').count(), 2);
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        assert!(text.bytes().all(is_letter), "a token with another letter");
        // One spelling: neither padding nor space makes another of it.
        for other in [format!("{text}="), format!(" {text}"), format!("{text}.")] {
            assert!(Token::parse(&other).is_none());
        }
    }
}
