//! Pages of orphans and of missing files. Only a page at a time is in memory, and a cursor names the last item that was given, so that
//! nothing is given twice or left out where others come and go meanwhile.

use super::orphan_calls::{SetAside, unreadable};
use crate::domain::catalogue::RowId;
use crate::domain::deletion::Seq;
use crate::domain::names::{CatalogueId, TreeId};
use crate::domain::objection::Witnessing;
use crate::domain::orphan::{Missing, Orphan, OrphanKind};
use crate::domain::path::RelPath;
use crate::server::orphans::{Missing as MissingShape, Orphan as OrphanShape};
use crate::server::records::hex;
use crate::server::shapes::Page;
use crate::server::{PageQuery, Refusal};
use crate::store::{DatabaseError, OrphanQuery};

/// What is known of orphans and of who should know them.
pub(super) trait Lookout {
    /// A page of orphans, in the order of tree, kind and path.
    fn orphans(&self, query: &OrphanQuery) -> Result<Vec<Orphan>, DatabaseError>;
    /// One orphan.
    fn orphan(&self, tree: &TreeId, kind: OrphanKind, path: &RelPath) -> Result<Option<Orphan>, DatabaseError>;
    /// A page of missing files, in the order of tree, path, catalogue and row.
    fn missing(
        &self,
        tree: Option<&TreeId>,
        after: Option<&Missing>,
        limit: usize,
    ) -> Result<Vec<Missing>, DatabaseError>;
    /// How many missing files a tree has.
    fn missing_in(&self, tree: &TreeId) -> Result<u64, DatabaseError>;
    /// How many recordings of a tree the catalogues list that are believed.
    fn listed_in(&self, tree: &TreeId) -> Result<u64, DatabaseError>;
    /// How the catalogues of a tree stand.
    fn witnessing(&self, tree: &TreeId) -> Vec<Witnessing>;
}

/// Where a page of orphans begins.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// After this reported one; `None`: with the first.
    Reported(Option<(TreeId, OrphanKind, RelPath)>),
    /// After the one that was set aside with this number.
    SetAside(Seq),
}

/// A page of orphans: reported ones, then those that are set aside. `query` says which are wanted; `set_aside` gives so many after a number.
pub(super) fn orphan_page(
    found: Option<&dyn Lookout>,
    query: OrphanQuery,
    set_aside: &dyn Fn(Seq, usize) -> Vec<SetAside>,
    shown: &dyn Fn(&SetAside) -> OrphanShape,
    page: &PageQuery,
) -> Result<Page<OrphanShape>, Refusal> {
    let place = match &page.cursor {
        None => Place::Reported(None),
        Some(text) => Place::read(text).ok_or_else(|| Refusal::bad_cursor(text))?,
    };
    let kind = query.kind;
    let mut items = Vec::new();
    let from = match place {
        Place::Reported(after) => {
            let mut some = match found {
                Some(found) => {
                    let query = OrphanQuery { after, limit: page.limit + 1, ..query };
                    found.orphans(&query).map_err(|error| unreadable(&error))?
                }
                None => Vec::new(),
            };
            let more = some.len() > page.limit;
            some.truncate(page.limit);
            items.extend(some.iter().map(OrphanShape::from));
            if let (true, Some(last)) = (more, some.pop()) {
                let next = Place::Reported(Some((last.tree, last.kind, last.path)));
                return Ok(Page { items, next: Some(next.write()) });
            }
            Seq(0)
        }
        Place::SetAside(after) => after,
    };
    // What is set aside was a recording that no catalogue knows, and proven.
    if kind == Some(OrphanKind::Leftover) {
        return Ok(Page { items, next: None });
    }
    let room = page.limit - items.len();
    let some = set_aside(from, room + 1);
    let last = some.get(..room).map_or(from, |given| given.last().map_or(from, |one| one.seq));
    items.extend(some.iter().take(room).map(shown));
    let next = (some.len() > room).then(|| Place::SetAside(last).write());
    Ok(Page { items, next })
}

/// A page of missing files.
pub(super) fn missing_page(
    found: Option<&dyn Lookout>,
    tree: Option<&TreeId>,
    page: &PageQuery,
) -> Result<Page<MissingShape>, Refusal> {
    let after = match &page.cursor {
        None => None,
        Some(text) => Some(read_missing(text).ok_or_else(|| Refusal::bad_cursor(text))?),
    };
    let Some(found) = found else { return Ok(Page { items: Vec::new(), next: None }) };
    let mut some = found.missing(tree, after.as_ref(), page.limit + 1).map_err(|error| unreadable(&error))?;
    let more = some.len() > page.limit;
    some.truncate(page.limit);
    let next = some.last().filter(|_| more).map(write_missing);
    Ok(Page { items: some.iter().map(MissingShape::from).collect(), next })
}

impl Place {
    fn write(&self) -> String {
        match self {
            Self::Reported(None) => "r".to_owned(),
            Self::Reported(Some((tree, kind, path))) => {
                format!("r.{}.{kind}.{}", hex(tree.as_str().as_bytes()), hex(path.as_bytes()))
            }
            Self::SetAside(seq) => format!("q.{}", seq.0),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split('.').collect();
        match words[..] {
            ["r"] => Some(Self::Reported(None)),
            ["r", tree, kind, path] => {
                let tree = TreeId::new(&String::from_utf8(bytes(tree)?).ok()?);
                Some(Self::Reported(Some((tree, OrphanKind::from_word(kind)?, RelPath::new(&bytes(path)?).ok()?))))
            }
            ["q", number] => Some(Self::SetAside(Seq(number.parse().ok()?))),
            _ => None,
        }
    }
}

fn write_missing(missing: &Missing) -> String {
    let row = match &missing.row {
        RowId::Number(number) => format!("n{number}"),
        RowId::Text(text) => format!("t{}", hex(text.as_bytes())),
    };
    let (tree, catalogue) = (missing.tree.as_str().as_bytes(), missing.catalogue.as_str().as_bytes());
    format!("{}.{}.{}.{row}", hex(tree), hex(missing.path.as_bytes()), hex(catalogue))
}

fn read_missing(text: &str) -> Option<Missing> {
    let words: Vec<&str> = text.split('.').collect();
    let [tree, path, catalogue, row] = words[..] else { return None };
    let name = |word: &str| String::from_utf8(bytes(word)?).ok();
    let row = match row.split_at_checked(1)? {
        ("n", number) => RowId::Number(number.parse().ok()?),
        ("t", text) => RowId::Text(name(text)?),
        _ => return None,
    };
    Some(Missing {
        tree: TreeId::new(&name(tree)?),
        path: RelPath::new(&bytes(path)?).ok()?,
        catalogue: CatalogueId::new(&name(catalogue)?),
        row,
    })
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let pair = |pair: &[u32]| u8::try_from(pair.first()? * 16 + pair.get(1)?).ok();
    digits.chunks(2).map(pair).collect()
}

#[cfg(test)]
#[path = "orphan_pages_tests.rs"]
pub(super) mod tests;
