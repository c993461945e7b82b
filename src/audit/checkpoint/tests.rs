use proptest::prelude::*;
use signed_note::{Note as TheirNote, StandardVerifier, VerifierList};

use super::fixtures::{ORIGIN, Signer};
use super::*;
use crate::audit::tree::Plan;

/// The example of tlog-checkpoint.
const EXAMPLE: &str = "example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
";

fn root(byte: u8) -> TreeHash {
    TreeHash::of_leaf(&[byte])
}

fn trust(lines: &str) -> Trust {
    Trust::parse(lines.as_bytes()).unwrap()
}

/// The example of signed-note: text, key and signature of somebody else.
#[test]
fn the_specifications_example_verifies() {
    let key =
        VerifierKey::parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k").unwrap();
    let text = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    let note = Note::parse(text.as_bytes()).unwrap();
    let line = &note.signatures()[0];
    assert_eq!((line.key_id, line.name.as_str()), (key.id(), "example.com/foo"));
    assert_eq!(key.check(note.text(), &line.signature), Some(key::Signed::ByLog));
    assert_eq!(key.check("This is another message.\n", &line.signature), None);
    assert_eq!(note.to_string(), text);
    let checkpoint = SignedCheckpoint::parse(EXAMPLE.as_bytes()).unwrap();
    assert_eq!(checkpoint.checkpoint().size(), 20_852_163);
    assert_eq!(checkpoint.checkpoint().origin(), "example.com/behind-the-sofa");
    assert_eq!(checkpoint.to_string(), EXAMPLE);
}

