//! What is kept in a bucket: found, listed, brought back, removed; and what belongs to others, left alone.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::ops::ControlFlow;

use storage_guard::archive::{Bucket, ColdError, ColdObject, ColdStore as _};
use storage_guard::domain::archive::BucketSettings;
use storage_guard::domain::cause::chain;
use storage_guard::domain::path::RelPath;
use storage_guard::domain::secret::Secret;

use super::between::What::{Unanswered, Young};
use super::between::{ALWAYS, On, fault};
use super::{LARGE, MODIFIED, SMALL, Site, content, digest, get, opened, path, put, put_all};
use crate::support::moto::Moto;

fn listed(archive: &Bucket, under: Option<&RelPath>) -> Vec<ColdObject> {
    let mut out = Vec::new();
    archive
        .list(under, &mut |object| {
            out.push(object);
            ControlFlow::Continue(())
        })
        .unwrap();
    out
}

#[test]
#[ignore = "needs moto"]
fn every_name_is_kept_listed_and_brought_back() {
    let site = Site::new();
    let archive = site.archive();
    let names: [&[u8]; 8] = [
        b"live/cam/2026-11-20/a.mp4",
        b"live/cam/2026-11-20/a b+c&d=e.mp4",
        "live/门口/a.mp4".as_bytes(),
        b"live/50%41/%.mp4",
        b"live/\xff\xfe\n/ a ",
        b"live/<a>'\"/*?.mp4",
        b"other/~user/[1].mp4",
        b"plain",
    ];
    for (seed, name) in names.iter().enumerate() {
        let (key, content) = (RelPath::new(name).unwrap(), content(seed as u8, 1000 + seed));
        put_all(&archive, &key, &content).unwrap();
        assert_eq!(get(&archive, &key).unwrap(), content, "{key}");
        let found = archive.look(&key).unwrap().unwrap();
        assert_eq!(found.size, content.len() as u64);
        assert_eq!((found.modified.millis(), found.digest), (MODIFIED / 1_000_000, Some(digest(&content))));
    }
    // What others keep below the same prefix is not the guard's.
    for foreign in ["guard/site-1/a//b", "guard/site-1/../a", "guard/site-1x/a", "guard/site-1/a%20", "guard/site-1/%2"]
    {
        site.moto.put(&format!("/cold/{}", foreign.replace('%', "%25")), b"theirs");
    }
    let expected: BTreeSet<RelPath> = names.iter().map(|name| RelPath::new(name).unwrap()).collect();
    let keys = |under: Option<&RelPath>| listed(&archive, under).into_iter().map(|o| o.key).collect::<BTreeSet<_>>();
    assert_eq!(keys(None).difference(&expected).map(ToString::to_string).collect::<Vec<_>>(), ["a "]);
    assert!(expected.is_subset(&keys(None)));
    assert_eq!(keys(Some(&path("live"))), expected.iter().filter(|key| key.lies_in(&path("live"))).cloned().collect());
    assert_eq!(keys(Some(&path("nothing"))), BTreeSet::new());
}

#[test]
#[ignore = "needs moto"]
fn a_list_of_many_pages_is_whole_and_ends_when_told() {
    let site = Site::new();
    let archive = site.archive();
    for number in 0..1203 {
        site.moto.put(&format!("/cold/guard/site-1/many/{number:04}"), b"1");
    }
    let all = listed(&archive, Some(&path("many")));
    assert_eq!(all.iter().map(|object| object.key.clone()).collect::<BTreeSet<_>>().len(), 1203);
    let mut seen = 0;
    archive
        .list(None, &mut |_| {
            seen += 1;
            if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(seen, 3);
}

#[test]
#[ignore = "needs moto"]
fn nothing_is_written_over() {
    let site = Site::new();
    let archive = site.archive();
    let at = path("live/a.mp4");
    let (first, other) = (content(1, SMALL), content(2, SMALL));
    put_all(&archive, &at, &first).unwrap();
    site.between.breaks(&[]);
    put_all(&archive, &at, &first).unwrap();
    for wrong in [&other[..], &first[1..]] {
        assert!(matches!(put_all(&archive, &at, wrong), Err(ColdError::Taken { .. })));
    }
    assert_eq!((site.between.seen("PUT", ""), site.between.seen("POST", "")), (0, 0));
    assert_eq!(site.content("live/a.mp4"), Some(first));
    // Somebody else's object with the very content is as good as a copy; with another it stays.
    for (key, theirs, fine) in [("b", &other, true), ("c", &content(7, SMALL), false)] {
        site.moto.put(&format!("/cold/guard/site-1/{key}"), theirs);
        assert_eq!(put_all(&archive, &path(key), &other).is_ok(), fine, "{key}");
        assert_eq!(site.content(key).as_ref(), Some(theirs));
    }
}

/// A source that does something once it has been read so far.
struct Interfering<'a, F: FnMut() -> io::Result<()>> {
    rest: &'a [u8],
    at: usize,
    then: Option<F>,
}

impl<F: FnMut() -> io::Result<()>> io::Read for Interfering<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.len() <= self.at
            && let Some(mut then) = self.then.take()
        {
            then()?;
        }
        self.rest.read(buffer)
    }
}

