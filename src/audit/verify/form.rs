//! Reading an entry's bytes: canonical JSON of the reviewed form, in one pass and without copying.

use std::ops::Range;

use ring::digest::{Context, SHA256};

use super::duplicates::fold;
use super::form_fault::{FormFault, Misfit};
use super::schema::{Node, Object, Schema, Slot, Slots};
use super::shape::{Place, Shapes, Variable};
use crate::audit::act::Act;
use crate::audit::instance::InstanceKeyId;

/// The largest integer that every JSON reader keeps exact (RFC 7493 section 2.2).
const LARGEST: i64 = (1 << 53) - 1;
/// Deeper than any entry; canonical JSON that is deeper is only looked at when it is wrong anyway.
const DEEPEST: usize = 32;

/// What stands around the value of a signature, and goes with it.
const SIGNATURE_BEFORE: &[u8] = b"\"sig\":\"";
const SIGNATURE_AFTER: &[u8] = b"\",";

/// What the log is checked for across entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryFacts {
    pub id: [u8; 16],
    pub chain: Option<ChainFacts>,
    /// The chain that a `chain.restart` says was left, its last number, and the digest there.
    pub ended: Option<(u128, u64, Option<[u8; 32]>)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ChainFacts {
    pub source: u128,
    pub number: u64,
    pub previous: Option<[u8; 32]>,
    /// Of the last entry of a flush.
    pub flush: Option<Box<FlushFacts>>,
    /// The key that an `instance.attest` names, and the word for it.
    pub attested: Option<Box<([u8; 32], [u8; 64])>>,
    /// Something was done for a client.
    pub is_success: bool,
    /// The process says that this is the chain's last.
    pub is_end: bool,
}

/// What a process signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FlushFacts {
    pub key: InstanceKeyId,
    pub signature: [u8; 64],
    /// SHA-256 of the entry without its signature.
    pub unsigned_sha256: [u8; 32],
    /// Ids of writes, folded as others are.
    pub writes: Vec<u64>,
}

/// Reads entries.
pub struct EntryReader {
    schema: Schema,
    acts: Vec<&'static str>,
}

impl EntryReader {
    /// `None` when `audit/entry.schema.json` uses words that are not known here; a test shows that it does not.
    pub fn new() -> Option<Self> {
        let mut acts: Vec<&str> = Act::ALL.iter().map(|act| act.as_str()).collect();
        acts.sort_unstable();
        Some(Self { schema: Schema::of_entries()?, acts })
    }

    /// Whether these are the bytes of an entry.
    pub fn check(&self, entry: &[u8]) -> Result<(), FormFault> {
        self.read(entry).map(|_| ())
    }

    /// As [`Self::read`], for many entries that are much alike.
    pub(super) fn read_like<'s>(
        &'s self,
        shapes: &mut Shapes<'s>,
        entry: &[u8],
    ) -> Result<EntryFacts, FormFault> {
        if let Some(slots) = shapes.find(entry) {
            return self.facts(&Cursor { slots, ..Cursor::new(entry) });
        }
        let cursor = self.cursor(entry)?;
        let facts = self.facts(&cursor)?;
        shapes.add(entry, cursor.places, cursor.slots);
        Ok(facts)
    }

    pub(super) fn read(&self, entry: &[u8]) -> Result<EntryFacts, FormFault> {
        self.facts(&self.cursor(entry)?)
    }

    /// At the end of an entry of the form.
    fn cursor<'a>(&self, entry: &'a [u8]) -> Result<Cursor<'a, '_>, FormFault> {
        let mut cursor = Cursor::new(entry);
        let outcome = match cursor.value(&self.schema.entry) {
            Ok(()) if cursor.is_at_end() => Ok(()),
            Ok(()) => Err(Misfit::Unknown { at: cursor.at }),
            Err(misfit) => Err(misfit),
        };
        // What is not canonical JSON at all is called so, wherever the form was left.
        outcome.map_err(|misfit| match canonical_until(entry) {
            Some(at) => FormFault::NotCanonical { at },
            None => misfit.into(),
        })?;
        // Only text without a pattern can be other than ASCII.
        let until = std::str::from_utf8(entry).map_err(|error| error.valid_up_to());
        until.map_err(|at| FormFault::NotCanonical { at })?;
        Ok(cursor)
    }

    fn facts(&self, cursor: &Cursor<'_, '_>) -> Result<EntryFacts, FormFault> {
        let act = cursor.text(Slot::Act).ok_or(FormFault::Act)?;
        self.acts.binary_search_by(|known| known.as_bytes().cmp(act)).map_err(|_| FormFault::Act)?;
        let id = cursor.uuid(Slot::Id).ok_or(FormFault::Time)?;
        let millis = cursor.text(Slot::Time).and_then(unix_millis).ok_or(FormFault::Time)?;
        // RFC 9562 section 5.7: 48 bits of Unix milliseconds, the version, the variant.
        if id >> 80 != u128::from(millis) || id >> 76 & 0xf != 7 || id >> 62 & 3 != 2 {
            return Err(FormFault::Time);
        }
        let chain = cursor.uuid(Slot::ChainSource).map(|source| cursor.chain(act, source)).transpose()?;
        let ended = match (cursor.uuid(Slot::EndedSource), cursor.number(Slot::EndedNumber)) {
            (Some(source), Some(number)) => Some((source, number, cursor.digest(Slot::EndedDigest))),
            _ if act == Act::ChainRestart.as_str().as_bytes() => return Err(FormFault::NoEnd),
            _ => None,
        };
        Ok(EntryFacts { id: id.to_be_bytes(), chain, ended })
    }
}

