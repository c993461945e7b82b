# The running service. It may use keys; it may not make, change, export or delete one.
# Only "update" on encrypt: with "create", transit would make a missing key on first use.

path "transit/encrypt/strongroom-phi"   { capabilities = ["update"] }
path "transit/encrypt/strongroom-pii"   { capabilities = ["update"] }
path "transit/encrypt/strongroom-chd"   { capabilities = ["update"] }
path "transit/encrypt/strongroom-index" { capabilities = ["update"] }

path "transit/decrypt/strongroom-phi"   { capabilities = ["update"] }
path "transit/decrypt/strongroom-pii"   { capabilities = ["update"] }
path "transit/decrypt/strongroom-chd"   { capabilities = ["update"] }
path "transit/decrypt/strongroom-index" { capabilities = ["update"] }

# The configuration of each key is checked at start; the public half of the audit key is read.
path "transit/keys/strongroom-phi"   { capabilities = ["read"] }
path "transit/keys/strongroom-pii"   { capabilities = ["read"] }
path "transit/keys/strongroom-chd"   { capabilities = ["read"] }
path "transit/keys/strongroom-index" { capabilities = ["read"] }
path "transit/keys/strongroom-audit" { capabilities = ["read"] }

path "transit/sign/strongroom-audit" { capabilities = ["update"] }

# CRLs and CA certificates are served to anyone; said here so that the policy is complete.
path "pki-root/crl"      { capabilities = ["read"] }
path "pki-root/ca/pem"   { capabilities = ["read"] }
path "pki/crl"      { capabilities = ["read"] }
path "pki/ca/pem"   { capabilities = ["read"] }
path "pki/ca_chain" { capabilities = ["read"] }

# Credentials by which destinations of the relay know the service: their newest versions, by name. Not listed, and written by
# whoever administers them.
path "strongroom-relay/data/*" { capabilities = ["read"] }

# The token has no default policy: what it needs of that is here.
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
