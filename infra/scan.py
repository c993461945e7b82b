"""A TLS scanner (sslyze) on the running service. `make scan` starts it, with the command of the dev stack as arguments.

Fails unless the door is what Mozilla calls "modern" and what SECURITY.md says of it; prints what was found.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

SSLYZE = pathlib.Path(sys.executable).with_name("sslyze")
SUITES = {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"}
# Of those that sslyze knows; the hybrid groups it does not.
GROUPS = {"X25519", "secp256r1"}
OLD_VERSIONS = ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2"]
PATIENCE_S = 300


def ready(dev: subprocess.Popen) -> tuple[str, pathlib.Path]:
    """The port of the service, and the folder of its certificates."""
    port = folder = None
    for line in dev.stdout:
        if found := re.match(r"service +https://127\.0\.0\.1:(\d+)", line):
            port = found[1]
        if found := re.search(r"client certificates in (.+)$", line):
            folder = pathlib.Path(found[1])
        if line.startswith("Ctrl-C"):
            return port, folder
    sys.exit("the dev stack did not start")


def scan(target: str, *options: str) -> tuple[dict, int]:
    """What sslyze found, by its commands, and its exit code: 1 when the door is not what the options ask for."""
    with tempfile.TemporaryDirectory() as scratch:
        report = pathlib.Path(scratch, "report.json")
        ended = subprocess.run([SSLYZE, "--json_out", report, *options, target], timeout=PATIENCE_S, check=False)
        (server,) = json.loads(report.read_text())["server_scan_results"]
    commands = server["scan_result"] or {}
    return {name: tried["result"] for name, tried in commands.items() if tried["status"] == "COMPLETED"}, ended.returncode


def names(found: dict, key: str, inner: str | None = None) -> set[str]:
    return {(each[inner] if inner else each)["name"] for each in found[key] or []}


def check(port: str, folder: pathlib.Path) -> dict[str, bool]:
    target = f"localhost:{port}"
    seen, code = scan(target, "--mozilla_config", "modern", "--certinfo_ca_file", str(folder / "roots.pem"))
    chain, key = (str(folder / f"clinic-north-portal.{kind}") for kind in ("pem", "key"))
    # As a client that is let in: what is offered only after the handshake.
    inside, _ = scan(
        target, "--mozilla_config", "disable", "--cert", chain, "--key", key, "--resum", "--early_data", "--reneg"
    )
    accepted = {version: names(seen[f"{version}_cipher_suites"], "accepted_cipher_suites") for version in OLD_VERSIONS}
    suites = names(seen["tls_1_3_cipher_suites"], "accepted_cipher_suites", "cipher_suite")
    resumed = inside["session_resumption"]
    return {
        "Mozilla's modern configuration": code == 0,
        "nothing older than TLS 1.3": not any(accepted.values()),
        "our three suites": suites == SUITES,
        "our groups": names(seen["elliptic_curves"], "supported_curves") == GROUPS,
        "no compression": not seen["tls_compression"]["supports_compression"],
        "no Heartbleed": not seen["heartbleed"]["is_vulnerable_to_heartbleed"],
        "no CCS injection": not seen["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"],
        "no ROBOT": seen["robot"]["robot_result"].startswith("NOT_VULNERABLE"),
        "no renegotiation": not inside["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"],
        "no early data": not inside["tls_1_3_early_data"]["supports_early_data"],
        "no resumption": {resumed["session_id_resumption_result"], resumed["tls_ticket_resumption_result"]}
        <= {"NOT_SUPPORTED", "SERVER_IS_TLS_1_3_ONLY"},
    }


def main() -> None:
    dev = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        findings = check(*ready(dev))
    finally:
        dev.terminate()
        dev.wait(timeout=60)
    for what, holds in findings.items():
        print(f"{'ok' if holds else 'NOT SO':<7} {what}")
    if not all(findings.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