/// A place in an entry's bytes, the values met so far that are needed later, and where others could stand as well.
pub(super) struct Cursor<'a, 's> {
    bytes: &'a [u8],
    at: usize,
    slots: Slots,
    places: Vec<Place<'s>>,
}

/// Most are told apart by their second byte, the first behind a quote.
fn begins_with(bytes: &[u8], text: &[u8]) -> bool {
    match text {
        [_, second, ..] => bytes.get(1) == Some(second) && bytes.starts_with(text),
        _ => bytes.starts_with(text),
    }
}

impl<'a, 's> Cursor<'a, 's> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, slots: Slots::default(), places: Vec::new() }
    }

    pub const fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, text: &[u8]) -> bool {
        let is_next = begins_with(self.rest(), text);
        if is_next {
            self.at += text.len();
        }
        is_next
    }

    fn value(&mut self, node: &'s Node) -> Result<(), Misfit<'s>> {
        let misfit = |at| Misfit::Value { member: None, at };
        let from = self.at;
        match node {
            Node::Object(object) => self.object(object),
            Node::Array { item, least, slot } => {
                self.array(item, *least)?;
                self.keep(*slot, from..self.at);
                Ok(())
            }
            Node::Any(branches) => {
                let (slots, places) = (self.slots, self.places.len());
                for (number, branch) in branches.iter().enumerate() {
                    let fits = self.value(branch).is_ok();
                    if !fits || number > 0 {
                        self.places.truncate(places);
                    }
                    if fits {
                        return Ok(());
                    }
                    (self.at, self.slots) = (from, slots);
                }
                Err(misfit(from))
            }
            Node::Words(words, slot) => {
                let fits = words.iter().any(|word| self.skip(word));
                self.keep(*slot, from..self.at);
                if fits { Ok(()) } else { Err(misfit(from)) }
            }
            Node::Pattern(pattern, slot) => {
                if !self.skip(b"\"") {
                    return Err(misfit(from));
                }
                self.at += pattern.matched(self.rest()).ok_or_else(|| misfit(from))?;
                self.keep(*slot, from + 1..self.at);
                self.places.push((from + 1..self.at, Variable::Pattern(pattern)));
                if self.skip(b"\"") { Ok(()) } else { Err(misfit(from)) }
            }
            Node::Text => self.string().ok_or_else(|| misfit(self.at)),
            Node::Integer { least, most, slot } => {
                let number = self.integer().filter(|number| (least..=most).contains(&number));
                self.keep(*slot, from..self.at);
                self.places.push((from..self.at, Variable::Integer { least: *least, most: *most }));
                number.map(|_| ()).ok_or_else(|| misfit(from))
            }
        }
    }

    fn object(&mut self, object: &'s Object) -> Result<(), Misfit<'s>> {
        let from = self.at;
        if !self.skip(b"{") {
            return Err(Misfit::Value { member: None, at: from });
        }
        let mut count = 0;
        for member in &object.members {
            let before = self.at;
            if (count > 0 && !self.skip(b",")) || !self.skip(&member.key) {
                self.at = before;
                if member.required {
                    return Err(Misfit::Missing { member: &member.name, at: before });
                }
                continue;
            }
            count += 1;
            self.value(&member.node).map_err(|misfit| match misfit {
                Misfit::Value { member: None, at } => Misfit::Value { member: Some(&member.name), at },
                other => other,
            })?;
        }
        if !self.skip(b"}") || count < object.least {
            return Err(Misfit::Unknown { at: self.at });
        }
        Ok(())
    }

    fn array(&mut self, item: &'s Node, least: usize) -> Result<(), Misfit<'s>> {
        let misfit = |at| Misfit::Value { member: None, at };
        if !self.skip(b"[") {
            return Err(misfit(self.at));
        }
        let mut count = 0;
        if !self.skip(b"]") {
            loop {
                self.value(item)?;
                count += 1;
                if self.skip(b"]") {
                    break;
                }
                if !self.skip(b",") {
                    return Err(misfit(self.at));
                }
            }
        }
        if count < least { Err(misfit(self.at)) } else { Ok(()) }
    }

    /// A string in its canonical spelling (RFC 8785 section 3.2.2.2).
    fn string(&mut self) -> Option<()> {
        self.skip(b"\"").then_some(())?;
        loop {
            let plain = |byte: &&u8| **byte >= b' ' && **byte != b'"' && **byte != b'\\';
            self.at += self.rest().iter().take_while(plain).count();
            match self.rest() {
                [b'"', ..] => {
                    self.at += 1;
                    return Some(());
                }
                [b'\\', b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
                [b'\\', b'u', b'0', b'0', high @ (b'0' | b'1'), low @ (b'0'..=b'9' | b'a'..=b'f'), ..] => {
                    // Those with a short form take that.
                    let is_short = *high == b'0' && matches!(low, b'8' | b'9' | b'a' | b'c' | b'd');
                    (!is_short).then_some(())?;
                    self.at += 6;
                }
                _ => return None,
            }
        }
    }

    /// An integer in its canonical spelling, within what every reader keeps exact.
    pub fn integer(&mut self) -> Option<i64> {
        let is_negative = self.skip(b"-");
        let digits = self.rest();
        let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = digits.get(..length).filter(|digits| (1..=16).contains(&digits.len()))?;
        let is_padded = digits.first() == Some(&b'0') && (length > 1 || is_negative);
        (!is_padded).then_some(())?;
        self.at += length;
        let number = digits.iter().fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        (number <= LARGEST).then_some(if is_negative { -number } else { number })
    }

    fn keep(&mut self, slot: Option<Slot>, range: Range<usize>) {
        let Some(kept) = slot.and_then(|slot| self.slots.get_mut(slot as usize)) else { return };
        // A bundle has two bytes for an entry's length.
        *kept = (u32::try_from(range.start).unwrap_or(0), u32::try_from(range.end).unwrap_or(0));
    }

    fn place(&self, slot: Slot) -> Option<Range<usize>> {
        let (from, to) = self.slots.get(slot as usize).copied().filter(|(_, to)| *to > 0)?;
        Some(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
    }

    fn text(&self, slot: Slot) -> Option<&'a [u8]> {
        self.bytes.get(self.place(slot)?)
    }

    fn chain(&self, act: &[u8], source: u128) -> Result<ChainFacts, FormFault> {
        let number = self.number(Slot::ChainNumber).ok_or(FormFault::Previous)?;
        let previous = self.digest(Slot::ChainPrevious);
        if (number == 1) != previous.is_none() {
            return Err(FormFault::Previous);
        }
        let attested = match (self.bytes_of(Slot::InstanceKey), self.bytes_of(Slot::Attestation)) {
            (Some(public), Some(attestation)) => Some(Box::new((public, attestation))),
            _ => None,
        };
        if attested.is_some() != (act == Act::InstanceAttest.as_str().as_bytes()) {
            return Err(FormFault::Attested);
        }
        let is_service = self.text(Slot::Kind) == Some(b"\"service\"");
        Ok(ChainFacts {
            source,
            number,
            previous,
            flush: self.flush()?,
            attested,
            is_success: !is_service && self.text(Slot::Status) == Some(b"\"success\""),
            is_end: act == Act::ChainEnd.as_str().as_bytes(),
        })
    }

    fn flush(&self) -> Result<Option<Box<FlushFacts>>, FormFault> {
        let writes = self.text(Slot::ChainWrites);
        match (self.bytes_of(Slot::ChainKey), self.bytes_of(Slot::ChainSignature)) {
            (Some(key), Some(signature)) => {
                let unsigned_sha256 = self.unsigned_sha256().ok_or(FormFault::Flush)?;
                let writes = writes.map(folded).unwrap_or_default();
                Ok(Some(Box::new(FlushFacts { key, signature, unsigned_sha256, writes })))
            }
            (None, None) if writes.is_none() => Ok(None),
            _ => Err(FormFault::Flush),
        }
    }

    /// The digest of the entry without `"sig":"…",`.
    fn unsigned_sha256(&self) -> Option<[u8; 32]> {
        let Range { start: from, end: to } = self.place(Slot::ChainSignature)?;
        let mut context = Context::new(&SHA256);
        context.update(self.bytes.get(..from.checked_sub(SIGNATURE_BEFORE.len())?)?);
        context.update(self.bytes.get(to + SIGNATURE_AFTER.len()..)?);
        context.finish().as_ref().try_into().ok()
    }

    fn number(&self, slot: Slot) -> Option<u64> {
        Some(self.text(slot)?.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit.wrapping_sub(b'0'))))
    }

    fn uuid(&self, slot: Slot) -> Option<u128> {
        // Five groups, none of them longer than a word.
        let groups = self.text(slot)?.split(|byte| *byte == b'-');
        Some(groups.fold(0, |sum, group| {
            let word = group.iter().fold(0_u64, |sum, digit| sum << 4 | u64::from(hex_digit(*digit)));
            sum << (4 * group.len()) | u128::from(word)
        }))
    }

    fn digest(&self, slot: Slot) -> Option<[u8; 32]> {
        self.bytes_of(slot)
    }

    /// Of so many bytes in hexadecimal digits.
    fn bytes_of<const N: usize>(&self, slot: Slot) -> Option<[u8; N]> {
        let text = self.text(slot)?;
        let mut bytes = [0; N];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |sum, digit| sum << 4 | hex_digit(*digit));
        }
        Some(bytes)
    }
}

