//! Processor time and memory of the servers, from outside: `/proc` of their processes.

use std::time::Duration;

use anyhow::{Context, Result};

/// What a process, or a family of processes, has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub processor: Duration,
}

impl Usage {
    pub fn since(&self, before: &Self) -> Self {
        Self { processor: self.processor.saturating_sub(before.processor) }
    }
}

/// Whose processor time is read.
#[derive(Clone, Debug)]
pub enum Meter {
    /// One process with all of its threads.
    Process(u32),
    /// Everything that runs on this machine.
    Machine,
    /// Servers with a process per connection, PostgreSQL's postmasters: themselves, their children, and the children
    /// that have ended.
    Families(Vec<u32>),
}

impl Meter {
    /// This process: the load generator.
    pub fn own() -> Self {
        Self::Process(std::process::id())
    }

    pub fn read(&self) -> Result<Usage> {
        let ticks = match self {
            Self::Process(id) => stat(*id)?.own_ticks,
            Self::Machine => {
                let text = std::fs::read_to_string("/proc/stat").context("reading the processors' time")?;
                parse_machine(&text).context("reading the processors' time")?
            }
            Self::Families(heads) => {
                let mut ticks = 0;
                for head in heads {
                    let stat = stat(*head)?;
                    ticks += stat.own_ticks + stat.ended_children_ticks;
                }
                ticks + children_ticks(heads)?
            }
        };
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Ok(Usage { processor: Duration::from_micros(ticks.saturating_mul(1_000_000) / per_second) })
    }
}

/// Resident memory of a process in bytes.
pub fn resident_bytes(id: u32) -> Result<u64> {
    let status =
        std::fs::read_to_string(format!("/proc/{id}/status")).context("reading a server's status")?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|digits| digits.trim().parse::<u64>().ok())
        .context("reading a server's memory")?;
    Ok(kib * 1024)
}

/// proc(5), `/proc/pid/stat`, fields 4 and 14 to 17.
#[derive(Debug, PartialEq, Eq)]
pub struct Stat {
    pub parent: u32,
    pub own_ticks: u64,
    pub ended_children_ticks: u64,
}

pub fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses may hold anything, so count from the last one.
    let rest = text.rsplit_once(')')?.1;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        own_ticks: number(11)? + number(12)?,
        ended_children_ticks: number(13)? + number(14)?,
    })
}

/// proc(5), `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal. What a hypervisor took counts as used.
pub fn parse_machine(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks = line.split_ascii_whitespace().take(8).map(|field| field.parse::<u64>().ok());
    let ticks = ticks.collect::<Option<Vec<u64>>>()?;
    let [user, nice, system, _, _, irq, softirq, steal] = <[u64; 8]>::try_from(ticks).ok()?;
    Some(user + nice + system + irq + softirq + steal)
}

fn stat(id: u32) -> Result<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).context("a server has ended")?;
    parse_stat(&text).context("reading a server's processor time")
}

fn children_ticks(heads: &[u32]) -> Result<u64> {
    let mut ticks = 0;
    for entry in std::fs::read_dir("/proc").context("reading /proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end between the two looks; its time is then its parent's.
        let Ok(stat) = stat(id) else { continue };
        if heads.contains(&stat.parent) {
            ticks += stat.own_ticks;
        }
    }
    Ok(ticks)
}