#[test]
#[ignore = "needs moto"]
fn who_comes_between_the_look_and_the_write_stays() {
    let site = Site::new();
    let archive = site.archive();
    for (key, size) in [("small", SMALL), ("large", LARGE)] {
        for (theirs, fine) in [(content(8, size), false), (content(4, size), true)] {
            let key = format!("{key}-{fine}");
            let ours = content(4, size);
            let then = || {
                site.moto.put(&format!("/cold/guard/site-1/{key}"), &theirs);
                Ok(())
            };
            let mut source = Interfering { rest: &ours, at: size / 2, then: Some(then) };
            let put = put(&archive, &path(&key), size as u64, &mut source);
            assert_eq!(put.is_ok(), fine, "{key}");
            assert!(fine || matches!(put, Err(ColdError::Taken { .. })), "{key}");
            assert_eq!(site.content(&key).as_ref(), Some(&theirs), "{key}");
            assert_eq!(site.moto.uploads("cold"), 0, "{key}");
        }
    }
}

#[test]
#[ignore = "needs moto"]
fn a_source_that_fails_or_changes_leaves_nothing() {
    let site = Site::new();
    let archive = site.archive();
    for size in [SMALL, LARGE] {
        let content = content(6, size);
        let broken = || Err(io::Error::other("the disk"));
        let mut failing = Interfering { rest: &content, at: size / 2, then: Some(broken) };
        let (mut shorter, mut longer) = (&content[1..], (&content[..]).chain(&b"more"[..]));
        let sources: [&mut dyn io::Read; 3] = [&mut failing, &mut shorter, &mut longer];
        for source in sources {
            let error = put(&archive, &path("live/a.mp4"), size as u64, source).unwrap_err();
            assert!(matches!(error, ColdError::Source(_)), "{}", chain(&error));
            assert_eq!((site.content("live/a.mp4"), site.moto.uploads("cold")), (None, 0));
        }
    }
}

#[test]
#[ignore = "needs moto"]
fn only_the_copy_that_was_seen_is_removed() {
    let site = Site::new();
    let archive = site.archive();
    let key = path("live/a.mp4");
    put_all(&archive, &key, &content(1, SMALL)).unwrap();
    let [seen] = listed(&archive, None).try_into().unwrap();
    assert_eq!(archive.look(&key).unwrap().unwrap().tag, seen.tag);
    site.moto.put("/cold/guard/site-1/live/a.mp4", &content(2, SMALL));
    assert!(matches!(archive.remove(&seen), Err(ColdError::Taken { .. })));
    assert!(site.content("live/a.mp4").is_some());
    let now = archive.look(&key).unwrap().unwrap();
    archive.remove(&now).unwrap();
    archive.remove(&now).unwrap();
    assert_eq!((archive.look(&key).unwrap(), site.content("live/a.mp4")), (None, None));
    assert!(matches!(get(&archive, &key), Err(ColdError::Absent(_))));
    // Where versions are kept, a marker hides the copy: that is gone too, and the key is free again.
    let versioned = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(site.moto.asked("s3", "PUT", "/cold?versioning", "", versioned).status, 200);
    put_all(&archive, &key, &content(3, SMALL)).unwrap();
    archive.remove(&archive.look(&key).unwrap().unwrap()).unwrap();
    assert_eq!(archive.look(&key).unwrap(), None);
    put_all(&archive, &key, &content(4, SMALL)).unwrap();
    // An answer that never comes is not trusted, and not needed: the copy is looked for.
    site.between.breaks(&[fault(On::Delete, Unanswered, ALWAYS)]);
    archive.remove(&archive.look(&key).unwrap().unwrap()).unwrap();
}

