//! Synthetic people and messages: the same for an index in every run, of twelve fields each, no two alike.

use std::fmt::Write;

/// `SplitMix64` (Steele, Lea, Flood 2014): enough to spread reads evenly, and the same in every run.
#[derive(Clone)]
pub struct Spread(u64);

impl Spread {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, evenly enough for a bench (the bias is `bound` / 2⁶⁴). 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    fn pick(&mut self, words: &'static [&'static str]) -> &'static str {
        words.get(self.below(words.len())).copied().unwrap_or_default()
    }
}

const FAMILY: [&str; 12] = [
    "Abernathy",
    "Bergström",
    "Castellanos",
    "Dąbrowski",
    "Feeney",
    "Güneş",
    "Hernández",
    "Ivanova",
    "Kovacek",
    "Okonkwo",
    "Schuster",
    "Zemlak",
];
const GIVEN: [&str; 12] = [
    "Adelaide",
    "Benito",
    "Chidi",
    "Delphine",
    "Elke",
    "Farid",
    "Günther",
    "Hiroko",
    "Irina",
    "Jamal",
    "Katarzyna",
    "Lupita",
];
const STREETS: [&str; 6] =
    ["Cormier Parade", "Elm Street", "Gutmann Alley", "Kuhn Mill", "Park Row", "Volkman Way"];
const CITIES: [&str; 6] = ["Amherst", "Boston", "Cambridge", "Fall River", "Plymouth", "Worcester"];
const NOTES: [&str; 4] = [
    "Prefers to be called in the afternoon; speaks with the care team through the portal.",
    "Has asked that results be sent by post and not by e-mail.",
    "Needs an interpreter for visits that last longer than half an hour.",
    "Comes with a family member; consent for sharing is on file since the last visit.",
];

/// The medical record number of a person: what tells one record's answer from another's.
pub fn record_number(index: usize) -> String {
    format!("MRN-{index:09}")
}

/// The twelve fields of a person as a JSON object: nine of class pii, three of class phi.
pub fn person(index: usize) -> String {
    let mut spread = Spread::new(u64::try_from(index).unwrap_or(0));
    let (family, given) = (spread.pick(&FAMILY), spread.pick(&GIVEN));
    let (year, month, day) = (1930 + spread.below(90), 1 + spread.below(12), 1 + spread.below(28));
    let (sex, gender) = if spread.below(2) == 0 { ("F", "female") } else { ("M", "male") };
    let (house, street) = (1 + spread.below(999), spread.pick(&STREETS));
    let (city, code) = (spread.pick(&CITIES), 1000 + spread.below(1_700));
    let mut json = String::with_capacity(640);
    // Writing to a string cannot fail.
    let _ = write!(
        json,
        r#"{{"family_name":"{family}","given_name":"{given}","birth_date":"{year}-{month:02}-{day:02}","#
    );
    let _ = write!(json, r#""sex":"{sex}","gender":"{gender}","email":"person{index}@example.org","#);
    let _ = write!(json, r#""phone":"{}","#, phone(&mut spread));
    let _ = write!(
        json,
        r#""address":{{"city":"{city}","country":"US","line":["{house} {street}"],"postal_code":"0{code}","state":"MA"}},"#
    );
    let _ = write!(
        json,
        r#""mrn":"{}","language":"en-US","marital_status":"M","notes":"{}"}}"#,
        record_number(index),
        spread.pick(&NOTES)
    );
    json
}

/// A change of one field of a person.
pub fn change(spread: &mut Spread) -> String {
    format!(r#"{{"phone":"{}"}}"#, phone(spread))
}

/// The twelve fields of a message as a JSON object: four of class pii, eight of class phi.
pub fn message(spread: &mut Spread) -> String {
    let (month, day, hour) = (1 + spread.below(12), 1 + spread.below(28), 8 + spread.below(9));
    let mut json = String::with_capacity(640);
    let _ = write!(json, r#"{{"sent_at":"2026-{month:02}-{day:02}T{hour:02}:00:00Z","#);
    let _ = write!(
        json,
        r#""sender":"{}","recipient":"Care team {}","direction":"to-care-team","#,
        spread.pick(&FAMILY),
        spread.pick(&CITIES)
    );
    let number = spread.below(1_000_000);
    let _ = write!(json, r#""subject_line":"Question {number}","body":"{}","#, spread.pick(&NOTES));
    let _ = write!(json, r#""thread":"thread-{number}","priority":{},"read":false,"#, spread.below(5));
    let _ =
        write!(json, r#""reply_email":"person{number}@example.org","callback_phone":"{}","#, phone(spread));
    let _ = write!(json, r#""attachments":[{{"name":"letter.pdf","bytes":{number}}}]}}"#);
    json
}

/// North American numbers that are in no use: 555-0100 to 555-0199.
fn phone(spread: &mut Spread) -> String {
    format!("+1{}55501{:02}", 201 + spread.below(700), spread.below(100))
}
