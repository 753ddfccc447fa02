//! What persons hold: kept in the database, and asked by everybody who would delete something.
//!
//! 1. A hold counts from the moment at which it is made, whether or not it could be written; what could not be is tried again.
//! 2. Before the first file gets its mark the row says that files may bear one.
//! 3. A hold that has ended counts no more. Its row stays until no file bears its mark, so that a crash leaves none behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use super::database::{Database, DatabaseError};
use super::hold_rows::StoredHold;
use crate::domain::hold::Holds;
use crate::domain::names::TreeId;
use crate::domain::protection::{Hold, HoldScope};
use crate::domain::units::Timestamp;

/// A mark must fit beside the other attributes of a file: so many characters of a reason and of a name.
const TOLD: (usize, usize) = (200, 64);

#[derive(Debug, Default)]
struct Kept {
    holds: BTreeMap<u64, StoredHold>,
    last: u64,
    /// What the database does not know yet.
    dirty: BTreeSet<u64>,
}

/// All holds.
#[derive(Debug, Default)]
pub struct HoldBook {
    database: Option<Arc<Database>>,
    kept: Mutex<Kept>,
    in_effect: ArcSwap<BTreeMap<TreeId, Arc<Holds>>>,
    revision: AtomicU64,
}

impl HoldBook {
    /// What the database kept.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn open(database: Arc<Database>) -> Result<Self, DatabaseError> {
        let (stored, last) = database.holds()?;
        let last = stored.last().map_or(last, |stored| stored.hold.id.max(last));
        let holds = stored.into_iter().map(|stored| (stored.hold.id, stored)).collect();
        let kept = Kept { holds, last, dirty: BTreeSet::new() };
        let book = Self { database: Some(database), kept: Mutex::new(kept), ..Self::default() };
        book.publish(&book.lock());
        Ok(book)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, kept: &Kept) {
        let mut by_tree: BTreeMap<TreeId, Vec<Hold>> = BTreeMap::new();
        for stored in kept.holds.values().filter(|stored| stored.ended.is_none()) {
            by_tree.entry(stored.hold.tree.clone()).or_default().push(stored.hold.clone());
        }
        let by_tree = by_tree.into_iter().map(|(tree, holds)| (tree, Arc::new(Holds::new(holds)))).collect();
        self.in_effect.store(Arc::new(by_tree));
        self.revision.fetch_add(1, Ordering::Release);
    }

    /// Another number after each change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Those of a tree that are in effect.
    #[must_use]
    pub fn of(&self, tree: &TreeId) -> Arc<Holds> {
        self.in_effect.load().get(tree).cloned().unwrap_or_default()
    }

    /// All that are in effect, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Hold> {
        let kept = self.lock();
        kept.holds.values().filter(|stored| stored.ended.is_none()).map(|stored| stored.hold.clone()).collect()
    }

    /// One that is in effect.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Hold> {
        self.lock().holds.get(&id).filter(|stored| stored.ended.is_none()).map(|stored| stored.hold.clone())
    }

    /// The number for the next one.
    #[must_use]
    pub fn next(&self) -> u64 {
        let mut kept = self.lock();
        kept.last = kept.last.saturating_add(1);
        kept.last
    }

    /// Makes one, under a number that was given for it. Says whether a restart will know of it.
    pub fn add(&self, hold: Hold) -> bool {
        let mut kept = self.lock();
        let id = hold.id;
        kept.holds.insert(id, StoredHold { hold, ended: None, marked: false });
        kept.dirty.insert(id);
        self.publish(&kept);
        self.write(&mut kept)
    }

    /// Ends one that is in effect.
    pub fn end(&self, id: u64, now: Timestamp) -> Option<Hold> {
        let mut kept = self.lock();
        let stored = kept.holds.get_mut(&id).filter(|stored| stored.ended.is_none())?;
        stored.ended = Some(now);
        let (hold, marked) = (stored.hold.clone(), stored.marked);
        if !marked {
            kept.holds.remove(&id);
        }
        kept.dirty.insert(id);
        self.publish(&kept);
        self.write(&mut kept);
        Some(hold)
    }

    /// Those of a tree that have ended, and whose marks files may still bear.
    #[must_use]
    pub fn ended(&self, tree: &TreeId) -> Vec<Hold> {
        let kept = self.lock();
        let ended = kept.holds.values().filter(|stored| stored.ended.is_some() && stored.hold.tree == *tree);
        ended.map(|stored| stored.hold.clone()).collect()
    }

    /// Files are about to get the mark of one. `false` if that cannot be put on record: then none may.
    pub fn mark(&self, id: u64) -> bool {
        let mut kept = self.lock();
        let Some(stored) = kept.holds.get_mut(&id) else { return false };
        if !std::mem::replace(&mut stored.marked, true) {
            kept.dirty.insert(id);
        }
        if kept.dirty.contains(&id) {
            self.write(&mut kept);
        }
        !kept.dirty.contains(&id)
    }

    /// No file bears the mark of one that has ended.
    pub fn let_go(&self, id: u64) {
        let mut kept = self.lock();
        if kept.holds.get(&id).is_some_and(|stored| stored.ended.is_some()) {
            kept.holds.remove(&id);
            kept.dirty.insert(id);
            self.write(&mut kept);
        }
    }

    /// Tries to write what could not be written.
    pub fn keep(&self) {
        let mut kept = self.lock();
        if !kept.dirty.is_empty() {
            self.write(&mut kept);
        }
    }

    /// Writes what the database does not know. Says whether a restart will know of everything.
    fn write(&self, kept: &mut Kept) -> bool {
        let Some(database) = &self.database else {
            kept.dirty.clear();
            return false;
        };
        let Kept { holds, dirty, .. } = kept;
        dirty.retain(|id| {
            let written = match holds.get(id) {
                Some(stored) => database.keep_hold(stored),
                None => database.forget_hold(*id),
            };
            written.is_err()
        });
        dirty.is_empty() && !database.in_memory()
    }

    /// Whether a mark on a file is that of a hold of a tree that is in effect, or that ended here.
    #[must_use]
    pub fn knows(&self, tree: &TreeId, mark: &[u8]) -> bool {
        let kept = self.lock();
        let named = id_in(mark).and_then(|id| kept.holds.get(&id));
        named.is_some_and(|stored| stored.hold.tree == *tree && is_mark_of(mark, &stored.hold))
    }
}