#[test]
fn keys_are_read_strictly() {
    let text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    let fault = |from: &str, to: &str| VerifierKey::parse(&text.replace(from, to)).unwrap_err();
    assert_eq!(VerifierKey::parse(text).unwrap().to_string(), text);
    assert_eq!(fault("530d903a", "530d903b"), KeyFault::Id);
    assert_eq!(fault("530d903a", "530D903A"), KeyFault::Id);
    assert_eq!(fault("example.com/foo", "example.com/fop"), KeyFault::Id);
    assert_eq!(fault("example.com/foo", ""), KeyFault::Name);
    assert_eq!(fault("example.com/foo", "example com"), KeyFault::Name);
    assert_eq!(fault("example.com/foo", "example\u{2003}com"), KeyFault::Name);
    assert_eq!(fault("AekyeR", "BGkyeR"), KeyFault::Id);
    assert_eq!(fault("AekyeR", "CekyeR"), KeyFault::Kind);
    assert_eq!(fault("v3U2k", "v3U2"), KeyFault::Form);
    assert_eq!(fault("v3U2k", "v3U2k="), KeyFault::Form);
    assert_eq!(fault("+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "+"), KeyFault::Form);
    assert_eq!(fault("+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", ""), KeyFault::Form);
}

#[test]
fn notes_are_read_strictly() {
    let fault = |from: &str, to: &str| Note::parse(EXAMPLE.replacen(from, to, 1).as_bytes()).unwrap_err();
    assert_eq!(fault("\n\n", "\n"), NoteFault::NoSignatures);
    assert_eq!(fault("behind", "be\thind"), NoteFault::NotText);
    assert_eq!(fault("\u{2014} ", "- "), NoteFault::SignatureLine);
    assert_eq!(fault("\u{2014} ", "\u{2014}  "), NoteFault::SignatureLine);
    assert_eq!(fault("cTOAYQ8=", "cTOAYQ9="), NoteFault::SignatureLine, "stray bits in the base64");
    assert_eq!(fault("cTOAYQ8=\n", "cTOAYQ8="), NoteFault::SignatureLine);
    assert_eq!(fault("cTOAYQ8=\n", "cTOAYQ8= \n"), NoteFault::SignatureLine);
    assert_eq!(fault("cTOAYQ8=\n", "cTOAYQ8=\n\n"), NoteFault::SignatureLine);
    let short = Note::parse("a\n\n\u{2014} a AAAAAA==\n".as_bytes());
    assert_eq!(short, Err(NoteFault::SignatureLine), "a key id and no signature");
    assert_eq!(Note::parse(b"\xff\n\n"), Err(NoteFault::NotText));
    assert_eq!(Note::parse(&vec![b'a'; LONGEST_NOTE_BYTES + 1]), Err(NoteFault::TooLong));
    let line = EXAMPLE.lines().last().unwrap();
    let many = format!("a\n\n{}", format!("{line}\n").repeat(101));
    assert_eq!(Note::parse(many.as_bytes()), Err(NoteFault::TooMany));
}

#[test]
fn checkpoints_are_read_strictly() {
    let base64 = to_base64(root(1).as_bytes());
    let parse = |text: String| Checkpoint::parse(&text);
    assert_eq!(parse(format!("log\n0\n{base64}\n")).unwrap().size(), 0);
    let extended = parse(format!("log\n7\n{base64}\nmore\nstill more\n")).unwrap();
    assert_eq!(extended.extensions(), ["more", "still more"]);
    assert_eq!(extended.text(), format!("log\n7\n{base64}\nmore\nstill more\n"));
    assert_eq!(parse(format!("log\n{}\n{base64}\n", i64::MAX)).unwrap().size(), i64::MAX.unsigned_abs());
    for size in ["", "07", "-1", "+7", "7 ", "0x7", "9223372036854775808"] {
        assert_eq!(parse(format!("log\n{size}\n{base64}\n")), Err(CheckpointFault::Size), "{size}");
    }
    for wrong in ["", "AAAA", &base64[1..], &format!("{base64} "), &base64.replace('=', "")] {
        assert_eq!(parse(format!("log\n7\n{wrong}\n")), Err(CheckpointFault::Root), "{wrong}");
    }
    assert_eq!(parse(format!("log\n7\n{base64}")), Err(CheckpointFault::Lines));
    assert_eq!(parse(String::from("log\n7\n")), Err(CheckpointFault::Lines));
    assert_eq!(parse(format!("\n7\n{base64}\n")), Err(CheckpointFault::EmptyLine));
    assert_eq!(parse(format!("log\n7\n{base64}\n\n")), Err(CheckpointFault::EmptyLine));
    assert_eq!(Checkpoint::new("two\nlines", 7, root(1)), Err(CheckpointFault::EmptyLine));
    assert_eq!(Checkpoint::new("log", u64::MAX, root(1)), Err(CheckpointFault::Size));
}

#[test]
fn a_signature_is_taken_up_only_if_it_holds() {
    let (log, other, witness) = (Signer::log(1), Signer::log(2), Signer::witness("witness.test/w", 3));
    let checkpoint = Checkpoint::new(ORIGIN, 5, root(1)).unwrap();
    let signature = log.pair.sign(checkpoint.text().as_bytes());
    let signed = SignedCheckpoint::signed(checkpoint.clone(), &log.key, signature.as_ref()).unwrap();
    let refused = |key| SignedCheckpoint::signed(checkpoint.clone(), key, signature.as_ref()).is_err();
    assert!(refused(&other.key) && refused(&witness.key));
    let elsewhere = VerifierKey::new(KeyName::parse("elsewhere").unwrap(), KeyKind::Log, *log.key.public());
    assert!(refused(&elsewhere), "the key's name is not the origin");

    let mut cosigned = signed.clone();
    let cosignature = witness.cosignature(&signed, 1_700_000_000);
    cosigned.cosign(&witness.key, cosignature).unwrap();
    assert_eq!(cosigned.note().signatures().len(), 2);
    let mut again = cosigned.clone();
    again.cosign(&witness.key, witness.cosignature(&signed, 1_700_000_060)).unwrap();
    assert_eq!(again.note().signatures().len(), 2, "the newer one takes the place of the older");
    let later = Cosignature { time_s: 1_700_000_001, ..cosignature };
    assert!(again.cosign(&witness.key, later).is_err(), "the time is signed");
    assert!(again.cosign(&Signer::log(3).key, cosignature).is_err(), "a log's key cosigns nothing");
}

#[test]
fn of_a_witness_answer_known_lines_are_taken_and_bad_ones_refuse_all() {
    let (log, ours, theirs) = (Signer::log(1), Signer::witness("w1", 3), Signer::witness("w2", 4));
    let signed = log.sign(5, root(1));
    let line = |signer: &Signer| {
        let mut cosigned = signed.clone();
        signer.cosign(&mut cosigned, 9);
        cosigned.note().signatures()[1].clone()
    };
    let answer = format!("{}{}", line(&theirs), line(&ours));
    let lines = SignatureLine::parse_all(&answer).unwrap();
    let mut taken = signed.clone();
    assert_eq!(taken.cosign_with_lines(lines.clone(), std::slice::from_ref(&ours.key)), Ok(1));
    assert_eq!(taken.note().signatures()[1], line(&ours));
    let mut forged = lines;
    forged[1].signature[20] ^= 1;
    let mut untouched = signed.clone();
    assert!(untouched.cosign_with_lines(forged, &[ours.key, theirs.key]).is_err());
    assert_eq!(untouched, signed);
}

#[test]
fn trust_says_who_signed_and_whether_that_is_enough() {
    let (log, old) = (Signer::log(1), Signer::log(2));
    let (w1, w2, w3) = (Signer::witness("w1", 3), Signer::witness("w2", 4), Signer::witness("w3", 5));
    let policy = format!(
        "# the log\nlog {} https://strongroom.test\n\tlog {}\n\nwitness one {}\nwitness two {} https://w2\nwitness three {}\n\
         group pair all two three\ngroup most 1 one pair\nquorum most",
        log.key, old.key, w1.key, w2.key, w3.key
    );
    let trust = trust(&policy);
    let mut signed = log.sign(5, root(1));
    let endorsement = trust.endorse(&signed).unwrap();
    assert_eq!(endorsement, Endorsement { log_keys: vec![log.key.id()], witnesses: vec![], quorum: false });
    w2.cosign(&mut signed, 11);
    assert!(!trust.endorse(&signed).unwrap().quorum, "one of a pair");
    w3.cosign(&mut signed, 12);
    let endorsement = trust.endorse(&signed).unwrap();
    assert!(endorsement.quorum);
    assert_eq!(endorsement.witnesses, [(String::from("two"), 11), (String::from("three"), 12)]);
    let mut by_one = old.sign(5, root(1));
    w1.cosign(&mut by_one, 13);
    assert!(trust.endorse(&by_one).unwrap().quorum);

    let stranger = Signer::log(9).sign(5, root(1));
    assert_eq!(trust.endorse(&stranger), Err(Distrust::Unsigned));
    let elsewhere = EXAMPLE.replace("example.com/behind-the-sofa\n", "elsewhere\n");
    let elsewhere = SignedCheckpoint::parse(elsewhere.as_bytes()).unwrap();
    assert_eq!(trust.endorse(&elsewhere), Err(Distrust::UnknownOrigin));
}

/// signed-note, Signatures: name and id of a known key over other bytes is an attack, not a stranger.
#[test]
fn one_forged_signature_of_a_known_key_makes_the_note_worthless() {
    let (log, witness) = (Signer::log(1), Signer::witness("w1", 3));
    let trust = trust(&format!("log {}\nwitness one {}\nquorum none\n", log.key, witness.key));
    let mut signed = log.sign(5, root(1));
    witness.cosign(&mut signed, 9);
    assert!(trust.endorse(&signed).is_ok());
    let other = log.sign(6, root(1));
    for at in 0..2 {
        let text = signed.to_string().replacen("\n5\n", "\n6\n", 1);
        let mut changed = SignedCheckpoint::parse(text.as_bytes()).unwrap();
        if at == 1 {
            let line = other.note().signatures()[0].to_string();
            let kept = changed.note().signatures()[1].to_string();
            let text = format!("{}\n{line}{kept}", changed.note().text());
            changed = SignedCheckpoint::parse(text.as_bytes()).unwrap();
        }
        let name = if at == 0 { ORIGIN } else { "w1" };
        assert_eq!(trust.endorse(&changed), Err(Distrust::Forged { key: name.to_owned() }));
    }
}

#[test]
fn policies_are_read_strictly() {
    use TrustFaultKind as Kind;
    let (log, w1, w2) = (Signer::log(1).key, Signer::witness("w1", 3).key, Signer::witness("w2", 4).key);
    let base = format!("log {log}\nwitness a {w1}\nwitness b {w2}\n");
    let fault = |more: &str| {
        Trust::parse(format!("{base}{more}").as_bytes()).map_err(|fault| (fault.line, fault.what))
    };
    assert!(
        fault("quorum none").is_ok() && fault("quorum a").is_ok() && fault("#\u{7b}\nquorum\tb \t").is_ok()
    );
    for (more, line, what) in [
        ("", 4, Kind::NoQuorum),
        ("quorum none\nquorum a", 5, Kind::SecondQuorum),
        ("quorum c", 4, Kind::UnknownName),
        ("quorum", 4, Kind::Words),
        ("log x y z", 4, Kind::Words),
        ("group g all", 4, Kind::Words),
        ("allow a", 4, Kind::Keyword),
        ("group g 0 a", 4, Kind::Threshold),
        ("group g 3 a b", 4, Kind::Threshold),
        ("group g 01 a b", 4, Kind::Threshold),
        ("group g most a b", 4, Kind::Threshold),
        ("group a all b", 4, Kind::DuplicateName),
        ("group none all b", 4, Kind::DuplicateName),
        ("group g all c", 4, Kind::UnknownName),
        ("group g all a a", 4, Kind::AlreadyMember),
        ("group g all a\ngroup h all a b", 5, Kind::AlreadyMember),
        ("log log+00000000+AQAA", 4, Kind::Key(KeyFault::Form)),
        ("log log+00000000+AAAA", 4, Kind::Key(KeyFault::Kind)),
        ("quorum\u{b}none", 4, Kind::Control),
        ("quorum none\r", 4, Kind::Control),
    ] {
        assert_eq!(fault(more), Err((line, what)), "{more}");
    }
    assert_eq!(fault(&format!("log {log}")), Err((4, Kind::DuplicateKey)));
    assert_eq!(fault(&format!("log {w1}")), Err((4, Kind::Kind)));
    assert_eq!(fault(&format!("witness c {log}")), Err((4, Kind::Kind)));
    assert_eq!(
        fault(&format!("witness c {}", Signer::witness("other", 3).key)),
        Err((4, Kind::DuplicateKey))
    );
    assert_eq!(Trust::parse(b"quorum none").unwrap_err().what, Kind::NoLog);
    assert_eq!(Trust::parse(b"quorum \xff").unwrap_err().what, Kind::Control);
}

#[test]
fn a_proof_holds_for_its_entry_and_comes_back() {
    let entries: Vec<[u8; 1]> = (0..11).map(|number| [number]).collect();
    let leaves: Vec<TreeHash> = entries.iter().map(|entry| TreeHash::of_leaf(entry)).collect();
    let signed = Signer::log(1).sign(11, crate::audit::tree::root_of(&leaves).unwrap());
    let plan = Plan::inclusion(7, 11).unwrap();
    let path = plan.resolve(|id| {
        let from = usize::try_from(id.index << id.level).unwrap();
        Ok::<_, ()>(crate::audit::tree::root_of(&leaves[from..from + (1 << id.level)]).unwrap())
    });
    let proof = EntryProof::new(7, path.unwrap(), signed);
    proof.check(&[7]).unwrap();
    assert!(proof.check(&[8]).is_err());
    let text = proof.to_string();
    assert_eq!(EntryProof::parse(text.as_bytes()).unwrap(), proof);
    let extra = text.replacen("index", "extra AAEC\nindex", 1);
    assert_eq!(EntryProof::parse(extra.as_bytes()).unwrap().to_string(), extra);
    let fault = |from: &str, to: &str| EntryProof::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err();
    assert_eq!(fault("@v1", "@v2"), ProofFault::Heading);
    assert_eq!(fault("index 7", "index 07"), ProofFault::Index);
    assert_eq!(fault("index 7\n", ""), ProofFault::Index);
    assert_eq!(fault("index 7", "extra !\nindex 7"), ProofFault::Extra);
    assert_eq!(fault("index 7\n", "index 7\nAAAA\n"), ProofFault::Hashes);
    assert_eq!(fault("index 7\n", "\nindex 7\n"), ProofFault::Index);
    let checkpoint = ProofFault::Checkpoint(SignedCheckpointFault::Checkpoint(CheckpointFault::Size));
    assert_eq!(fault("\n11\n", "\n011\n"), checkpoint);
    let moved = EntryProof::parse(text.replacen("index 7", "index 6", 1).as_bytes()).unwrap();
    assert!(moved.check(&[7]).is_err());
}

prop_compose! {
    fn any_line()(text in "\\PC{0,30}") -> String { text }
}

proptest! {
    /// Ours signed, theirs verifies: text, lines, key ids and signatures are the same.
    #[test]
    fn signed_note_verifies_what_we_sign(size in 0..i64::MAX.unsigned_abs(), seed in any::<u8>(), byte in any::<u8>()) {
        let log = Signer::log(seed);
        let mut signed = log.sign(size, root(byte));
        Signer::witness("witness.test/w", 3).cosign(&mut signed, 1_700_000_000);
        let bytes = signed.to_string().into_bytes();
        let verifier = StandardVerifier::new(&log.key.to_string()).unwrap();
        let list = VerifierList::new(vec![Box::new(verifier)]);
        let note = TheirNote::from_bytes(&bytes).unwrap();
        let (verified, unknown) = note.verify(&list).unwrap();
        prop_assert_eq!((verified.len(), unknown.len()), (1, 1));
        prop_assert_eq!(unknown[0].id(), Signer::witness("witness.test/w", 3).key.id());
        prop_assert_eq!(note.to_bytes(), bytes);
        let theirs = tlog_tiles::Checkpoint::new(ORIGIN, size, tlog_tiles::Hash(*root(byte).as_bytes()), "").unwrap();
        prop_assert_eq!(theirs.to_bytes(), signed.note().text().as_bytes());
    }

    /// Theirs signed, ours verifies.
    #[test]
    fn we_verify_what_signed_note_signs(seed in any::<[u8; 32]>(), lines in proptest::collection::vec(any_line(), 1..5)) {
        let secret = ed25519_seed(&seed);
        let signer = signed_note::StandardSigner::new(&secret).unwrap();
        let text = format!("{}\n", lines.join("\n"));
        let mut note = TheirNote::new(text.as_bytes(), &[]).unwrap();
        note.add_sigs(&[&signer]).unwrap();
        let ours = Note::parse(&note.to_bytes()).unwrap();
        let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let public = ring::signature::KeyPair::public_key(&pair).as_ref().try_into().unwrap();
        let key = VerifierKey::new(KeyName::parse("theirs").unwrap(), KeyKind::Log, public);
        let line = &ours.signatures()[0];
        prop_assert_eq!(line.key_id, key.id());
        prop_assert_eq!(ours.text(), &text);
        prop_assert_eq!(key.check(&text, &line.signature), Some(key::Signed::ByLog));
    }

    /// What we read, they read as the same; and it comes back byte for byte.
    #[test]
    fn notes_that_are_read_are_read_the_same(at in any::<prop::sample::Index>(), with in "[\n \u{2014}a=+\t]{0,2}", cut in 0..3_usize) {
        let at = at.index(EXAMPLE.len());
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, with.bytes());
        if let Ok(note) = Note::parse(&bytes) {
            prop_assert_eq!(note.to_string().into_bytes(), bytes.clone());
            let theirs = TheirNote::from_bytes(&bytes).unwrap();
            prop_assert_eq!(theirs.text(), note.text().as_bytes());
        }
        if let Ok(signed) = SignedCheckpoint::parse(&bytes) {
            prop_assert_eq!(signed.to_string().into_bytes(), bytes.clone());
            prop_assert_eq!(signed.checkpoint().text(), signed.note().text());
            let text = signed.note().text();
            let theirs = tlog_tiles::Checkpoint::from_reader(&mut text.as_bytes(), false).unwrap();
            prop_assert_eq!(theirs.to_bytes(), text.as_bytes());
        }
    }

    /// No bit of a signed checkpoint can be turned unnoticed, but in what no known key says.
    #[test]
    fn a_turned_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (log, witness) = (Signer::log(1), Signer::witness("w1", 3));
        let trust = trust(&format!("log {}\nwitness one {}\nquorum one\n", log.key, witness.key));
        let mut signed = log.sign(5, root(1));
        witness.cosign(&mut signed, 9);
        let mut bytes = signed.to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let believed = SignedCheckpoint::parse(&bytes).ok().and_then(|signed| trust.endorse(&signed).ok());
        prop_assert!(believed.is_none_or(|endorsement| !endorsement.quorum));
    }
}

/// The private key's text in Go's note package, which `signed_note` follows: `PRIVATE+KEY+name+id+base64(1 || seed)`.
fn ed25519_seed(seed: &[u8; 32]) -> String {
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(seed).unwrap();
    let public = ring::signature::KeyPair::public_key(&pair).as_ref().try_into().unwrap();
    let key = VerifierKey::new(KeyName::parse("theirs").unwrap(), KeyKind::Log, public);
    let secret = [&[1], seed.as_slice()].concat();
    format!("PRIVATE+KEY+theirs+{:08x}+{}", key.id(), to_base64(&secret))
}
