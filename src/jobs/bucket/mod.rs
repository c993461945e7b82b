//! The log in a bucket of a store that speaks the S3 API, each file locked until its time (S3 Object Lock, compliance mode).
//!
//! The store does what a directory cannot: whoever holds the service's credentials, or the bucket's, can write a newer
//! version of a file, and never take the first one away. Nothing is overwritten by this: a file is put if none is there
//! (`If-None-Match: *`), and `checkpoint` if it is the one that was read (`If-Match`), so that an instance which lost the
//! lead does not go on.
//!
//! Methods block, as those of every target: call them where that may be.

mod connection;

use std::cell::{Cell, RefCell};

use futures_util::{StreamExt, TryStreamExt};
use http::{Method, StatusCode};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig, UpdateVersion,
};
use tokio::runtime::Handle;

use self::connection::{Connection, why};
use crate::audit::checkpoint::SignedCheckpoint;
use crate::audit::export::{CHECKPOINT, ExportError, LogFile, Source, Target};
use crate::config::AuditBucketConfig;

/// Requests side by side: a bundle and its tiles are some hundred kilobytes each, and a store is far away.
const AT_ONCE: usize = 8;

/// One log's bucket, or a folder of one.
pub struct LogBucket {
    store: AmazonS3,
    connection: Connection,
    runtime: Handle,
    folder: String,
    /// The version of `checkpoint` that was read or written last.
    checkpoint: RefCell<Option<UpdateVersion>>,
    /// A file was seen that the store says is locked.
    is_locked: Cell<bool>,
}