/// What a file bears that is held: enough for a person to know whom to ask, and for us to know our own again.
#[must_use]
pub fn mark_of(hold: &Hold) -> Vec<u8> {
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let mut mark = json!({
        "id": hold.id,
        "made": hold.made.to_string(),
        "who": cut(&hold.who, TOLD.1),
        "reason": cut(&hold.reason, TOLD.0),
    });
    if let (Some(until), Value::Object(fields)) = (hold.until, &mut mark) {
        fields.insert("until".to_owned(), Value::String(until.to_string()));
    }
    if let (HoldScope::Span { from, to, .. }, Value::Object(fields)) = (&hold.scope, &mut mark) {
        fields.insert("span".to_owned(), Value::String(format!("{from} {to}")));
    }
    mark.to_string().into_bytes()
}

fn id_in(mark: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(mark).ok()?["id"].as_u64()
}

/// Whether a mark was made for a hold. A state that was lost counts anew, so that the number alone says nothing.
#[must_use]
pub fn is_mark_of(mark: &[u8], hold: &Hold) -> bool {
    let Ok(told) = serde_json::from_slice::<Value>(mark) else { return false };
    told["id"].as_u64() == Some(hold.id) && told["made"].as_str() == Some(hold.made.to_string().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::names::StreamId;
    use crate::domain::path::RelPath;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn hold(id: u64, scope: HoldScope) -> Hold {
        let (reason, who) = ("case \"7\", 门".to_owned(), "ops".to_owned());
        Hold { id, tree: TreeId::new("live"), scope, reason, who, made: at(5), until: (id == 1).then(|| at(99)) }
    }

    fn scopes() -> [HoldScope; 2] {
        let path = |bytes: &[u8]| RelPath::new(bytes).unwrap();
        [
            HoldScope::Paths(vec![path(b"live/a\xff.mp4"), path(b"live/b\n.mp4")]),
            HoldScope::Span { stream: StreamId::new("live/门"), from: at(-5), to: at(7) },
        ]
    }

    #[test]
    fn holds_are_read_as_they_were_kept_and_no_number_is_given_twice() {
        let database = Arc::new(Database::memory().unwrap());
        let book = HoldBook::open(database.clone()).unwrap();
        let made: Vec<Hold> = scopes().into_iter().map(|scope| hold(book.next(), scope)).collect();
        made.iter().for_each(|hold| assert!(!book.add(hold.clone()), "memory is no state that outlives us"));
        let again = || HoldBook::open(database.clone()).unwrap();
        assert_eq!(again().all(), made);
        assert_eq!(again().of(&TreeId::new("live")).iter().cloned().collect::<Vec<_>>(), made);
        assert!(again().of(&TreeId::new("other")).is_empty());
        assert_eq!(book.end(2, at(9)).as_ref(), made.get(1));
        assert_eq!(book.end(2, at(9)), None);
        assert_eq!((again().all(), again().next()), (made[..1].to_vec(), 3));
    }

    #[test]
    fn what_files_may_bear_is_remembered_until_no_file_bears_it() {
        let database = Arc::new(Database::memory().unwrap());
        let book = HoldBook::open(database.clone()).unwrap();
        book.add(hold(1, scopes()[0].clone()));
        book.mark(1);
        book.end(1, at(9));
        let tree = TreeId::new("live");
        let ended = || HoldBook::open(database.clone()).unwrap().ended(&tree).len();
        assert_eq!((book.all().len(), book.of(&tree).is_empty(), ended()), (0, true, 1));
        book.let_go(1);
        assert_eq!(ended(), 0);
    }

    #[test]
    fn a_hold_that_cannot_be_written_counts_and_is_written_later() {
        let database = Arc::new(Database::memory().unwrap());
        let book = HoldBook::open(database.clone()).unwrap();
        database.refuse_writes(true);
        book.add(hold(1, scopes()[0].clone()));
        assert_eq!(book.of(&TreeId::new("live")).iter().count(), 1);
        assert!(!book.mark(1));
        database.refuse_writes(false);
        assert_eq!(HoldBook::open(database.clone()).unwrap().all().len(), 0);
        book.keep();
        assert_eq!(HoldBook::open(database).unwrap().all().len(), 1);
    }

    #[test]
    fn what_cannot_be_read_of_a_row_holds_more_and_not_less() {
        let database = Arc::new(Database::memory().unwrap());
        let book = HoldBook::open(database.clone()).unwrap();
        book.add(hold(2, scopes()[1].clone()));
        database.with("test", |c| c.execute("UPDATE holds SET since = NULL, before = NULL", [])).unwrap();
        let all = HoldBook::open(database).unwrap().all();
        let reach = |secs| crate::domain::hold::Reach::of(Some(at(secs)), Some(at(secs)));
        assert!(all[0].scope.reached_by(reach(-1_000_000_000)) && all[0].scope.reached_by(reach(1_000_000_000)));
    }

    #[test]
    fn a_mark_is_short_and_known_again_and_another_states_is_not_taken_for_it() {
        let mut one = hold(1, scopes()[1].clone());
        one.reason = "门".repeat(1000);
        let mark = mark_of(&one);
        assert!(mark.len() < 1200 && is_mark_of(&mark, &one), "{}", String::from_utf8_lossy(&mark));
        let other = Hold { made: at(6), ..one.clone() };
        assert!(!is_mark_of(&mark, &other) && !is_mark_of(b"", &one) && !is_mark_of(b"{}", &one));
        let book = HoldBook::default();
        book.add(one);
        assert!(book.knows(&TreeId::new("live"), &mark));
        assert!(!book.knows(&TreeId::new("other"), &mark) && !book.knows(&TreeId::new("live"), &mark_of(&other)));
    }
}
