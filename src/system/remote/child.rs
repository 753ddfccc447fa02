//! The child: works one tree, and answers until nobody asks any more.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::shapes::{Answer, EntryShape, FileQuestion, MOST_READ, Question, Refusal, path, receive, send};
use crate::domain::path::RelPath;
use crate::domain::units::{Bytes, Timestamp};
use crate::system::{Dir as _, GuardedTree, HeldFile, SystemVolumes, Volumes as _, WritableDir as _, ffi};

/// The argument that makes our program a child. It is no command: nobody but the guard can use it.
pub const ARGUMENT: &str = "tree-worker";
/// Entries of a directory that are sent at once. Each chunk has the deadline of a call.
const CHUNK: usize = 512;

/// What a child has open.
#[derive(Default)]
struct Child {
    tree: Option<GuardedTree>,
    files: HashMap<u64, Box<dyn HeldFile>>,
    next: u64,
}

/// Answers what is asked until the questions end. The process must do nothing else, and have opened nothing.
///
/// # Errors
/// If the guard cannot be understood, or does not listen any more.
pub fn serve(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    ffi::close_all_but_standard();
    ffi::ignore_sigio();
    // Whoever stops the guard lets it finish its file; the child ends when its questions do.
    ffi::ignore_sigterm();
    let mut child = Child::default();
    while let Some(question) = receive::<Question>(from)? {
        let answer = child.answer(question, to).unwrap_or_else(|error| Answer::Refused(Refusal::from(&error)));
        send(to, &answer)?;
    }
    Ok(())
}

impl Child {
    fn tree(&self) -> io::Result<&GuardedTree> {
        self.tree.as_ref().ok_or_else(|| io::Error::other("no tree was opened yet"))
    }

    fn hold(&mut self, file: Option<Box<dyn HeldFile>>) -> Answer {
        Answer::Number(file.map(|file| {
            self.next += 1;
            self.files.insert(self.next, file);
            self.next
        }))
    }

    fn answer(&mut self, question: Question, to: &mut dyn Write) -> io::Result<Answer> {
        Ok(match question {
            Question::Open(path) => {
                self.files.clear();
                self.tree = None;
                let tree = GuardedTree::open(Path::new(OsStr::from_bytes(&path)))?;
                let top = tree.top()?;
                self.tree = Some(tree);
                Answer::Identity(Some(top.into()))
            }
            Question::Reading(path) => {
                match SystemVolumes.read(Path::new(OsStr::from_bytes(&path)), Timestamp::default()) {
                    Ok(reading) => Answer::Reading(reading.into()),
                    Err(why) => Answer::Unusable(why.into()),
                }
            }
            Question::Read(dir) => self.read(dir.as_deref(), to)?,
            Question::Look(name) => Answer::Identity(self.tree()?.look(&path(&name)?)?.map(Into::into)),
            Question::Top => Answer::Identity(Some(self.tree()?.top()?.into())),
            Question::StillThere => match self.tree()?.still_there() {
                Ok(()) => Answer::Done,
                Err(why) => Answer::Unusable(why.into()),
            },
            Question::OpenFile(name) => {
                let file = self.tree()?.open(&path(&name)?)?;
                self.hold(file)
            }
            Question::SetAside(name, seq) => Answer::Aside((&self.tree()?.set_aside(&path(&name)?, seq)?).into()),
            Question::SetAsideOnRecord(name, seq) => {
                Answer::Aside((&self.tree()?.set_aside_on_record(&path(&name)?, seq)?).into())
            }
            Question::SetAsideOnly(name, seq, file, on_record) => {
                let aside = self.tree()?.set_aside_only(&path(&name)?, seq, &file.into(), on_record)?;
                Answer::Aside((&aside).into())
            }
            Question::LookAside(aside) => {
                Answer::Identity(self.tree()?.look_aside(&aside.try_into()?)?.map(Into::into))
            }
            Question::OpenAside(aside) => {
                let file = self.tree()?.open_aside(&aside.try_into()?)?;
                self.hold(file)
            }
            Question::PutBack(aside, name) => {
                self.tree()?.put_back(&aside.try_into()?, &path(&name)?)?;
                Answer::Done
            }
            Question::UnlinkAside(aside) => {
                self.tree()?.unlink_aside(&aside.try_into()?)?;
                Answer::Done
            }
            Question::ListAside => Answer::Asides(self.tree()?.list_aside()?.iter().map(Into::into).collect()),
            Question::RemoveDir(name) => {
                self.tree()?.remove_dir(&path(&name)?)?;
                Answer::Done
            }
            Question::SyncDir(dir) => {
                self.tree()?.sync_dir(below(dir.as_deref())?.as_ref())?;
                Answer::Done
            }
            Question::SyncAside => {
                self.tree()?.sync_aside()?;
                Answer::Done
            }
            Question::SyncFilesystem => {
                self.tree()?.sync_filesystem()?;
                Answer::Done
            }
            Question::ReadMarker => Answer::Text(self.tree()?.read_marker()?),
            Question::WriteMarker(text) => {
                self.tree()?.write_marker(&text)?;
                Answer::Done
            }
            Question::WriteCanary(bytes) => {
                self.tree()?.write_canary(Bytes(bytes))?;
                Answer::Done
            }
            Question::RemoveCanary => {
                self.tree()?.remove_canary()?;
                Answer::Done
            }
            Question::FilesystemUuid => Answer::Text(self.tree()?.filesystem_uuid()?),
            Question::Lock => Answer::Number(self.tree()?.lock()?.map(u64::from)),
            Question::File(number, FileQuestion::Close) => {
                self.files.remove(&number);
                Answer::Done
            }
            Question::File(number, question) => {
                let file = self.files.get(&number).ok_or_else(|| io::Error::other("no such file is held"))?;
                ask(file.as_ref(), question)?
            }
        })
    }

