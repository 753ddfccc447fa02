//! Reads a copy, in ranges that are each tried again.

use std::io;

use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore as _};

use super::super::store::ColdError;
use super::checksum::{Measure, Measured};
use super::look::Found;
use super::store::Bucket;
use super::upload::{PART, part_length};

impl Bucket {
    /// Reads what was found into `sink`, and measures it. It ends at the length that was found, or it is an error.
    pub(super) fn read(&self, path: &Path, found: &Found, sink: &mut dyn io::Write) -> Result<Measured, ColdError> {
        let mut measure = Measure::of_parts(found.part.unwrap_or_else(|| part_length(found.size)));
        while measure.size() < found.size {
            let from = measure.size();
            let range = from..found.size.min(from + PART);
            let wanted = range.end - from;
            let options = GetOptions {
                range: Some(GetRange::Bounded(range)),
                // The same content from the first range to the last.
                if_match: found.tag.clone(),
                ..GetOptions::default()
            };
            let read = self.wait(wanted, async { self.objects.get_opts(path, options).await?.bytes().await });
            let bytes = match read {
                Ok(bytes) => bytes,
                Err(trouble) if trouble.absent() => return Err(ColdError::Absent(path.to_string())),
                Err(trouble) if trouble.condition_failed() => {
                    let wrong = "it became another one while it was read".to_owned();
                    return Err(ColdError::Differs { key: path.to_string(), wrong });
                }
                Err(trouble) => return Err(self.failed("read", path, &trouble)),
            };
            if bytes.len() as u64 != wanted {
                let wrong = format!("{wanted} bytes were asked for, and {} came", bytes.len());
                return Err(ColdError::Differs { key: path.to_string(), wrong });
            }
            sink.write_all(&bytes).map_err(ColdError::Source)?;
            measure.update(&bytes);
        }
        Ok(measure.finish())
    }
}
