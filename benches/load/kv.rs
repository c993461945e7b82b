//! What connections ask of OpenBao's key-value store: the same records under the same ids, in its own form.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};

use crate::connection::Call;
use crate::generator::Lane;
use crate::lanes::{Filling, Roster, contains, expect_status};
use crate::options::Scenario;
use crate::patients::{Spread, change, message, person, record_number};

const DATA: &str = "/v1/secret/data/";

/// Stores the loaded people.
pub struct Fill {
    filling: Arc<Filling>,
    roster: Arc<Roster>,
    current: usize,
}

impl Fill {
    pub fn lane(filling: &Arc<Filling>, roster: &Arc<Roster>) -> Box<dyn Lane> {
        Box::new(Self { filling: Arc::clone(filling), roster: Arc::clone(roster), current: 0 })
    }
}

impl Lane for Fill {
    fn next(&mut self, call: &mut Call) -> bool {
        let Some(index) = self.filling.take() else { return false };
        self.current = index;
        store(call, "patients", self.roster.id(index), &person(index));
        true
    }

    fn check(&mut self, _: &Call, status: u16, body: &[u8]) -> Result<()> {
        expect_status(200, status, body)?;
        self.filling.keep(self.current, Vec::new())
    }
}

/// One scenario, as [`crate::lanes`] has it for Strongroom.
pub struct Kv {
    scenario: Scenario,
    roster: Arc<Roster>,
    spread: Spread,
    lane: usize,
    lanes: usize,
    current: usize,
    /// Above the loaded records, and apart from those of other lanes and rounds.
    fresh: usize,
}

impl Kv {
    pub fn lane(
        scenario: Scenario,
        roster: &Arc<Roster>,
        seed: u64,
        lane: usize,
        lanes: usize,
    ) -> Box<dyn Lane> {
        let fresh = 100_000_000 + Spread::new(seed).below(900_000_000);
        let (roster, spread) = (Arc::clone(roster), Spread::new(seed));
        Box::new(Self { scenario, roster, spread, lane, lanes: lanes.max(1), current: 0, fresh })
    }
}

impl Lane for Kv {
    fn next(&mut self, call: &mut Call) -> bool {
        self.fresh += 1;
        match self.scenario {
            Scenario::Read | Scenario::ReadCold => {
                self.current = self.spread.below(self.roster.ids.len());
                call.method = "GET";
                place(call, "patients", self.roster.id(self.current));
                call.body.clear();
            }
            Scenario::Create => store(call, "patients", &format!("new-{}", self.fresh), &person(self.fresh)),
            Scenario::Append => {
                let message = message(&mut self.spread);
                store(call, "messages", &format!("new-{}", self.fresh), &message);
            }
            Scenario::Update => {
                let own = self.roster.ids.len() / self.lanes;
                self.current = self.spread.below(own) * self.lanes + self.lane;
                let Some(version) = self.roster.versions.get(self.current) else { return false };
                call.method = "PATCH";
                call.media_type = "application/merge-patch+json";
                place(call, "patients", self.roster.id(self.current));
                let (version, change) = (version.load(Ordering::Relaxed), change(&mut self.spread));
                call.body.clear();
                let body = format!(r#"{{"options":{{"cas":{version}}},"data":{change}}}"#);
                call.body.extend_from_slice(body.as_bytes());
            }
            // There is no such request.
            Scenario::Entries | Scenario::Search => return false,
        }
        true
    }

    fn check(&mut self, _: &Call, status: u16, body: &[u8]) -> Result<()> {
        expect_status(200, status, body)?;
        match self.scenario {
            Scenario::Read | Scenario::ReadCold => {
                ensure!(contains(body, &record_number(self.current)), "a read answered with another record");
            }
            Scenario::Create | Scenario::Append | Scenario::Entries | Scenario::Search => {}
            Scenario::Update => {
                if let Some(version) = self.roster.versions.get(self.current) {
                    version.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }
}

fn store(call: &mut Call, folder: &str, id: &str, fields: &str) {
    call.method = "POST";
    place(call, folder, id);
    call.body.clear();
    for part in [r#"{"data":"#, fields, "}"] {
        call.body.extend_from_slice(part.as_bytes());
    }
}

fn place(call: &mut Call, folder: &str, id: &str) {
    call.path.clear();
    for part in [DATA, folder, "/", id] {
        call.path.push_str(part);
    }
}
