//! Random records: what is sealed opens, what is changed does not, and nothing panics.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

type Values = BTreeMap<u32, (u16, usize, Vec<u8>)>;

/// Up to 14 fields of any id, type, class and size.
fn values() -> impl Strategy<Value = Values> {
    btree_map(any::<u32>(), (any::<u16>(), 0..3_usize, vec(any::<u8>(), 0..400)), 0..14)
}

fn fields(values: &Values) -> Vec<PlainField> {
    let field = |(id, (type_id, class, value)): (&u32, &(u16, usize, Vec<u8>))| PlainField {
        type_id: *type_id,
        ..plain(*id, DataClass::ALL[*class], value)
    };
    values.iter().map(field).collect()
}

type Rows = (Vec<(usize, Option<Vec<u8>>)>, Vec<(u32, u8, Vec<u8>)>);

/// Seals and fields in any number and combination; some headers are genuine, so that some commitments fit.
fn rows() -> impl Strategy<Value = Rows> {
    let seal = (0..3_usize, prop::option::of(vec(any::<u8>(), HEADER_BYTES)));
    (vec(seal, 0..4), vec((0..6_u32, 0..4_u8, vec(any::<u8>(), 0..64)), 0..7))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_opens(values in values(), seed in any::<u64>(), subject_known in any::<bool>()) {
        let (keys, fields) = (Keys::new(5), fields(&values));
        let subject = subject_known.then(|| subject(2));
        let sealed = keys.seal(&SealPlace { subject, ..place() }, &fields);
        for (field, value) in sealed.fields().iter().zip(values.values()) {
            prop_assert_eq!(field.bytes.len(), padded_length(value.2.len()).unwrap() + 16);
        }

        // However the database orders seals and fields, and in whatever order they are wanted.
        let mut stored = stored(&sealed);
        let turn = |length: usize| if length == 0 { 0 } else { usize::try_from(seed % 97).unwrap() % length };
        let last = stored.seals.len().saturating_sub(1);
        stored.seals.reverse();
        stored.fields.iter_mut().for_each(|field| field.seal = u8::try_from(last).unwrap() - field.seal);
        let fields_turn = turn(stored.fields.len());
        stored.fields.rotate_left(fields_turn);
        let mut wanted = wanted(&fields);
        let wanted_turn = turn(wanted.len() / 2);
        wanted.rotate_right(wanted_turn);
        wanted.truncate(wanted.len() - turn(wanted.len()));
        let expected: Vec<_> = wanted.iter().map(|w| (w.id.0, values[&w.id.0].2.clone())).collect();
        prop_assert_eq!(keys.open(&stored, &wanted), Ok(expected));
    }

    #[test]
    fn what_is_changed_does_not_open(
        values in values().prop_filter("some field", |values| !values.is_empty()),
        field in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        bit in 0..8_u32,
        change in 0..6_u8,
    ) {
        let (keys, fields) = (Keys::new(5), fields(&values));
        let mut stored = stored(&keys.seal(&place(), &fields));
        let at = field.index(stored.fields.len());
        let mask = 1_u8 << bit;
        match change {
            0 => {
                change_bytes(&mut stored.fields[at], |bytes| {
                    let at = byte.index(bytes.len());
                    bytes[at] ^= mask;
                });
            }
            1 => {
                let seal = usize::from(stored.fields[at].seal);
                stored.seals[seal].header[byte.index(HEADER_BYTES)] ^= mask;
            }
            2 => {
                let cut = byte.index(stored.fields[at].bytes.len());
                stored.fields[at].bytes.truncate(cut);
            }
            3 => change_bytes(&mut stored.fields[at], |bytes| bytes.push(mask)),
            4 => stored.fields[at].id.0 ^= u32::from(mask),
            _ => stored.place = other_places().swap_remove(byte.index(other_places().len())),
        }
        // A changed id may name a field that is wanted, or one that is there twice; either way nothing opens.
        let mut wanted = wanted(&fields);
        if change == 4 && wanted.len() == 1 {
            wanted[0].id = stored.fields[0].id;
        }
        prop_assert!(keys.open(&stored, &wanted).is_err());
    }

    #[test]
    fn arbitrary_rows_never_open_or_panic((seals, fields) in rows()) {
        let (genuine, _, keys) = sealed_sample();
        let seals = seals.into_iter().map(|(class, header)| Seal {
            class: DataClass::ALL[class],
            header: header.map_or(genuine.seals[class % 2].header, |bytes| bytes.try_into().unwrap()),
        });
        let fields = fields.into_iter().map(|(id, seal, bytes): (u32, u8, Vec<u8>)| SealedField {
            id: FieldId(id),
            seal,
            bytes: bytes.into(),
        });
        let stored = StoredRecord { place: place(), seals: seals.collect(), fields: fields.collect() };
        for wanted in (0..6).flat_map(|id| DataClass::ALL.map(|class| (id, class))) {
            let wanted = WantedField { id: FieldId(wanted.0), type_id: 1, class: wanted.1 };
            let opened = open_fields(&stored, &[wanted], |class, _| keys.of(class));
            prop_assert!(opened.map_or(true, |fields| fields.is_empty()));
        }
    }
}