    fn read(&self, dir: Option<&[u8]>, to: &mut dyn Write) -> io::Result<Answer> {
        let dir = below(dir)?;
        let mut chunk: Vec<EntryShape> = Vec::with_capacity(CHUNK);
        let mut deaf = None;
        let read = self.tree()?.read(dir.as_ref(), &mut |entry| {
            chunk.push(entry.into());
            if chunk.len() == CHUNK && deaf.is_none() {
                deaf = send(to, &Answer::Entries(std::mem::take(&mut chunk))).err();
            }
        });
        if let Some(error) = deaf {
            return Err(error);
        }
        send(to, &Answer::Entries(chunk))?;
        read.map(|()| Answer::Done)
    }
}

fn below(dir: Option<&[u8]>) -> io::Result<Option<RelPath>> {
    dir.map(path).transpose()
}

fn ask(file: &dyn HeldFile, question: FileQuestion) -> io::Result<Answer> {
    Ok(match question {
        FileQuestion::Identity => Answer::Identity(Some(file.identity()?.into())),
        FileQuestion::Lease(kind) => Answer::Lease(file.lease(kind.into())?.into()),
        FileQuestion::Undisturbed(kind) => Answer::Flag(file.undisturbed(kind.into())),
        FileQuestion::Release => {
            file.release()?;
            Answer::Done
        }
        FileQuestion::Attribute(name) => Answer::Data(file.attribute(&name)?),
        FileQuestion::SetAttribute(name, value) => {
            file.set_attribute(&name, &value)?;
            Answer::Done
        }
        FileQuestion::RemoveAttribute(name) => {
            file.remove_attribute(&name)?;
            Answer::Done
        }
        FileQuestion::Locked => Answer::Flag(file.locked()),
        FileQuestion::Shared => Answer::Number(file.shared().map(|bytes| bytes.0)),
        FileQuestion::ReadAt(offset, length) => {
            let mut data = vec![0; usize::try_from(length).unwrap_or(MOST_READ).min(MOST_READ)];
            let read = file.read_at(offset, &mut data)?;
            data.truncate(read);
            Answer::Data(Some(data))
        }
        FileQuestion::Close => Answer::Done,
    })
}
