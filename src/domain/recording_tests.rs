//! The inventory: small, and exact.

use super::*;

fn identity(inode: u64) -> FileIdentity {
    FileIdentity { inode, links: 1, allocated: Bytes(4096), modified: 1_700_000_000_000_000_000, ..Default::default() }
}

#[test]
fn every_path_comes_back_and_a_file_costs_at_most_64_bytes() {
    let mut builder = InventoryBuilder::new(TreeId::new("live"), Timestamp::default());
    let mut expected = Vec::new();
    let app = builder.directory(builder.top(), b"live");
    for cam in 0..10 {
        let stream = format!("live/cam{cam}");
        let dir = builder.directory(app, format!("cam{cam}").as_bytes());
        let day = builder.directory(dir, b"2026-11-22");
        for i in 0..1250 {
            let name = format!("2026-11-22-{:02}-{:02}-{:02}-{}.mp4", i / 60 % 24, i % 60, i % 7, i % 3);
            let sighting = Sighting {
                name: name.as_bytes(),
                stream: &stream,
                kind: Kind::Recording,
                named: Some(Timestamp::from_secs(1_700_000_000 + i)),
                identity: &identity(i.cast_unsigned()),
            };
            builder.file(day, &sighting);
            expected.push(format!("live/cam{cam}/2026-11-22/{name}"));
        }
    }
    let inventory = builder.finish(Timestamp::default());
    for (file, path) in inventory.files().zip(&expected) {
        assert_eq!(&inventory.path(file.index).to_string(), path);
        assert_eq!(inventory.stream(file.stream).as_str(), &path[..9]);
    }
    assert!(inventory.bytes_per_file() <= 64, "{} bytes", inventory.bytes_per_file());
}

#[test]
fn one_directory_may_hold_several_streams_and_odd_names() {
    let mut builder = InventoryBuilder::new(TreeId::new("t"), Timestamp::default());
    let names: [(&[u8], &str); 5] =
        [(b"a.mp4", "one"), (b"aa.mp4", "two"), (b"a.mp4.mp4", "one"), (b"\xff", "two"), (b"a", "one")];
    for (name, stream) in names {
        let top = builder.top();
        let identity = identity(1);
        builder.file(top, &Sighting { name, stream, kind: Kind::Unfinished, named: None, identity: &identity });
    }
    let inventory = builder.finish(Timestamp::default());
    for (file, (name, stream)) in inventory.files().zip(names) {
        assert_eq!(inventory.path(file.index).as_bytes(), name);
        assert_eq!(inventory.stream(file.stream).as_str(), stream);
        assert_eq!(file.kind, Kind::Unfinished);
    }
}

#[test]
fn a_changed_file_has_another_fingerprint() {
    let base = identity(7);
    for other in [
        FileIdentity { inode: 8, ..base },
        FileIdentity { birth: 1, ..base },
        FileIdentity { modified: base.modified + 1, ..base },
        FileIdentity { size: 1, ..base },
    ] {
        assert_ne!(base.fingerprint(), other.fingerprint());
    }
    assert_eq!(base.fingerprint(), FileIdentity { mount: 9, device: 9, ..base }.fingerprint());
}

#[test]
fn a_file_time_that_cannot_be_is_not_believed() {
    let started = Timestamp::from_secs(1_800_000_000);
    let modified = |identity: FileIdentity| {
        let mut builder = InventoryBuilder::new(TreeId::new("t"), started);
        let top = builder.top();
        let sighting =
            Sighting { name: b"a.mp4", stream: "one", kind: Kind::Recording, named: None, identity: &identity };
        builder.file(top, &sighting);
        let inventory = builder.finish(started);
        inventory.files().next().unwrap().modified.secs()
    };
    let base = identity(1);
    assert_eq!(modified(base), 1_700_000_000);
    assert_eq!(modified(FileIdentity { modified: 0, birth: 1_600_000_000_000_000_000, ..base }), 1_600_000_000);
    assert_eq!(modified(FileIdentity { modified: 0, birth: 0, ..base }), 1_800_000_000, "as young as can be");
    assert_eq!(modified(FileIdentity { modified: -1, ..base }), 1_800_000_000);
}

#[test]
fn folders_come_with_all_their_files_whatever_their_streams() {
    let mut builder = InventoryBuilder::new(TreeId::new("t"), Timestamp::default());
    let identity = identity(1);
    let (top, mut expected) = (builder.top(), Vec::new());
    let (a, b) = (builder.directory(top, b"a"), builder.directory(top, b"b"));
    // Directories of the same name are not the same, and one without files is none of these.
    let (a_day, b_day, _) = (builder.directory(a, b"day"), builder.directory(b, b"day"), builder.directory(b, b"none"));
    let two = ["one", "two"];
    for (dir, path) in [(top, None), (a_day, Some("a/day")), (b_day, Some("b/day")), (a, Some("a"))] {
        let mut names = Vec::new();
        for i in 0..7 {
            let name = format!("{i}-{}.mp4", two[i % 2]);
            let stream = if dir == b_day { "one" } else { two[i / 2 % 2] };
            let kind = Kind::Recording;
            builder.file(dir, &Sighting { name: name.as_bytes(), stream, kind, named: None, identity: &identity });
            names.push(name);
        }
        expected.push((path.map(str::to_owned), names));
    }
    let inventory = builder.finish(Timestamp::default());
    let mut name = b"what was there before".to_vec();
    let folders: Vec<_> = inventory
        .folders()
        .map(|folder| {
            let names = folder.files().map(|file| {
                inventory.write_name(file, &mut name);
                assert!(inventory.path(file).as_bytes().ends_with(&name));
                String::from_utf8(name.clone()).unwrap()
            });
            let names = names.collect::<Vec<_>>();
            (folder.path().map(|path| path.to_string()), names)
        })
        .collect();
    assert_eq!(folders, expected);
}
