//! The fault catalogue: what goes wrong around a program that deletes recordings, made to happen. Each test cites the numbers of the
//! faults it covers; `docs/faults.md` lists them all.

mod catalogue;
mod control;
mod crash;
mod daemon;
mod daemon_crash;
mod io;
mod mounts;
mod open;
mod paths;
mod power;
mod remote;
mod space;
mod starved;
mod state;

/// All Rust files below a folder, as one text.
fn sources(folder: &std::path::Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|end| end == "rs") {
            text += &std::fs::read_to_string(path).unwrap();
        }
    }
    text
}

/// The table names a test for each fault of sections A to G and I, and of H as far as it has begun, or says why there is none, and every test that it names is there.
#[test]
fn the_table_of_faults_is_whole() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let code = sources(&root.join("src")) + &sources(&root.join("tests"));
    let mut numbers = std::collections::BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| number")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{row}");
        if cells[0].starts_with('-') {
            continue;
        }
        numbers.insert(cells[0].parse::<u32>().unwrap_or_else(|_| panic!("{row}")));
        let named: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        for test in &named {
            let function = test.rsplit("::").next().unwrap();
            assert!(code.contains(&format!("fn {function}(")), "fault {}: there is no test `{test}`", cells[0]);
        }
        assert!(!named.is_empty() || cells[3] != "green", "{row}");
    }
    let missing: Vec<u32> =
        (1..=98).chain(106..=110).chain(116..=124).filter(|number| !numbers.contains(number)).collect();
    assert!(missing.is_empty(), "faults {missing:?} are in no row");
}
