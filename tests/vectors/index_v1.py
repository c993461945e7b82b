#!/usr/bin/env python3
"""Second implementation of the terms of blind indexes, version 1 (src/crypto/index.rs, src/domain/index).

    index_v1.py make  > index-v1.json    write the known-answer vectors
    index_v1.py check index-v1.json      make every vector again; exit 1 on any mismatch

Needs nothing but Python. Written apart from the Rust code on purpose: the two must agree.
"""
import hashlib
import hmac
import json
import struct
import sys
import unicodedata

LABEL = b"strongroom/index/v1"
NORMALISATION = 1
APOSTROPHES = "'`\u00b4\u2018\u2019\u201b\u02bb\u02bc\u2032"


def length_prefixed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def without_marks(text: str) -> str:
    return "".join(c for c in text if not unicodedata.category(c).startswith("M"))


def lower(text: str) -> str:
    """Letter by letter: a sigma at the end of a word is a sigma."""
    return without_marks("".join(c.lower() for c in text))


def name(text: str) -> str:
    bare = without_marks(unicodedata.normalize("NFKD", text))
    bare = "".join(c for c in bare if c not in APOSTROPHES)
    words = "".join(c if c.isalnum() else " " for c in bare).split()
    return " ".join(lower(word.upper()) for word in words)


def normalised(kind: str, value: str) -> str:
    if kind == "name":
        return name(value)
    if kind in ("email", "code"):
        return lower(value)
    if kind in ("ssn", "mrn"):
        return lower("".join(c for c in value if c.isascii() and c.isalnum()))
    if kind == "date-time":
        return value[:10]
    return value  # phone, integer, date: the canonical spelling is the one


def part(transform: str, normal: str) -> str | None:
    if not transform.startswith("prefix"):
        return normal
    length = int(transform.split(":")[1])
    return normal[:length] if len(normal) >= length else None


def number(transform: str) -> int:
    if transform.startswith("prefix"):
        return 0x0200 | int(transform.split(":")[1])
    return {"exact": 0x0100, "date": 0x0300}[transform]


def term(root: bytes, collection: str, field: int, transform: str, bits: int, value: str) -> bytes:
    info = LABEL + length_prefixed(collection.encode()) + struct.pack(">IHH", field, number(transform), NORMALISATION)
    key = hmac.new(root, info + b"\x01", hashlib.sha256).digest()  # HKDF-Expand, one block
    tag = hmac.new(key, length_prefixed(value.encode()), hashlib.sha256).digest()
    whole = int.from_bytes(tag, "big") >> (256 - bits) << (256 - bits)
    return whole.to_bytes(32, "big")[: (bits + 7) // 8]


def vector(title: str, collection: str, field: int, kind: str, value: str, transform: str, bits: int) -> dict:
    root = hashlib.sha256(b"made up for the test: " + title.encode()).digest()
    wanted = part(transform, normalised(kind, value))
    made = None if wanted is None else term(root, collection, field, transform, bits, wanted).hex()
    return {
        "name": title, "root": root.hex(), "collection": collection, "field": field, "type": kind,
        "value": value, "transform": transform, "bits": bits, "part": wanted, "term": made,
    }


def make() -> list[dict]:
    return [
        vector("a family name", "patients", 1, "name", "Nováková", "exact", 16),
        vector("the same in capitals", "patients", 1, "name", "NOVAKOVA", "exact", 16),
        vector("its beginning", "patients", 1, "name", "Nováková", "prefix:3", 16),
        vector("a longer beginning", "patients", 1, "name", "Nováková", "prefix:5", 16),
        vector("a name that is shorter", "patients", 1, "name", "Li", "prefix:3", 16),
        vector("sharp s", "patients", 1, "name", "Strauß", "exact", 13),
        vector("an apostrophe and a hyphen", "patients", 1, "name", "O’Brien-Smith", "exact", 7),
        vector("another script", "patients", 2, "name", "Νίκος", "prefix:4", 16),
        vector("full width", "patients", 2, "name", "Ｊｏｓé  María", "exact", 20),
        vector("no letters of ours", "patients", 2, "name", "佐藤 花子", "prefix:3", 9),
        vector("an address", "patients", 7, "email", "Zofie.Novakova@example.org", "exact", 16),
        vector("a telephone number", "patients", 8, "phone", "+15550101234", "exact", 16),
        vector("a social security number", "patients", 10, "ssn", "987-65-4320", "exact", 128),
        vector("a record number", "patients", 11, "mrn", "MRN-0012345678", "exact", 128),
        vector("a date of birth", "patients", 4, "date", "1984-02-29", "date", 16),
        vector("a moment", "encounters", 1, "date-time", "2026-01-02T03:04:05.678900Z", "date", 19),
        vector("a number", "encounters", 18, "integer", "9007199254740991", "exact", 128),
        vector("a code", "messages", 7, "code", "Thread-1", "exact", 1),
    ]


def main() -> int:
    if sys.argv[1:] == ["make"]:
        json.dump(make(), sys.stdout, indent=1, ensure_ascii=False)
        print()
        return 0
    if len(sys.argv) == 3 and sys.argv[1] == "check":
        with open(sys.argv[2], encoding="utf-8") as file:
            known = json.load(file)
        wrong = [case["name"] for case, made in zip(known, make(), strict=True) if case != made]
        print(f"{len(known) - len(wrong)} of {len(known)} hold")
        return 1 if wrong else 0
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main())
