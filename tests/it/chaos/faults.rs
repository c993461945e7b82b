//! What goes wrong, and how it is put right again.

use std::sync::Arc;

use strongroom::devstack::StopMode;

use super::load::Tally;
use crate::support::disk::SmallDisk;
use crate::support::proxy::{Network, Proxy};
use crate::support::{Rig, ServiceOptions, Strongroom};

/// Of the data cluster; it is at about 90 MiB when it is new.
const DISK_BYTES: u64 = 400 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    ServiceKilled,
    ServiceFrozen,
    DataKilled,
    DataFrozen,
    DataStopped,
    /// Every connection of the service to it ends; new ones are let in.
    DataBackendsEnded,
    DataCut,
    DataSilent,
    /// Its disk is full.
    DataDiskFull,
    KeysKilled,
    KeysFrozen,
    KeysCut,
    KeysSilent,
    VaultSealed,
    VaultKilled,
    VaultFrozen,
    VaultCut,
    /// A power cut: both databases, Vault and the service at once.
    EverythingKilled,
}

impl Fault {
    pub const ALL: [Self; 18] = [
        Self::ServiceKilled,
        Self::ServiceFrozen,
        Self::DataKilled,
        Self::DataFrozen,
        Self::DataStopped,
        Self::DataBackendsEnded,
        Self::DataCut,
        Self::DataSilent,
        Self::DataDiskFull,
        Self::KeysKilled,
        Self::KeysFrozen,
        Self::KeysCut,
        Self::KeysSilent,
        Self::VaultSealed,
        Self::VaultKilled,
        Self::VaultFrozen,
        Self::VaultCut,
        Self::EverythingKilled,
    ];

    /// How many requests meet it, at most. Vault is missed only when the keys in memory have come to the end of their life.
    pub fn lasts(self) -> usize {
        match self {
            Self::VaultSealed | Self::VaultKilled | Self::VaultFrozen | Self::VaultCut => 4_000,
            // Pages and log segments that are there already go on taking writes.
            Self::DataDiskFull => 2_000,
            _ => 60,
        }
    }

    /// Whether both can be had at once: of a part that is killed, nothing else can be had.
    pub fn goes_with(self, other: Self) -> bool {
        let of = |fault: Self| format!("{fault:?}").chars().take(4).collect::<String>();
        of(self) != of(other) && self != Self::EverythingKilled && other != Self::EverythingKilled
    }
}

/// A service whose every part is its own and can be cut off.
pub struct World {
    /// Only root may mount one. First, for it is mounted in the rig's folder, which goes with the rig.
    disk: Option<SmallDisk>,
    pub rig: Arc<Rig>,
    pub strongroom: Strongroom,
    data: Proxy,
    keys: Proxy,
    vault: Proxy,
}

impl World {
    pub async fn start(name: &str) -> Self {
        let rig = Arc::new(Rig::start(name).await);
        let disk = rig.put_data_on_a_small_disk(DISK_BYTES).await;
        let vault_port: u16 = rig.stack.vault.address().rsplit(':').next().unwrap().parse().unwrap();
        let data = Proxy::to(rig.stack.data.port()).await;
        let keys = Proxy::to(rig.stack.keys.port()).await;
        let vault = Proxy::to(vault_port).await;
        let setting = |key: &str, value: String| (format!("STRONGROOM__{key}"), value);
        let settings = vec![
            setting("DATABASE__DATA__PORT", data.port.to_string()),
            setting("DATABASE__AUDIT_EXPORT__PORT", data.port.to_string()),
            setting("DATABASE__AUDIT_SEQUENCER__PORT", data.port.to_string()),
            setting("DATABASE__KEYS__PORT", keys.port.to_string()),
            setting("VAULT__ADDRESS", format!("http://127.0.0.1:{}", vault.port)),
            // So short that every part is needed all the time.
            setting("CACHE__SOFT_LIFE_SECONDS", "1".into()),
            setting("CACHE__HARD_LIFE_SECONDS", "2".into()),
        ];
        let options = ServiceOptions { rig: Some(Arc::clone(&rig)), settings, ..Default::default() };
        let strongroom = Strongroom::start_with(options).await;
        Self { disk, rig, strongroom, data, keys, vault }
    }

