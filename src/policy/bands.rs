//! `policy/bands.toml`: the hours of the day and the networks that rules tell apart. A decision knows which band a request
//! falls into and neither the time nor the address, so that it can be kept and asked for again.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use crate::domain::clock::Timestamp;

const MINUTES_OF_A_DAY: u16 = 24 * 60;
/// Bands of each sort.
const MOST_BANDS: usize = 16;

/// Which band of its sort, by its place in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Band(u8);

/// Every time and every address is in exactly one band: the first that has it, and the last has what is left.
#[derive(Debug)]
pub(super) struct Bands {
    hours: Vec<HourBand>,
    sources: Vec<SourceBand>,
}

#[derive(Debug)]
struct HourBand {
    name: Arc<str>,
    /// Minutes of the UTC day, the second not included; over midnight when it is the smaller. `None` has what is left.
    span: Option<(u16, u16)>,
}

#[derive(Debug)]
struct SourceBand {
    name: Arc<str>,
    networks: Vec<Network>,
}

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, Debug)]
struct Network {
    address: IpAddr,
    bits: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BandsFile {
    hour: Vec<HourEntry>,
    source: Vec<SourceEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HourEntry {
    name: String,
    from: Option<String>,
    until: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceEntry {
    name: String,
    networks: Option<Vec<String>>,
}

impl Bands {
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: BandsFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        check_count(file.hour.len(), "hour")?;
        check_count(file.source.len(), "source")?;
        let last = file.hour.len() - 1;
        let hours = file.hour.iter().enumerate().map(|(at, entry)| read_hour(entry, at == last));
        let last = file.source.len() - 1;
        let sources = file.source.iter().enumerate().map(|(at, entry)| read_source(entry, at == last));
        Ok(Self { hours: hours.collect::<Result<_, _>>()?, sources: sources.collect::<Result<_, _>>()? })
    }

    pub fn hour(&self, at: Timestamp) -> Band {
        let minute = u16::try_from(at.as_seconds().div_euclid(60).rem_euclid(i64::from(MINUTES_OF_A_DAY)));
        let minute = minute.unwrap_or(0);
        place(self.hours.iter().position(|band| band.has(minute)))
    }

    pub fn source(&self, address: IpAddr) -> Band {
        let address = address.to_canonical();
        let is_in = |band: &SourceBand| band.networks.iter().any(|network| network.has(address));
        place(self.sources.iter().position(is_in).or_else(|| self.sources.len().checked_sub(1)))
    }

    /// In the order of the file.
    pub fn hours(&self) -> impl Iterator<Item = (Band, &Arc<str>)> {
        self.hours.iter().enumerate().map(|(at, band)| (place(Some(at)), &band.name))
    }

    pub fn sources(&self) -> impl Iterator<Item = (Band, &Arc<str>)> {
        self.sources.iter().enumerate().map(|(at, band)| (place(Some(at)), &band.name))
    }

    pub fn hour_named(&self, name: &str) -> Option<Band> {
        self.hours().find(|(_, known)| &***known == name).map(|(band, _)| band)
    }

    pub fn source_named(&self, name: &str) -> Option<Band> {
        self.sources().find(|(_, known)| &***known == name).map(|(band, _)| band)
    }
}

/// There are at most [`MOST_BANDS`].
fn place(at: Option<usize>) -> Band {
    Band(at.and_then(|at| u8::try_from(at).ok()).unwrap_or(0))
}

fn check_count(bands: usize, sort: &str) -> Result<(), String> {
    if (1..=MOST_BANDS).contains(&bands) {
        Ok(())
    } else {
        Err(format!("declare 1 to {MOST_BANDS} bands as [[{sort}]]"))
    }
}

fn read_hour(entry: &HourEntry, is_last: bool) -> Result<HourBand, String> {
    let name = entry.name.as_str();
    let span = match (&entry.from, &entry.until, is_last) {
        (None, None, true) => None,
        (Some(from), Some(until), false) => {
            let why = || format!("hour {name}: give from and until as \"06:00\", in UTC, and not the same");
            let span = (minute(from).ok_or_else(why)?, minute(until).ok_or_else(why)?);
            Some((span.0 != span.1).then_some(span).ok_or_else(why)?)
        }
        _ => return Err(format!("hour {name}: the last band has what is left, every other from and until")),
    };
    Ok(HourBand { name: name.into(), span })
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str, most: u16| {
        let is_plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|number| is_plain && *number <= most)
    };
    Some(number(hour, 23)? * 60 + number(minute, 59)?)
}

fn read_source(entry: &SourceEntry, is_last: bool) -> Result<SourceBand, String> {
    let name = entry.name.as_str();
    let networks = match (&entry.networks, is_last) {
        (None, true) => Vec::new(),
        (Some(networks), false) if !networks.is_empty() => {
            let why =
                || format!("source {name}: write networks as \"10.0.0.0/8\", without bits behind the prefix");
            networks.iter().map(|text| Network::parse(text).ok_or_else(why)).collect::<Result<_, _>>()?
        }
        _ => return Err(format!("source {name}: the last band has what is left, every other its networks")),
    };
    Ok(SourceBand { name: name.into(), networks })
}

impl HourBand {
    const fn has(&self, minute: u16) -> bool {
        match self.span {
            None => true,
            Some((from, until)) if from < until => from <= minute && minute < until,
            Some((from, until)) => from <= minute || minute < until,
        }
    }
}

impl Network {
    /// The bits behind the prefix are zero: a slip of the pen is not a larger network.
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let bits: u32 = bits.parse().ok().filter(|_| !bits.starts_with('+'))?;
        let (value, length) = number(address);
        let network = Self { address, bits };
        let is_whole =
            bits <= length && value & !mask(bits, length) == 0 && address == address.to_canonical();
        is_whole.then_some(network)
    }

