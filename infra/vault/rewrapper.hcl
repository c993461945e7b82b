# Rotation of the key-encryption keys: moves a wrapped tenant key to the newest key version without ever seeing it.

path "transit/rewrap/strongroom-phi"   { capabilities = ["update"] }
path "transit/rewrap/strongroom-pii"   { capabilities = ["update"] }
path "transit/rewrap/strongroom-chd"   { capabilities = ["update"] }
path "transit/rewrap/strongroom-index" { capabilities = ["update"] }

path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