impl LogBucket {
    /// Reads the files of credentials and roots, and asks nothing of the store yet.
    pub fn open(config: &AuditBucketConfig, runtime: Handle) -> Result<Self, ExportError> {
        let connection = Connection::new(config)?;
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 2,
            retry_timeout: std::time::Duration::from_millis(config.timeout_ms),
        };
        let store = AmazonS3Builder::new()
            .with_endpoint(&config.endpoint)
            .with_region(&config.region)
            .with_bucket_name(&config.name)
            .with_virtual_hosted_style_request(false)
            .with_checksum_algorithm(Checksum::SHA256)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_disable_bulk_delete(true)
            .with_retry(retry)
            // The connection signs, since it adds what has to be signed as well.
            .with_skip_signature(true)
            .with_http_connector(connection.clone())
            .build()
            .map_err(|error| failed("use", &config.name, &error))?;
        let folder = config.folder.clone();
        Ok(Self {
            store,
            connection,
            runtime,
            folder,
            checkpoint: RefCell::default(),
            is_locked: Cell::new(false),
        })
    }

    /// Whether a log is there; an error where its newest checkpoint is not locked.
    pub fn look(&self) -> Result<bool, ExportError> {
        self.runtime.block_on(async {
            let Some(bytes) = self.fetch(CHECKPOINT).await? else { return Ok(false) };
            let damaged = |_| ExportError::Damaged { path: CHECKPOINT.to_owned() };
            let newest = SignedCheckpoint::parse(&bytes).map_err(damaged)?;
            self.find_lock(&LogFile::of_checkpoint(&newest).path).await?;
            Ok(true)
        })
    }

    fn key(&self, path: &str) -> Key {
        if self.folder.is_empty() { Key::from(path) } else { Key::from(format!("{}/{path}", self.folder)) }
    }

    async fn put_one(&self, file: &LogFile) -> Result<(), ExportError> {
        let payload = PutPayload::from(file.bytes.clone());
        match self.store.put_opts(&self.key(&file.path), payload, PutMode::Create.into()).await {
            Ok(_) => {}
            Err(object_store::Error::AlreadyExists { .. }) => {
                file.same_as(&self.fetch(&file.path).await?.unwrap_or_default())?;
            }
            Err(error) => return Err(failed("write", &file.path, &error)),
        }
        self.find_lock(&file.path).await
    }

    async fn fetch(&self, path: &str) -> Result<Option<Vec<u8>>, ExportError> {
        let answer = match self.store.get(&self.key(path)).await {
            Ok(answer) => answer,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed("read", path, &error)),
        };
        if path == CHECKPOINT {
            let (e_tag, version) = (answer.meta.e_tag.clone(), answer.meta.version.clone());
            self.checkpoint.replace(Some(UpdateVersion { e_tag, version }));
        }
        let bytes = answer.bytes().await.map_err(|error| failed("read", path, &error))?;
        Ok(Some(bytes.to_vec()))
    }

    /// Once for each opening: a store that knows nothing of locks takes the header and does nothing.
    async fn find_lock(&self, path: &str) -> Result<(), ExportError> {
        if self.is_locked.get() {
            return Ok(());
        }
        let url = self.connection.url(&self.key(path));
        let answer =
            self.connection.ask(Method::HEAD, &url).await.map_err(|error| failed_http(path, &error))?;
        let why = match answer.status() {
            status if status.is_success() => None,
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                Some("the store refuses these credentials: let them s3:GetObject and s3:GetObjectRetention")
            }
            _ => Some("the store does not say"),
        };
        if let Some(why) = why {
            return Err(ExportError::Bucket { what: "see the lock of", path: path.to_owned(), why });
        }
        if answer.headers().get("x-amz-object-lock-mode").is_none_or(|mode| mode != "COMPLIANCE") {
            return Err(ExportError::Unlocked { path: path.to_owned() });
        }
        self.is_locked.set(true);
        Ok(())
    }

    async fn replace_checkpoint(&self, file: &LogFile) -> Result<(), ExportError> {
        let known = self.checkpoint.borrow().clone();
        let mode = known.map_or(PutMode::Create, PutMode::Update);
        let payload = PutPayload::from(file.bytes.clone());
        match self.store.put_opts(&self.key(&file.path), payload, mode.into()).await {
            Ok(put) => {
                self.checkpoint.replace(Some(put.into()));
                Ok(())
            }
            // An answer that was lost on the way leaves what was written.
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                let is_ours = self.fetch(&file.path).await?.is_some_and(|stored| stored == file.bytes);
                if is_ours { Ok(()) } else { Err(ExportError::Locked) }
            }
            Err(error) => Err(failed("replace", &file.path, &error)),
        }
    }

    async fn remove_all(&self, folder: &str) -> Result<(), object_store::Error> {
        let mut found = self.store.list(Some(&self.key(folder)));
        while let Some(object) = found.try_next().await? {
            self.store.delete(&object.location).await?;
        }
        Ok(())
    }
}

impl Source for LogBucket {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ExportError> {
        self.runtime.block_on(self.fetch(path))
    }
}

impl Target for LogBucket {
    fn put(&mut self, files: &[LogFile]) -> Result<(), ExportError> {
        let puts = futures_util::stream::iter(files.iter().map(|file| self.put_one(file)));
        self.runtime.block_on(puts.buffer_unordered(AT_ONCE).try_collect())
    }

    fn replace(&mut self, file: &LogFile) -> Result<(), ExportError> {
        self.runtime.block_on(self.replace_checkpoint(file))
    }

    /// What a store has acknowledged is durable.
    fn sync(&mut self) -> Result<(), ExportError> {
        Ok(())
    }

    /// In a bucket with versions it only hides them; the bucket's own rules remove what is hidden, once its lock is over.
    fn try_remove(&mut self, folder: &str) {
        if let Err(error) = self.runtime.block_on(self.remove_all(folder)) {
            tracing::debug!(why = why(&error), "log.partial_files_stay");
        }
    }
}

fn failed(what: &'static str, path: &str, error: &object_store::Error) -> ExportError {
    ExportError::Bucket { what, path: path.to_owned(), why: why(error) }
}

fn failed_http(path: &str, error: &object_store::client::HttpError) -> ExportError {
    ExportError::Bucket { what: "read", path: path.to_owned(), why: why(error) }
}
