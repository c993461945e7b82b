# Whoever issues and revokes certificates (`strongroom cert`). The roles say what a certificate may contain.

path "pki/issue/server"    { capabilities = ["update"] }
path "pki/issue/service"   { capabilities = ["update"] }
path "pki/issue/client"    { capabilities = ["update"] }
path "pki/issue/auditor"   { capabilities = ["update"] }
path "pki/issue/custodian" { capabilities = ["update"] }
path "pki/issue/operator"  { capabilities = ["update"] }

path "pki/revoke" { capabilities = ["update"] }
# Publishes a revocation at once instead of when the CRL nears its end.
path "pki/crl/rotate" { capabilities = ["read"] }

path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