/// The ids of a list that a pattern has matched, folded.
fn folded(list: &[u8]) -> Vec<u64> {
    let ids = list.split(|byte| matches!(byte, b'[' | b']' | b',')).filter(|id| !id.is_empty());
    let digits = |id: &[u8]| {
        let digits = id.iter().filter(|byte| byte.is_ascii_hexdigit());
        digits.fold(0_u128, |sum, digit| sum << 4 | u128::from(hex_digit(*digit)))
    };
    ids.map(|id| fold(&digits(id).to_be_bytes())).collect()
}

/// Of digits that a pattern has matched.
const fn hex_digit(digit: u8) -> u8 {
    (digit & 0xf) + if digit >= b'a' { 9 } else { 0 }
}

/// `2026-01-01T00:00:00.123456Z` in milliseconds since the epoch; `None` for a time that no calendar has, or before it.
fn unix_millis(text: &[u8]) -> Option<u64> {
    let number = |from: usize, length: usize| -> Option<i64> {
        let digits = text.get(from..from + length)?;
        Some(digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit.wrapping_sub(b'0'))))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let fits = (1..=days).contains(&day) && hour < 24 && minute < 60 && second < 60;
    fits.then_some(())?;
    // Days since 1970-01-01 in the Gregorian calendar, with years that begin in March.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
    let days = shifted_year * 365 + leaps + (shifted_month * 153 + 2) / 5 + day - 719_469;
    u64::try_from(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + number(20, 3)?).ok()
}

