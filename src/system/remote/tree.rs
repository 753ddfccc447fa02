//! A tree that a child works: every call is a question.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::link::Link;
use super::shapes::{Answer, AsideShape, FileQuestion, MOST_READ, Question, misfit};
use crate::domain::path::RelPath;
use crate::domain::recording::FileIdentity;
use crate::domain::units::Bytes;
use crate::domain::volume::Unusable;
use crate::system::{Aside, Dir, DirEntry, HeldFile, Lease, LeaseKind, WritableDir, tree_change::beside};

/// The guard's side of the tree.
pub(super) struct IsolatedTree(pub(super) Arc<Link>);

fn name(path: &RelPath) -> Vec<u8> {
    path.as_bytes().to_vec()
}

fn done(answer: Answer) -> io::Result<()> {
    let Answer::Done = answer else { return Err(misfit()) };
    Ok(())
}

fn identity(answer: Answer) -> io::Result<Option<FileIdentity>> {
    let Answer::Identity(found) = answer else { return Err(misfit()) };
    Ok(found.map(Into::into))
}

fn text(answer: Answer) -> io::Result<Option<String>> {
    let Answer::Text(text) = answer else { return Err(misfit()) };
    Ok(text)
}

impl IsolatedTree {
    fn ask(&self, question: &Question) -> io::Result<Answer> {
        self.0.ask(None, question, self.0.deadlines.call)
    }

    fn hold(&self, question: &Question) -> io::Result<Option<Box<dyn HeldFile>>> {
        let held = self.0.ask_to_hold(question)?;
        Ok(held.map(|(generation, number)| -> Box<dyn HeldFile> {
            Box::new(IsolatedFile { link: self.0.clone(), generation, number })
        }))
    }
}

impl Dir for IsolatedTree {
    fn read(&self, dir: Option<&RelPath>, each: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
        let question = Question::Read(dir.map(name));
        done(self.0.ask_for(None, &question, self.0.deadlines.call, &mut |entry| each(entry.into()))?)
    }

    fn look(&self, path: &RelPath) -> io::Result<Option<FileIdentity>> {
        identity(self.ask(&Question::Look(name(path)))?)
    }

    fn top(&self) -> io::Result<FileIdentity> {
        identity(self.ask(&Question::Top)?)?.ok_or_else(misfit)
    }

    fn still_there(&self) -> Result<(), Unusable> {
        self.0.still_there()
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn breaks(&self) -> u64 {
        self.0.breaks()
    }
}

impl WritableDir for IsolatedTree {
    fn open(&self, path: &RelPath) -> io::Result<Option<Box<dyn HeldFile>>> {
        self.hold(&Question::OpenFile(name(path)))
    }

    fn set_aside(&self, path: &RelPath, seq: u64) -> io::Result<Aside> {
        let Answer::Aside(aside) = self.ask(&Question::SetAside(name(path), seq))? else { return Err(misfit()) };
        aside.try_into()
    }

    fn set_aside_on_record(&self, path: &RelPath, seq: u64) -> io::Result<Aside> {
        let Answer::Aside(aside) = self.ask(&Question::SetAsideOnRecord(name(path), seq))? else {
            return Err(misfit());
        };
        aside.try_into()
    }

    fn set_aside_only(&self, path: &RelPath, seq: u64, file: &FileIdentity, on_record: bool) -> io::Result<Aside> {
        let question = Question::SetAsideOnly(name(path), seq, (*file).into(), on_record);
        let Answer::Aside(aside) = self.ask(&question)? else { return Err(misfit()) };
        aside.try_into()
    }

    fn look_aside(&self, aside: &Aside) -> io::Result<Option<FileIdentity>> {
        identity(self.ask(&Question::LookAside(aside.into()))?)
    }

    fn open_aside(&self, aside: &Aside) -> io::Result<Option<Box<dyn HeldFile>>> {
        self.hold(&Question::OpenAside(aside.into()))
    }

    fn put_back(&self, aside: &Aside, path: &RelPath) -> io::Result<()> {
        done(self.ask(&Question::PutBack(aside.into(), name(path)))?)
    }

    fn unlink_aside(&self, aside: &Aside) -> io::Result<()> {
        done(self.ask(&Question::UnlinkAside(aside.into()))?)
    }