    pub fn can(&self, fault: Fault) -> bool {
        fault != Fault::DataDiskFull || self.disk.is_some()
    }

    pub async fn inject(&mut self, fault: Fault, tally: &Tally) {
        let stack = &self.rig.stack;
        match fault {
            Fault::ServiceKilled => self.kill_service(tally),
            Fault::ServiceFrozen => {
                tally.service_left();
                self.strongroom.freeze();
            }
            Fault::DataKilled => stack.data.kill9().await,
            Fault::DataFrozen => stack.data.pause().await.unwrap(),
            Fault::DataStopped => stack.data.stop(StopMode::Immediate).await,
            Fault::DataBackendsEnded => {
                self.data.set(Network::Cut);
                self.data.set(Network::Up);
                let superuser = self.rig.data().await;
                let sql =
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'strongroom%'";
                superuser.execute(sql, &[]).await.unwrap();
            }
            Fault::DataCut => self.data.set(Network::Cut),
            Fault::DataSilent => self.data.set(Network::Silent),
            Fault::DataDiskFull => self.disk.as_ref().unwrap().fill(),
            Fault::KeysKilled => stack.keys.kill9().await,
            Fault::KeysFrozen => stack.keys.pause().await.unwrap(),
            Fault::KeysCut => self.keys.set(Network::Cut),
            Fault::KeysSilent => self.keys.set(Network::Silent),
            Fault::VaultSealed => stack.vault.seal().await.unwrap(),
            Fault::VaultKilled => stack.vault.kill9().await,
            Fault::VaultFrozen => stack.vault.pause().await.unwrap(),
            Fault::VaultCut => self.vault.set(Network::Cut),
            Fault::EverythingKilled => {
                tokio::join!(stack.data.kill9(), stack.keys.kill9(), stack.vault.kill9());
                self.kill_service(tally);
            }
        }
    }

    pub async fn heal(&mut self, fault: Fault, tally: &Tally) {
        let stack = &self.rig.stack;
        match fault {
            Fault::ServiceKilled => self.start_service(tally).await,
            Fault::ServiceFrozen => {
                self.strongroom.thaw();
                tally.service_came();
            }
            Fault::DataKilled | Fault::DataStopped => stack.data.start().await.unwrap(),
            Fault::DataFrozen => stack.data.resume().await.unwrap(),
            Fault::DataBackendsEnded => {}
            Fault::DataCut | Fault::DataSilent => self.data.set(Network::Up),
            Fault::DataDiskFull => {
                self.disk.as_ref().unwrap().empty();
                // Without room for its log it has ended.
                if stack.data.process_id().await.is_none() {
                    stack.data.start().await.unwrap();
                }
            }
            Fault::KeysKilled => stack.keys.start().await.unwrap(),
            Fault::KeysFrozen => stack.keys.resume().await.unwrap(),
            Fault::KeysCut | Fault::KeysSilent => self.keys.set(Network::Up),
            Fault::VaultSealed => stack.vault.unseal().await.unwrap(),
            Fault::VaultKilled => stack.vault.start().await.unwrap(),
            Fault::VaultFrozen => stack.vault.resume().await.unwrap(),
            Fault::VaultCut => self.vault.set(Network::Up),
            Fault::EverythingKilled => {
                stack.data.start().await.unwrap();
                stack.keys.start().await.unwrap();
                stack.vault.start().await.unwrap();
                self.start_service(tally).await;
            }
        }
    }

    fn kill_service(&self, tally: &Tally) {
        tally.service_left();
        self.strongroom.kill();
    }

    async fn start_service(&mut self, tally: &Tally) {
        self.strongroom.relaunch().await;
        tally.service_came();
    }
}
