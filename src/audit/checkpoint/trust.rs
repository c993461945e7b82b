//! Whom to believe: the keys of the log, of its witnesses, and how many of these it takes (C2SP tlog-policy).

use super::key::{KeyFault, KeyKind, Signed, VerifierKey};
use super::signed::{SignedCheckpoint, made};

/// Why a policy file cannot be used; the line counts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the keys: {what}")]
pub struct TrustFault {
    pub line: usize,
    pub what: TrustFaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustFaultKind {
    #[error("a control character, or bytes that are not UTF-8")]
    Control,
    #[error("a line begins with log, witness, group or quorum")]
    Keyword,
    #[error("the line has too few or too many words")]
    Words,
    #[error(transparent)]
    Key(#[from] KeyFault),
    #[error("the key is not of the kind for this line: a log's has type 1, a witness's type 4")]
    Kind,
    #[error("the key stands on a line before")]
    DuplicateKey,
    #[error("the name stands on a line before, or is none")]
    DuplicateName,
    #[error("no witness or group of this name stands on a line before")]
    UnknownName,
    #[error("the name is a member of a group before")]
    AlreadyMember,
    #[error("a group takes all, any, or a number from 1 to that of its members")]
    Threshold,
    #[error("there is a quorum before")]
    SecondQuorum,
    #[error("no line says what the quorum is")]
    NoQuorum,
    #[error("no line names a log")]
    NoLog,
}

/// A checkpoint is not to be believed at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    #[error("no key is known for its origin")]
    UnknownOrigin,
    #[error("no known key of the log signed it")]
    Unsigned,
    #[error("the signature under the name {key} is not that key's")]
    Forged { key: String },
}

/// Who signed a checkpoint, of those that are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// Key ids of the log's keys.
    pub log_keys: Vec<u32>,
    /// Names of the witnesses in the policy, each with the seconds since the epoch at which it saw the checkpoint.
    pub witnesses: Vec<(String, u64)>,
    /// Whether these witnesses are the policy's quorum.
    pub quorum: bool,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    logs: Vec<VerifierKey>,
    witnesses: Vec<(String, VerifierKey)>,
    /// Where each witness is, if the file says so.
    urls: Vec<Option<String>>,
    groups: Vec<Group>,
    quorum: Quorum,
}

/// tlog-policy, Defining the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quorum {
    None,
    Of(Member),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    least: usize,
    members: Vec<Member>,
}

impl Trust {
    /// Reads a policy file. One without a log is refused: here nothing else says which log is meant.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustFault> {
        let mut reader = Reader::default();
        let mut line = 0;
        for text in bytes.split(|byte| *byte == b'\n') {
            line += 1;
            reader.line(text).map_err(|what| TrustFault { line, what })?;
        }
        reader.finish().map_err(|what| TrustFault { line, what })
    }

    /// Keys of one log alone, with no witness.
    pub const fn of_log(keys: Vec<VerifierKey>) -> Self {
        Self { logs: keys, witnesses: Vec::new(), urls: Vec::new(), groups: Vec::new(), quorum: Quorum::None }
    }

    /// The log's keys.
    pub fn logs(&self) -> &[VerifierKey] {
        &self.logs
    }

    /// The witnesses' names in the policy and their keys.
    pub fn witnesses(&self) -> &[(String, VerifierKey)] {
        &self.witnesses
    }

    /// Where each of [`Self::witnesses`] is (tlog-policy, Defining a witness: its submission prefix).
    pub fn witness_urls(&self) -> &[Option<String>] {
        &self.urls
    }

    /// Checks every signature by a known key. One that does not hold makes the whole note worthless (signed-note,
    /// Signatures); signatures of unknown keys are passed over.
    pub fn endorse(&self, signed: &SignedCheckpoint) -> Result<Endorsement, Distrust> {
        let origin = signed.checkpoint().origin();
        let logs: Vec<&VerifierKey> = self.logs.iter().filter(|key| key.name().as_str() == origin).collect();
        if logs.is_empty() {
            return Err(Distrust::UnknownOrigin);
        }
        let mut log_keys = Vec::new();
        let mut seen: Vec<Option<u64>> = vec![None; self.witnesses.len()];
        for line in signed.note().signatures() {
            let forged = || Distrust::Forged { key: line.name.as_str().to_owned() };
            if let Some(key) = logs.iter().find(|key| made(key, line)) {
                key.check(signed.note().text(), &line.signature).ok_or_else(forged)?;
                if !log_keys.contains(&key.id()) {
                    log_keys.push(key.id());
                }
            }
            for ((_, key), seen) in
                self.witnesses.iter().zip(&mut seen).filter(|((_, key), _)| made(key, line))
            {
                if let Signed::ByWitness { time_s } =
                    key.check(signed.note().text(), &line.signature).ok_or_else(forged)?
                {
                    *seen = (*seen).max(Some(time_s));
                }
            }
        }
        if log_keys.is_empty() {
            return Err(Distrust::Unsigned);
        }
        let quorum = self.is_quorum(&seen);
        let names = self.witnesses.iter().map(|(name, _)| name.clone());
        let witnesses = names.zip(seen).filter_map(|(name, time)| Some((name, time?))).collect();
        Ok(Endorsement { log_keys, witnesses, quorum })
    }

    /// tlog-policy, Defining a witness group: a group has seen what enough of its members have.
    fn is_quorum(&self, seen: &[Option<u64>]) -> bool {
        let mut groups: Vec<bool> = Vec::with_capacity(self.groups.len());
        let has = |groups: &[bool], member: Member| match member {
            Member::Witness(place) => seen.get(place).is_some_and(Option::is_some),
            Member::Group(place) => groups.get(place).copied().unwrap_or(false),
        };
        for group in &self.groups {
            let count = group.members.iter().filter(|member| has(&groups, **member)).count();
            groups.push(count >= group.least);
        }
        match self.quorum {
            Quorum::None => true,
            Quorum::Of(member) => has(&groups, member),
        }
    }
}