/// Up to where bytes are the canonical JSON of some value with integers only; `None` when all of them are.
fn canonical_until(bytes: &[u8]) -> Option<usize> {
    if let Err(error) = std::str::from_utf8(bytes) {
        return Some(error.valid_up_to());
    }
    let mut cursor = Cursor::new(bytes);
    let is_whole = cursor.anything(DEEPEST).is_some() && cursor.at == bytes.len();
    (!is_whole).then_some(cursor.at)
}

impl Cursor<'_, '_> {
    fn anything(&mut self, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match self.rest().first()? {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.integer().map(|_| ()),
            b'[' => {
                self.at += 1;
                self.list(b"]", |cursor| cursor.anything(depth))
            }
            b'{' => {
                self.at += 1;
                let mut last: Option<Vec<u16>> = None;
                self.list(b"}", |cursor| {
                    let from = cursor.at;
                    cursor.string()?;
                    let name: String = serde_json::from_slice(cursor.bytes.get(from..cursor.at)?).ok()?;
                    // RFC 8785 section 3.2.3: ascending by UTF-16 code units, so no name stands twice.
                    let name: Vec<u16> = name.encode_utf16().collect();
                    if last.as_ref().is_some_and(|last| *last >= name) {
                        cursor.at = from;
                        return None;
                    }
                    last = Some(name);
                    cursor.skip(b":").then_some(())?;
                    cursor.anything(depth)
                })
            }
            _ => [&b"true"[..], b"false", b"null"].iter().any(|word| self.skip(word)).then_some(()),
        }
    }

    fn list(&mut self, end: &[u8], mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if self.skip(end) {
            return Some(());
        }
        loop {
            item(self)?;
            if self.skip(end) {
                return Some(());
            }
            self.skip(b",").then_some(())?;
        }
    }
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
