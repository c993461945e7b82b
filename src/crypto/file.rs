//! Files: values too large to be sealed in one piece. A file is a label (what it is and how long) and chunks of 64 KiB,
//! each a part with a header, and with that a key, of its own: a part that was sent twice, because nobody knew whether
//! the first had arrived, never uses a nonce twice.
//!
//! ```text
//! part 0    the label, padded
//! part 1 …  64 KiB each; the last is what remains, padded, and may be empty
//! nonce     u32 field id ‖ u32 part ‖ u32 last (1 for the last part, else 0)
//! aad       header ‖ lp(tenant) ‖ lp(collection) ‖ lp(record) ‖ lp(subject) ‖ lp(file id) ‖ u32 field id
//! ```
//!
//! A part opens only as this part of this file, and the last only as the last (the construction is that of Hoang,
//! Reyhanitabar, Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", STREAM).
//! Which attempt at a part counts is decided by the digest over all headers that the record's own seal holds.

use zeroize::Zeroizing;

use crate::domain::id::{CollectionName, FieldId, FileId, KeyId, RecordId, SubjectId, TenantId};
use crate::domain::random::Random;
use crate::domain::secret::SecretBytes;

use super::aad::{file_aad, part_nonce};
use super::digest::sha256_of_parts;
use super::error::{OpenError, SealError};
use super::header::{self, HEADER_BYTES, Purpose, SALT_BYTES, header_key_id};
use super::key::SubjectKey;
use super::pad::{pad_in_place, padded_length, unpadded_length};
use super::primitive::TAG_BYTES;

/// Bytes of every chunk but the last.
pub const CHUNK_BYTES: usize = 65_536;
/// A full chunk once padded, and its tag: what a buffer needs so that it never grows.
const BUFFER_BYTES: usize = 67_584 + TAG_BYTES;

/// Which field of which record a file belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePlace {
    /// The caller's tenant, from its certificate; never the row's.
    pub tenant: TenantId,
    pub collection: CollectionName,
    pub record: RecordId,
    pub subject: Option<SubjectId>,
    pub field: FieldId,
    pub file: FileId,
}

/// Which part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What the file is.
    Label,
    /// A chunk of 64 KiB, by its number from 1.
    Chunk(u32),
    /// What remains: at most 64 KiB, perhaps nothing.
    Last(u32),
}

impl Part {
    pub const fn number(self) -> u32 {
        match self {
            Self::Label => 0,
            Self::Chunk(number) | Self::Last(number) => number,
        }
    }

    const fn is_padded(self) -> bool {
        matches!(self, Self::Label | Self::Last(_))
    }
}

/// A part that may be stored. Only [`seal_part`] makes one.
pub struct SealedPart {
    part: Part,
    header: [u8; HEADER_BYTES],
    bytes: Vec<u8>,
}

impl SealedPart {
    pub const fn number(&self) -> u32 {
        self.part.number()
    }

    pub const fn header(&self) -> &[u8; HEADER_BYTES] {
        &self.header
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A part as the database returned it: not trusted before it opens.
pub struct StoredPart {
    pub header: [u8; HEADER_BYTES],
    pub bytes: Vec<u8>,
}

impl StoredPart {
    /// The subject key it was sealed under; `None` if the header is not one that sealing makes.
    pub fn key_id(&self) -> Option<KeyId> {
        header_key_id(&self.header)
    }
}

/// An empty buffer for a part's plaintext, wiped when dropped, with room for all that sealing adds.
pub fn part_buffer() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(BUFFER_BYTES))
}

/// Seals a part in its own buffer, which should come from [`part_buffer`]. [`SealError::ValueTooLarge`] for more than
/// [`CHUNK_BYTES`], [`SealError::Refused`] for a chunk that is not whole.
pub fn seal_part(
    place: &FilePlace,
    part: Part,
    mut plaintext: Zeroizing<Vec<u8>>,
    key: &SubjectKey,
    random: &dyn Random,
) -> Result<SealedPart, SealError> {
    if plaintext.len() > CHUNK_BYTES {
        return Err(SealError::ValueTooLarge);
    }
    if part.is_padded() {
        let padded_bytes = padded_length(plaintext.len()).ok_or(SealError::ValueTooLarge)?;
        pad_in_place(&mut plaintext, padded_bytes);
    } else if plaintext.len() != CHUNK_BYTES {
        return Err(SealError::Refused);
    }
    let mut salt = [0; SALT_BYTES];
    random.fill(&mut salt)?;
    let (header, cipher) = header::create(Purpose::File, key.id(), key.secret(), &salt)?;
    let tag = cipher.seal(nonce(place, part), &file_aad(&header, place), &mut plaintext)?;
    plaintext.extend_from_slice(&tag);
    Ok(SealedPart { part, header, bytes: std::mem::take(&mut *plaintext) })
}

/// Opens a part in its own buffer. [`OpenError::WrongKey`] if `key` does not fit the header, [`OpenError::Tampered`] if
/// this is not what was sealed as this part of this file.
pub fn open_part(
    place: &FilePlace,
    part: Part,
    stored: StoredPart,
    key: &SubjectKey,
) -> Result<SecretBytes, OpenError> {
    let cipher = header::open(Purpose::File, key.id(), key.secret(), &stored.header)?;
    let mut buffer = Zeroizing::new(stored.bytes);
    let (value, tag) = buffer.split_last_chunk::<TAG_BYTES>().ok_or(OpenError::Tampered)?;
    let (sealed_bytes, tag) = (value.len(), *tag);
    buffer.truncate(sealed_bytes);
    let aad = file_aad(&stored.header, place);
    cipher.open(nonce(place, part), &aad, &mut buffer, tag).map_err(|_| OpenError::Tampered)?;
    if part.is_padded() {
        let value_bytes = unpadded_length(&buffer).ok_or(OpenError::Tampered)?;
        buffer.truncate(value_bytes);
    }
    Ok(buffer.into())
}

/// What the record's seal keeps of a file: SHA-256 of its parts' headers, in order. Each header commits to its part's key.
pub fn headers_sha256<'h>(headers: impl IntoIterator<Item = &'h [u8; HEADER_BYTES]>) -> [u8; 32] {
    sha256_of_parts(headers.into_iter().map(<[u8; HEADER_BYTES]>::as_slice))
}

fn nonce(place: &FilePlace, part: Part) -> [u8; 12] {
    part_nonce(place.field, part.number(), matches!(part, Part::Last(_)))
}