/// What the lines so far said.
#[derive(Default)]
struct Reader {
    logs: Vec<VerifierKey>,
    witnesses: Vec<(String, VerifierKey)>,
    urls: Vec<Option<String>>,
    groups: Vec<Group>,
    /// Members of some group: each may be in one only (tlog-policy, Defining a witness group).
    taken: Vec<Member>,
    quorum: Option<Quorum>,
}

impl Reader {
    fn line(&mut self, text: &[u8]) -> Result<(), TrustFaultKind> {
        // tlog-policy, Character set: control characters but tab, and DEL, are refused wherever they stand.
        if text.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Err(TrustFaultKind::Control);
        }
        // tlog-policy takes any octets in names; here they are UTF-8, so that a report can tell them apart.
        let is_comment = text.trim_ascii_start().first() == Some(&b'#');
        let text =
            if is_comment { "" } else { std::str::from_utf8(text).map_err(|_| TrustFaultKind::Control)? };
        let words: Vec<&str> = text.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => Ok(()),
            ["log", key] | ["log", key, _] => self.log(key),
            ["witness", name, key] => self.witness(name, key, None),
            ["witness", name, key, url] => self.witness(name, key, Some(url)),
            ["group", name, threshold, members @ ..] if !members.is_empty() => {
                self.group(name, threshold, members)
            }
            ["quorum", name] => self.quorum(name),
            ["log" | "witness" | "group" | "quorum", ..] => Err(TrustFaultKind::Words),
            _ => Err(TrustFaultKind::Keyword),
        }
    }

    fn log(&mut self, key: &str) -> Result<(), TrustFaultKind> {
        let key = VerifierKey::parse(key)?;
        if key.kind() != KeyKind::Log {
            return Err(TrustFaultKind::Kind);
        }
        if self.logs.iter().any(|other| other.public() == key.public()) {
            return Err(TrustFaultKind::DuplicateKey);
        }
        self.logs.push(key);
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str, url: Option<&str>) -> Result<(), TrustFaultKind> {
        let key = VerifierKey::parse(key)?;
        if key.kind() != KeyKind::Witness {
            return Err(TrustFaultKind::Kind);
        }
        if self.witnesses.iter().any(|(_, other)| other.public() == key.public()) {
            return Err(TrustFaultKind::DuplicateKey);
        }
        self.must_be_new(name)?;
        self.witnesses.push((name.to_owned(), key));
        self.urls.push(url.map(str::to_owned));
        Ok(())
    }

    fn group(&mut self, name: &str, threshold: &str, members: &[&str]) -> Result<(), TrustFaultKind> {
        self.must_be_new(name)?;
        let least = match threshold {
            "all" => members.len(),
            "any" => 1,
            number => super::decimal(number)
                .and_then(|number| usize::try_from(number).ok())
                .filter(|number| (1..=members.len()).contains(number))
                .ok_or(TrustFaultKind::Threshold)?,
        };
        let mut found = Vec::with_capacity(members.len());
        for member in members {
            let member = self.find(member).ok_or(TrustFaultKind::UnknownName)?;
            if self.taken.contains(&member) {
                return Err(TrustFaultKind::AlreadyMember);
            }
            self.taken.push(member);
            found.push(member);
        }
        self.groups.push(Group { name: name.to_owned(), least, members: found });
        Ok(())
    }

    fn quorum(&mut self, name: &str) -> Result<(), TrustFaultKind> {
        if self.quorum.is_some() {
            return Err(TrustFaultKind::SecondQuorum);
        }
        self.quorum = Some(match name {
            "none" => Quorum::None,
            name => Quorum::Of(self.find(name).ok_or(TrustFaultKind::UnknownName)?),
        });
        Ok(())
    }

    fn find(&self, name: &str) -> Option<Member> {
        let witness = self.witnesses.iter().position(|(other, _)| other == name).map(Member::Witness);
        witness.or_else(|| self.groups.iter().position(|group| group.name == name).map(Member::Group))
    }

    fn must_be_new(&self, name: &str) -> Result<(), TrustFaultKind> {
        if name == "none" || self.find(name).is_some() { Err(TrustFaultKind::DuplicateName) } else { Ok(()) }
    }

    fn finish(self) -> Result<Trust, TrustFaultKind> {
        if self.logs.is_empty() {
            return Err(TrustFaultKind::NoLog);
        }
        let quorum = self.quorum.ok_or(TrustFaultKind::NoQuorum)?;
        let Self { logs, witnesses, urls, groups, .. } = self;
        Ok(Trust { logs, witnesses, urls, groups, quorum })
    }
}
