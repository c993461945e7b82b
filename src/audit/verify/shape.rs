//! The shapes of entries that were read: one of the same shape is compared, and not read anew.
//!
//! Entries of one act differ in ids, digests, times and numbers, which stand at the same places. Of an entry as long as one
//! that was read, with the same bytes everywhere else and at these places what may stand there, the reading would come to
//! the same end by the same way. Places within a list's items are such places only where an item is of the first kind that it
//! can be: of a later kind, another value could make it one of an earlier kind.

use std::collections::HashMap;
use std::ops::Range;

use super::form::Cursor;
use super::pattern::Pattern;
use super::schema::Slots;

/// Of one length: the newest ones.
const MOST: usize = 8;
/// Lengths, so that a log of many forms fills no memory: some kilobytes each for a shape.
const MOST_LENGTHS: usize = 512;
/// Bytes that are compared before it is asked whether one of them differs.
const STEP: usize = 128;

/// What may stand at a place, besides what stands there.
#[derive(Clone, Copy)]
pub(super) enum Variable<'s> {
    Pattern(&'s Pattern),
    Integer { least: i64, most: i64 },
}

/// Where it stands.
pub(super) type Place<'s> = (Range<usize>, Variable<'s>);

/// The shapes that were met last.
pub(super) struct Shapes<'s> {
    by_length: HashMap<usize, Vec<Shape<'s>>>,
    most_lengths: usize,
}

impl Default for Shapes<'_> {
    fn default() -> Self {
        Self::of_lengths(MOST_LENGTHS)
    }
}

struct Shape<'s> {
    /// Byte by byte, all of them as long as the entry: what was read, and which bits of a difference are one.
    text: Vec<u8>,
    literal: Vec<u8>,
    /// All bits where a digit may stand, hexadecimal or decimal.
    hex: Vec<u8>,
    digit: Vec<u8>,
    /// Places that are looked at each for itself.
    others: Vec<Place<'s>>,
    slots: Slots,
}

impl<'s> Shapes<'s> {
    pub fn of_lengths(most: usize) -> Self {
        Self { by_length: HashMap::new(), most_lengths: most }
    }

    /// Where the values of an entry stand that is of a shape that is known.
    pub fn find(&self, entry: &[u8]) -> Option<Slots> {
        let alike = self.by_length.get(&entry.len())?;
        alike.iter().find(|shape| shape.has(entry)).map(|shape| shape.slots)
    }

    /// Learns the shape of an entry that was read to its end, in which these may differ.
    pub fn add(&mut self, entry: &[u8], places: Vec<Place<'s>>, slots: Slots) {
        if self.by_length.len() == self.most_lengths && !self.by_length.contains_key(&entry.len()) {
            self.by_length.clear();
        }
        let alike = self.by_length.entry(entry.len()).or_default();
        if alike.len() == MOST {
            alike.remove(0);
        }
        alike.push(Shape::new(entry, places, slots));
    }
}

impl<'s> Shape<'s> {
    fn new(entry: &[u8], places: Vec<Place<'s>>, slots: Slots) -> Self {
        let none = vec![0; entry.len()];
        let mut shape = Self {
            text: entry.to_vec(),
            literal: vec![u8::MAX; entry.len()],
            hex: none.clone(),
            digit: none,
            others: Vec::new(),
            slots,
        };
        for (range, variable) in places {
            shape.free(range, variable);
        }
        shape
    }

    fn free(&mut self, range: Range<usize>, variable: Variable<'s>) {
        let masks = match variable {
            Variable::Pattern(pattern) => pattern.masks(),
            Variable::Integer { .. } => None,
        };
        let each = |bytes: &mut Vec<u8>, masks: &[u8]| {
            bytes.iter_mut().skip(range.start).zip(masks).for_each(|(byte, mask)| *byte = *mask);
        };
        if let Some(masks) = masks {
            each(&mut self.hex, &masks.hex);
            each(&mut self.digit, &masks.digit);
            each(&mut self.literal, &masks.literal);
        } else {
            each(&mut self.literal, &vec![0; range.len()]);
            self.others.push((range, variable));
        }
    }

    fn has(&self, entry: &[u8]) -> bool {
        self.is_alike(entry) && self.others.iter().all(|place| self.is_other(entry, place))
    }

    fn is_alike(&self, entry: &[u8]) -> bool {
        let masks = self.literal.chunks(STEP).zip(self.hex.chunks(STEP)).zip(self.digit.chunks(STEP));
        let mut steps = entry.chunks(STEP).zip(self.text.chunks(STEP)).zip(masks);
        entry.len() == self.text.len()
            && steps.all(|((entry, text), ((literal, hex), digit))| {
                let masks = literal.iter().zip(hex).zip(digit);
                is_step_alike(entry.iter().zip(text).zip(masks))
            })
    }

    fn is_other(&self, entry: &[u8], (range, variable): &Place<'s>) -> bool {
        let (Some(now), Some(then)) = (entry.get(range.clone()), self.text.get(range.clone())) else {
            return false;
        };
        now == then
            || match variable {
                Variable::Pattern(pattern) => pattern.matched(now) == Some(now.len()),
                Variable::Integer { least, most } => {
                    let mut cursor = Cursor::new(now);
                    cursor.integer().is_some_and(|number| (least..=most).contains(&&number))
                        && cursor.is_at_end()
                }
            }
    }
}

/// Looks at all bytes, whatever the first is: that is what makes it many at once.
fn is_step_alike<'b>(bytes: impl Iterator<Item = ((&'b u8, &'b u8), ((&'b u8, &'b u8), &'b u8))>) -> bool {
    let wrong = bytes.fold(0, |wrong, ((byte, text), ((literal, hex), digit))| {
        let is_digit = byte.is_ascii_digit();
        let is_hex = is_digit | matches!(byte, b'a'..=b'f');
        let no = |is: bool| u8::from(is).wrapping_sub(1);
        wrong | ((byte ^ text) & literal) | (no(is_hex) & hex) | (no(is_digit) & digit)
    });
    wrong == 0
}