    fn list_aside(&self) -> io::Result<Vec<Aside>> {
        let Answer::Asides(asides) = self.ask(&Question::ListAside)? else { return Err(misfit()) };
        asides.into_iter().map(AsideShape::try_into).collect()
    }

    fn beside(&self, path: &RelPath, seq: u64) -> Aside {
        beside(path, seq)
    }

    fn remove_dir(&self, path: &RelPath) -> io::Result<()> {
        done(self.ask(&Question::RemoveDir(name(path)))?)
    }

    fn sync_dir(&self, path: Option<&RelPath>) -> io::Result<()> {
        done(self.0.ask(None, &Question::SyncDir(path.map(name)), self.0.deadlines.sync)?)
    }

    fn sync_aside(&self) -> io::Result<()> {
        done(self.0.ask(None, &Question::SyncAside, self.0.deadlines.sync)?)
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        done(self.0.ask(None, &Question::SyncFilesystem, self.0.deadlines.sync)?)
    }

    fn read_marker(&self) -> io::Result<Option<String>> {
        text(self.ask(&Question::ReadMarker)?)
    }

    fn write_marker(&self, text: &str) -> io::Result<()> {
        done(self.ask(&Question::WriteMarker(text.to_owned()))?)
    }

    fn write_canary(&self, bytes: Bytes) -> io::Result<()> {
        done(self.0.ask(None, &Question::WriteCanary(bytes.0), self.0.deadlines.sync)?)
    }

    fn remove_canary(&self) -> io::Result<()> {
        done(self.ask(&Question::RemoveCanary)?)
    }

    fn filesystem_uuid(&self) -> io::Result<Option<String>> {
        text(self.ask(&Question::FilesystemUuid)?)
    }

    fn lock(&self) -> io::Result<Option<u32>> {
        Ok(self.0.lock()?.map(|pid| u32::try_from(pid).unwrap_or(0)))
    }
}

/// A file that the child holds open.
struct IsolatedFile {
    link: Arc<Link>,
    generation: u64,
    number: u64,
}

impl IsolatedFile {
    fn ask(&self, question: FileQuestion) -> io::Result<Answer> {
        self.link.ask(Some(self.generation), &Question::File(self.number, question), self.link.deadlines.call)
    }
}

impl HeldFile for IsolatedFile {
    fn identity(&self) -> io::Result<FileIdentity> {
        identity(self.ask(FileQuestion::Identity)?)?.ok_or_else(misfit)
    }

    fn lease(&self, kind: LeaseKind) -> io::Result<Lease> {
        let Answer::Lease(lease) = self.ask(FileQuestion::Lease(kind.into()))? else { return Err(misfit()) };
        Ok(lease.into())
    }

    fn undisturbed(&self, kind: LeaseKind) -> bool {
        matches!(self.ask(FileQuestion::Undisturbed(kind.into())), Ok(Answer::Flag(true)))
    }

    fn release(&self) -> io::Result<()> {
        done(self.ask(FileQuestion::Release)?)
    }

    fn attribute(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Answer::Data(value) = self.ask(FileQuestion::Attribute(name.to_owned()))? else { return Err(misfit()) };
        Ok(value)
    }

    fn set_attribute(&self, name: &str, value: &[u8]) -> io::Result<()> {
        done(self.ask(FileQuestion::SetAttribute(name.to_owned(), value.to_vec()))?)
    }

    fn remove_attribute(&self, name: &str) -> io::Result<()> {
        done(self.ask(FileQuestion::RemoveAttribute(name.to_owned()))?)
    }

    fn locked(&self) -> bool {
        matches!(self.ask(FileQuestion::Locked), Ok(Answer::Flag(true)))
    }

    fn shared(&self) -> Option<Bytes> {
        match self.ask(FileQuestion::Shared) {
            Ok(Answer::Number(bytes)) => bytes.map(Bytes),
            Ok(_) | Err(_) => None,
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = u32::try_from(buffer.len().min(MOST_READ)).unwrap_or(0);
        let Answer::Data(Some(data)) = self.ask(FileQuestion::ReadAt(offset, wanted))? else { return Err(misfit()) };
        buffer.get_mut(..data.len()).ok_or_else(misfit)?.copy_from_slice(&data);
        Ok(data.len())
    }
}

impl Drop for IsolatedFile {
    fn drop(&mut self) {
        // With the child its files go too.
        let _ = self.ask(FileQuestion::Close);
    }
}