#[test]
#[ignore = "needs moto"]
fn uploads_that_never_ended_are_aborted_if_they_are_the_guards_and_old() {
    let site = Site::new();
    let archive = site.archive();
    for key in ["guard/site-1/live/a", "guard/site-1/live/b", "guard/site-2/live/a", "other"] {
        assert_eq!(site.moto.asked("s3", "POST", &format!("/cold/{key}?uploads"), "", b"").status, 200);
    }
    // Moto lists every upload as begun in 2010.
    site.between.breaks(&[fault(On::Any, Young, ALWAYS)]);
    assert_eq!((archive.tidy().unwrap(), site.moto.uploads("cold")), (0, 4));
    site.between.breaks(&[]);
    let unnamed = opened(&BucketSettings { prefix: None, ..site.settings() });
    assert_eq!((unnamed.tidy().unwrap(), site.moto.uploads("cold")), (0, 4));
    assert_eq!((archive.tidy().unwrap(), site.moto.uploads("cold")), (2, 2));
}

#[test]
#[ignore = "needs moto"]
fn a_bucket_that_is_not_there_has_lost_nothing() {
    let site = Site::new();
    let mut settings = site.settings();
    settings.bucket = "elsewhere".to_owned();
    let archive = opened(&settings);
    let unusable = |error: ColdError| assert!(matches!(error, ColdError::Unusable(_)), "{}", chain(&error));
    unusable(archive.look(&path("a")).unwrap_err());
    unusable(put_all(&archive, &path("a"), b"1").unwrap_err());
    unusable(archive.list(None, &mut |_| ControlFlow::Continue(())).unwrap_err());
    unusable(archive.tidy().unwrap_err());
    // Nor has one that cannot be reached.
    settings.endpoint = Some(format!("http://127.0.0.1:{}", crate::support::free_port()));
    unusable(opened(&settings).look(&path("a")).unwrap_err());
}

#[test]
#[ignore = "needs moto"]
fn every_request_bears_a_signature_that_is_checked() {
    // What the test asks before anybody is checked: a bucket, a user, what it may do, and its key.
    let site = Site::before(Moto::strict_after(4));
    let iam = |query: &str| site.moto.asked("iam", "POST", &format!("/?Version=2010-05-08&{query}"), "", b"").text();
    iam("Action=CreateUser&UserName=guard");
    let policy = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22s3%3A%2A%22%2C\
                  %22Resource%22%3A%22%2A%22%7D%5D%7D";
    iam(&format!("Action=PutUserPolicy&UserName=guard&PolicyName=archive&PolicyDocument={policy}"));
    let made = iam("Action=CreateAccessKey&UserName=guard");
    let between = |tag: &str| {
        let (_, rest) = made.split_once(&format!("<{tag}>")).unwrap_or_else(|| panic!("{made}"));
        Some(Secret::new(rest.split_once("</").unwrap().0))
    };
    let right = BucketSettings {
        access_key: between("AccessKeyId"),
        secret_key: between("SecretAccessKey"),
        ..site.settings()
    };
    let archive = opened(&right);
    let key = path("live/a b.mp4");
    for (key, size) in [(&key, SMALL), (&path("live/门口.mp4"), LARGE)] {
        let content = content(1, size);
        put_all(&archive, key, &content).unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(get(&archive, key).unwrap(), content);
    }
    assert_eq!(listed(&archive, Some(&path("live"))).len(), 2);
    archive.tidy().unwrap();
    archive.remove(&archive.look(&key).unwrap().unwrap()).unwrap();
    let wrong = opened(&BucketSettings { secret_key: Some(Secret::new("another")), ..right });
    let refused = put_all(&wrong, &path("live/b.mp4"), b"1").unwrap_err();
    assert!(matches!(refused, ColdError::Unusable(_)), "{}", chain(&refused));
    assert!(wrong.list(None, &mut |_| ControlFlow::Continue(())).is_err());
}
