//! What must not be found: credentials, and keys opened without the service.

use std::path::Path;
use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk};
use strongroom::domain::class::DataClass;
use strongroom::domain::id::{KeyId, TenantId};
use strongroom::domain::random::SystemRandom;
use strongroom::domain::secret::SecretBytes;
use strongroom::keys::{TenantKeyKind, TenantKeyPlace, Transit};
use tokio_postgres::Row;
use uuid::Uuid;

use super::search::Search;
use crate::support::Rig;

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

/// Passwords of databases, of Vault's login, and its root token.
pub fn credentials(rig: &Rig) -> Search {
    let mut search = Search::default();
    for name in ["data.password", "keys.password", "audit.password", "secret-id"] {
        search.text(name, &text(&rig.secret(name)));
    }
    for cluster in [&rig.stack.data, &rig.stack.keys] {
        search.text("an administrator's password", &text(cluster.password_file()));
    }
    search.text("the root token", &text(rig.stack.vault.token_file()));
    search
}

/// Keys of tenants, opened as Vault's root, and of subjects and records, opened with those.
pub async fn keys(rig: &Rig) -> Search {
    let config = &rig.site.config;
    let token = SecretBytes::new(text(rig.stack.vault.token_file()).into_bytes());
    let random = Arc::new(SystemRandom::default());
    let transit = Transit::with_token(&config.vault, &config.environment, token, random).unwrap();
    let database = rig.keys().await;
    let mut search = Search::default();
    let tenant_keys = "SELECT tenant_id, class, key_id, wrapped FROM tenant_key WHERE purpose = 'seal'";
    let rows = database.query(tenant_keys, &[]).await.unwrap();
    assert!(rows.len() >= 2);
    for row in rows {
        let (tenant, class, key_id): (Uuid, &str, i64) = (row.get(0), row.get(1), row.get(2));
        let known = DataClass::ALL.into_iter().find(|known| known.as_str() == class).unwrap();
        let place = TenantKeyPlace {
            tenant: TenantId::from_uuid(tenant),
            kind: TenantKeyKind::Seal(known),
            key_id: KeyId::new(key_id).unwrap(),
        };
        let tenant_key = transit.decrypt(&place, row.get(3)).await.unwrap();
        search.bytes("a tenant key", tenant_key.expose());
        let below = "SELECT tenant_id, owner, class, key_id, header, wrapped FROM subject_key \
                     WHERE tenant_id = $1 AND class = $2 AND tenant_key_id = $3";
        for row in database.query(below, &[&tenant, &class, &key_id]).await.unwrap() {
            search.bytes("a subject's or record's key", &unwrapped(tenant_key.expose(), &row));
        }
    }
    search
}

/// Wrap v1, by other primitives than the service's.
fn unwrapped(tenant_key: &[u8], row: &Row) -> Vec<u8> {
    let (header, wrapped): (&[u8], &[u8]) = (row.get(4), row.get(5));
    let lp = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let aad = [
        header,
        &lp(row.get::<_, Uuid>(0).as_bytes()),
        &lp(row.get::<_, &str>(1).as_bytes()),
        &lp(row.get::<_, &str>(2).as_bytes()),
        &row.get::<_, i64>(3).to_be_bytes(),
    ]
    .concat();
    let mut key = [0; 64];
    let info: [&[u8]; 2] = [b"strongroom/wrap/v1", &header[..34]];
    let expanded = Prk::new_less_safe(HKDF_SHA256, tenant_key);
    expanded.expand(&info, SixtyFour).unwrap().fill(&mut key).unwrap();
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key[..32]).unwrap());
    let nonce = Nonce::assume_unique_for_key([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let mut bytes = wrapped.to_vec();
    cipher.open_in_place(nonce, Aad::from(aad), &mut bytes).unwrap().to_vec()
}

/// K3 and the commitment.
struct SixtyFour;

impl KeyType for SixtyFour {
    fn len(&self) -> usize {
        64
    }
}