    fn has(&self, address: IpAddr) -> bool {
        let ((own, own_length), (value, length)) = (number(self.address), number(address));
        own_length == length && (own ^ value) & mask(self.bits, length) == 0
    }
}

fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// The leading `bits` of a number of `length` bits.
fn mask(bits: u32, length: u32) -> u128 {
    let whole = u128::MAX >> (128 - length);
    whole & !whole.checked_shr(bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [[hour]]
        name = "day"
        from = "06:00"
        until = "22:00"
        [[hour]]
        name = "late"
        from = "22:00"
        until = "02:30"
        [[hour]]
        name = "night"
        [[source]]
        name = "inside"
        networks = ["10.0.0.0/8", "192.168.4.0/22", "fd00::/8"]
        [[source]]
        name = "host"
        networks = ["127.0.0.1/32", "::1/128"]
        [[source]]
        name = "elsewhere"
    "#;

    #[test]
    fn every_minute_is_in_one_band() {
        let bands = Bands::parse(FILE).unwrap();
        let name = |hour: i64, minute: i64| {
            let at = Timestamp::from_micros((hour * 60 + minute) * 60 * 1_000_000);
            bands.hours().find(|(band, _)| *band == bands.hour(at)).unwrap().1.to_string()
        };
        for (hour, minute, expected) in [
            (6, 0, "day"),
            (21, 59, "day"),
            (22, 0, "late"),
            (0, 0, "late"),
            (2, 29, "late"),
            (2, 30, "night"),
            (5, 59, "night"),
            // Another day, and before 1970.
            (24 * 365 + 12, 0, "day"),
            (-1, 0, "late"),
        ] {
            assert_eq!(name(hour, minute), expected, "{hour}:{minute}");
        }
    }

    #[test]
    fn every_address_is_in_one_band() {
        let bands = Bands::parse(FILE).unwrap();
        let name = |address: &str| {
            let band = bands.source(address.parse().unwrap());
            bands.sources().find(|(known, _)| *known == band).unwrap().1.to_string()
        };
        for (address, expected) in [
            ("10.255.0.1", "inside"),
            ("11.0.0.0", "elsewhere"),
            ("192.168.7.255", "inside"),
            ("192.168.8.0", "elsewhere"),
            ("::ffff:10.1.2.3", "inside"),
            ("fdff::1", "inside"),
            ("fe80::1", "elsewhere"),
            ("127.0.0.1", "host"),
            ("127.0.0.2", "elsewhere"),
            ("::1", "host"),
        ] {
            assert_eq!(name(address), expected, "{address}");
        }
        assert!(bands.source_named("host").is_some() && bands.source_named("day").is_none());
        assert!(bands.hour_named("late").is_some() && bands.hour_named("noon").is_none());
    }

    #[test]
    fn files_are_strict() {
        let refused = |from: &str, to: &str| {
            assert!(FILE.contains(from));
            Bands::parse(&FILE.replacen(from, to, 1)).expect_err("it is refused")
        };
        assert!(refused("from = \"06:00\"", "from = \"6:00\"").contains("hour day"));
        assert!(refused("from = \"06:00\"", "from = \"24:00\"").contains("hour day"));
        assert!(refused("from = \"06:00\"", "from = \"22:00\"").contains("hour day"));
        assert!(refused("from = \"06:00\"", "").contains("what is left"));
        assert!(
            refused("name = \"night\"", "name = \"night\"\nfrom = \"02:30\"\nuntil = \"06:00\"")
                .contains("left")
        );
        assert!(refused("10.0.0.0/8", "10.1.0.0/8").contains("source inside"));
        assert!(refused("10.0.0.0/8", "10.0.0.0/33").contains("source inside"));
        assert!(refused("10.0.0.0/8", "::ffff:10.0.0.0/104").contains("source inside"));
        assert!(
            refused("networks = [\"127.0.0.1/32\", \"::1/128\"]", "networks = []").contains("its networks")
        );
        assert!(refused("networks = [\"127.0.0.1/32\", \"::1/128\"]", "").contains("its networks"));
        assert!(refused("name = \"elsewhere\"", "name = \"elsewhere\"\nnets = []").contains("nets"));
        assert!(Bands::parse("hour = []\nsource = []").is_err());
    }
}
