//! The configuration as its users write it: every mistake is told with its line and its remedy; every example is read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use storage_guard::config::{Config, Flags, Problem, ProblemKind, apply_flags, check_environment, for_trees, load};
use storage_guard::domain::alert::AlertName;
use storage_guard::domain::catalogue::AfterReclaim;
use storage_guard::domain::media::{HookEvent, RelayDefault, SwitchSettings};
use storage_guard::domain::names::{CatalogueId, VolumeId};
use storage_guard::domain::orphan::{LeftoverPolicy, OrphanPolicy};
use storage_guard::domain::retention::{Mode, WhenOpen};
use storage_guard::domain::secret::Secret;
use storage_guard::domain::settings::{ChannelKind, MailTls, Role, Severity, Window};
use storage_guard::domain::units::{Bytes, Percent};
use storage_guard::domain::volume::Mark;
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn environment(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some("from the environment".to_owned()),
        "DATA" => Some("/data".to_owned()),
        _ => None,
    }
}

#[expect(clippy::disallowed_methods, reason = "a test writes the files that it reads")]
fn put(path: &Path, text: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A copy of the test data with the modes that a checkout does not keep: only `private*` is closed to others.
fn data() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["bad", "good", "files"] {
        for entry in std::fs::read_dir(root().join("tests/data/config").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let mode = if name.starts_with("private") { 0o600 } else { 0o644 };
            put(&dir.path().join(folder).join(name), &std::fs::read_to_string(&path).unwrap(), mode);
        }
    }
    dir
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    out.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    out.sort();
    out
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn good(path: &Path) -> Config {
    load(path, &environment).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

fn of(text: &str, mode: u32) -> Result<Config, Vec<Problem>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("guard.yaml");
    put(&file, text, mode);
    load(&file, &environment)
}

#[test]
fn every_mistake_is_told_where_it_is_and_what_would_be_right() {
    let dir = data();
    // With this variable the files are written anew, to be read before they are kept.
    let wanted = std::env::var_os("STORAGE_GUARD_WRITE_EXPECTED").is_some();
    let mut wrong = String::new();
    let files = files(&dir.path().join("bad"));
    assert!(files.len() >= 35);
    for file in files {
        let said = match load(&file, &environment) {
            Ok(_) => "no problem\n".to_owned(),
            Err(problems) => lines(&problems),
        };
        // Names of files are told as they were given; here, from the test data on.
        let said = said.replace(&format!("{}/", dir.path().join("bad").display()), "");
        assert!(!said.contains("hunter2"), "a secret is told: {said}");
        let name = file.with_extension("expected");
        let kept = root().join("tests/data/config/bad").join(name.file_name().unwrap());
        if wanted {
            put(&kept, &said, 0o644);
        }
        let expected = std::fs::read_to_string(&kept).unwrap_or_default();
        if said != expected {
            wrong.push_str(&format!("{}\n  expected:\n{expected}  said:\n{said}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_good_file_is_read() {
    let dir = data();
    for file in files(&dir.path().join("good")) {
        let config = good(&file);
        assert_eq!(config.file.as_deref(), Some(file.as_path()));
    }
}

#[test]
fn the_least_that_can_be_said_leaves_the_defaults_of_the_contract() {
    let dir = data();
    let config = good(&dir.path().join("good/least.yaml"));
    assert_eq!(config.mode, Mode::Observe);
    assert_eq!(config.listeners.main.to_string(), "127.0.0.1:10190");
    assert_eq!(config.listeners.metrics, None);
    assert_eq!(config.state, Path::new("/var/lib/storage-guard"));
    assert_eq!((config.probe_interval.as_secs(), config.scan_interval.as_secs()), (10, 300));
    let tree = &config.trees[0];
    assert_eq!((tree.policy.layout.name(), tree.policy.mode), ("auto", Mode::Observe));
    assert_eq!((tree.policy.min_age.as_secs(), tree.policy.max_share), (600, Percent::new(20)));
    assert!(config.dormant.is_empty(), "{:?}", config.dormant);

    // The contract spells its defaults out, so both files must agree on them.
    let contract = good(&dir.path().join("good/contract.yaml"));
    let cleanup = storage_guard::domain::settings::Cleanup { window: contract.cleanup.window, ..config.cleanup };
    assert_eq!(contract.cleanup, cleanup);
    assert_eq!((contract.marks, contract.state), (config.marks, config.state));
    let notify = storage_guard::domain::settings::NotifySettings {
        tuning: contract.notify.tuning.clone(),
        channels: contract.notify.channels.clone(),
        ..config.notify
    };
    assert_eq!(contract.notify, notify);
}

#[test]
fn everything_in_the_contract_is_understood() {
    let dir = data();
    let config = good(&dir.path().join("good/contract.yaml"));
    let tree = &config.trees[0];
    assert_eq!((tree.policy.layout.name(), tree.policy.mode), ("zlmediakit", Mode::Enforce));
    assert_eq!(tree.policy.budget, Some(Bytes::gib(2048)));
    let rule = &tree.policy.retention[0];
    assert_eq!((rule.stream.as_str(), rule.max_files, rule.priority), ("live/*", Some(100_000), 10));
    assert_eq!((rule.max_bytes, rule.keep.as_secs()), (Some(Bytes::gib(1024)), 3 * 86_400));
    assert_eq!(config.volumes[0].name, VolumeId::new("data"));
    assert_eq!(config.volumes[0].marks.high, [Mark::Used(Percent::new(85))]);
    assert_eq!(config.volumes[0].marks.critical, config.marks.critical);
    assert_eq!(config.cleanup.window, Some(Window { from: 60, to: 300 }));
    let tuning = &config.notify.tuning[0];
    assert_eq!((tuning.alert, tuning.severity), (AlertName::VolumePressure, Some(Severity::Warning)));
    let ChannelKind::Email { host, port, tls, username, password, .. } = &config.notify.channels[0].kind else {
        panic!("{:?}", config.notify.channels)
    };
    assert_eq!((host.as_str(), *port, *tls, username.as_deref()), ("mail", 587, MailTls::Required, Some("guard")));
    assert_eq!(password.as_ref().map(|p| p.reveal()), Some("not-a-real-secret"));
    assert_eq!((config.auth.tokens[0].role, config.auth.tokens[0].sha256[0]), (Role::Operator, 0x9f));
    let names = ["`auth.users`", "`tls`", "`fleet`"];
    let expected = names.map(|name| format!("{name} is checked, but this version does not act on it"));
    assert_eq!(config.dormant, expected);
    assert!(!format!("{config:?}").contains("not-a-real"), "secrets do not print");
    assert_eq!(tree.policy.catalogues, [CatalogueId::new("wvp")]);
    // Orphans and leftovers are spelled out there as they are if nothing is said.
    let spelled = (tree.policy.orphans, tree.policy.leftovers);
    assert_eq!(spelled, (OrphanPolicy::default(), LeftoverPolicy::default()));
    let kinds: Vec<_> = config.catalogues.iter().map(|catalogue| catalogue.source.kind().as_str()).collect();
    assert_eq!(kinds, ["wvp", "frigate", "hooks", "manifest"]);
    let wvp = &config.catalogues[0];
    assert_eq!((wvp.media_server.as_deref(), wvp.max_drop), (Some("zlm-1"), Percent::new(30)));
    assert_eq!(wvp.path_map, [("/opt/media/record".into(), "/data/record".into())]);
    let server = &config.media_servers[0];
    assert_eq!((server.name.as_str(), server.api.as_str()), ("zlm-1", "http://127.0.0.1:8080"));
    assert_eq!(server.secret.as_ref().map(Secret::reveal), Some("not-a-real-secret"));
    assert_eq!(server.path_map, wvp.path_map);
    let hooks = server.hooks.as_ref().unwrap();
    assert_eq!((hooks.listen.port(), hooks.relay.as_deref()), (18_080, Some("http://wvp:18080/index/hook")));
    assert_eq!(
        (hooks.relay_timeout.as_secs(), &hooks.relay_default),
        (5, &[(HookEvent::Play, RelayDefault::Deny)].into())
    );
    let gateway = server.gateway.unwrap();
    assert_eq!((gateway.listen.port(), gateway.answer_within.as_secs()), (8081, 20));
    assert_eq!(server.recording_switch, Some(SwitchSettings { below_priority: 5 }));
    for catalogue in &config.catalogues {
        assert_eq!((catalogue.interval.as_secs(), catalogue.full.as_secs()), (900, 86_400));
        assert_eq!(catalogue.after_reclaim, AfterReclaim::Keep);
    }
}

#[test]
fn values_are_read_in_all_their_forms() {
    let dir = data();
    let config = good(&dir.path().join("good/values.yaml"));
    assert_eq!((config.mode, config.probe_interval.as_secs()), (Mode::Enforce, 90));
    assert_eq!(config.state, Path::new("/data/state"));
    assert_eq!(config.marks.high, [Mark::Used(Percent::from_hundredths(9650))]);
    assert_eq!(config.marks.low, [Mark::Free(Bytes(500_000_000_000)), Mark::Used(Percent::new(90))]);
    assert_eq!(config.marks.full_within.as_secs(), 0);
    assert_eq!(config.volumes[0].name, VolumeId::new("/data"));
    assert_eq!(config.trees[0].path, Path::new("/data/record"));
    assert_eq!(config.trees[0].policy.mode, Mode::Enforce);
    assert_eq!((config.trees[1].policy.mode, config.trees[1].policy.when_open), (Mode::Observe, WhenOpen::Delete));
    assert_eq!(config.cleanup.window, Some(Window { from: 1320, to: 360 }));
    let shares: Vec<_> = config.trees[0].policy.retention.iter().map(|rule| rule.stream_share).collect();
    assert_eq!(shares, [Some(Percent::from_hundredths(1250)), None]);
    let of = |at: usize| &config.notify.channels[at].kind;
    assert!(matches!(of(0), ChannelKind::Email { port: 25, tls: MailTls::None, .. }));
    assert!(matches!(of(1), ChannelKind::Email { port: 465, tls: MailTls::Implicit, .. }));
    assert!(matches!(of(2), ChannelKind::Webhook { url, secret: Some(_) } if url.reveal().ends_with("?$x=1")));
    let (minute, quarter) = (Duration::from_secs(60), Duration::from_secs(900));
    assert!(matches!(of(3), ChannelKind::Alertmanager { every, generator_url: Some(_), .. } if *every == minute));
    assert!(matches!(of(4), ChannelKind::Heartbeat { every, .. } if *every == quarter));
    let ChannelKind::WvpRedis { url, username, password, gb_id, channel, .. } = of(5) else { panic!("{:?}", of(5)) };
    assert_eq!((url.reveal(), username.as_deref()), ("rediss://wvp-redis:7000/6", Some("guard")));
    assert!(password.is_some());
    assert_eq!((gb_id.as_str(), channel.as_str()), ("34020000001320000001", "alarm_receive"));
    let limits: Vec<u32> = config.notify.channels.iter().map(|channel| channel.per_minute).collect();
    assert_eq!(limits, [60, 60, 18, 60, 7, 60]);
    assert_eq!(config.notify.runbook, "https://wiki.lan/guard");
    assert!(config.dormant.is_empty(), "{:?}", config.dormant);
}

fn webhook(secret: &str) -> String {
    format!(
        "trees: [{{ name: a, path: /data/a }}]\n\
         notify: {{ channels: [{{ name: hook, kind: webhook, url: \"http://h/\", {secret} }}] }}\n"
    )
}

#[test]
fn a_secret_may_stand_in_a_file_that_nobody_else_reads() {
    let text = webhook("secret: x");
    assert!(of(&text, 0o600).is_ok());
    let problems = of(&text, 0o640).unwrap_err();
    assert!(problems[0].message.contains("others can read; run `chmod 600 "), "{}", problems[0]);
}

#[test]
fn credentials_of_systemd_are_taken_as_they_are() {
    let dir = data();
    let credentials = dir.path().join("files").display().to_string();
    let file = dir.path().join("guard.yaml");
    put(&file, &webhook("secret_file: \"${CREDENTIALS_DIRECTORY}/open.txt\""), 0o644);
    let known = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| credentials.clone());
    assert!(load(&file, &known).is_ok());
}

#[test]
fn a_file_that_is_none_is_one_problem() {
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large.yaml");
    put(&large, &"#".repeat(1024 * 1024 + 1), 0o644);
    for (path, said) in [
        (dir.path().join("absent.yaml"), "cannot be read: No such file"),
        (dir.path().to_owned(), "cannot be read: Is a directory"),
        (large, "is larger than 1 MiB"),
    ] {
        let problems = load(&path, &environment).unwrap_err();
        let expected = format!("{}: {said}", path.display());
        assert!(lines(&problems).starts_with(&expected), "{}", lines(&problems));
        assert_eq!((problems.len(), problems[0].line), (1, 0));
    }
}

#[test]
fn enforcing_what_nobody_named_is_a_problem_of_its_own() {
    let dir = data();
    for name in ["enforce-auto", "enforce-auto-tree"] {
        let problems = load(&dir.path().join(format!("bad/{name}.yaml")), &environment).unwrap_err();
        let own = |problem: &Problem| matches!(&problem.kind, ProblemKind::AutoEnforces { .. });
        assert!(problems.iter().all(own), "{problems:?}");
    }
    let mut config = good(&dir.path().join("good/least.yaml"));
    let problems = apply_flags(&mut config, &Flags { enforce: true, ..Flags::default() }).unwrap_err();
    assert!(matches!(&problems[0].kind, ProblemKind::AutoEnforces { tree } if tree.name.as_str() == "live"));
}

#[test]
fn flags_stand_over_the_file() {
    let dir = data();
    let mut config = good(&dir.path().join("good/contract.yaml"));
    let flags = Flags {
        enforce: true,
        listen: Some("127.0.0.1:1".parse().unwrap()),
        state: Some("/other/state".into()),
        ..Flags::default()
    };
    apply_flags(&mut config, &flags).unwrap();
    assert_eq!((config.mode, config.listeners.main.port()), (Mode::Enforce, 1));
    assert_eq!(config.state, Path::new("/other/state"));
    let inside = Flags { state: Some("/data/record/x".into()), ..Flags::default() };
    let problems = apply_flags(&mut config, &inside).unwrap_err();
    assert!(problems[0].to_string().starts_with("--state: `/data/record/x` lies in the tree"), "{}", problems[0]);

    // A tree that says `observe` itself is not enforced by a flag.
    let mut config = good(&dir.path().join("good/values.yaml"));
    apply_flags(&mut config, &Flags { enforce: true, ..Flags::default() }).unwrap();
    assert_eq!(config.trees[1].policy.mode, Mode::Observe);
}

#[test]
fn the_environment_is_checked_by_looking() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("real/below")).unwrap();
    std::fs::create_dir_all(at("fine")).unwrap();
    std::os::unix::fs::symlink(at("real"), at("link")).unwrap();
    std::os::unix::fs::symlink(dir.path(), at("around")).unwrap();
    put(&at("file"), "", 0o600);
    let check = |trees: &[&str], state: &str, expected: &[&str]| {
        let flags =
            Flags { trees: trees.iter().map(|tree| at(tree)).collect(), state: Some(at(state)), ..Flags::default() };
        let found = check_environment(&for_trees(&flags, dir.path()).unwrap());
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (sentence, part) in found.iter().zip(expected) {
            assert!(sentence.contains(part), "{sentence}");
        }
    };
    check(&["fine", "real"], "state", &[]);
    check(&["fine"], "real", &[]);
    check(
        &["absent", "file", "link"],
        "state",
        &["`absent`: `", "is not a directory", "is a link, but must be the directory itself"],
    );
    check(&["real", "around/real/below"], "state", &["which overlaps with"]);
    check(&["fine"], "no/such/state", &["cannot be made"]);
    check(&["fine"], "file", &["is not a directory"]);
    check(&["real"], "link/below", &["lies, behind its links, in"]);
}

fn example() -> String {
    std::fs::read_to_string(root().join("packaging/storage-guard.yaml")).unwrap()
}

#[test]
fn the_packaged_example_is_read_as_it_is() {
    let config = of(&example(), 0o644).unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    assert_eq!(config.mode, Mode::Observe, "nobody's recordings are deleted by installing a package");
    assert_eq!(config.dormant, [""; 0]);
}

#[test]
fn the_packaged_example_is_read_with_all_that_is_commented_out() {
    let dir = data();
    let secrets = dir.path().join("files");
    let mut text = String::new();
    for line in example().lines() {
        let indent = line.len() - line.trim_start().len();
        // Prose is `# Text`; a setting that is switched off is `#key: value`, and below it `#  - item`.
        let switched_off = |rest: &&str| !rest.is_empty() && (!rest.starts_with(' ') || rest.starts_with("  "));
        match line.trim_start().strip_prefix('#').filter(switched_off) {
            Some(setting) => text.push_str(&format!("{}{setting}\n", &line[..indent])),
            None => text.push_str(&format!("{line}\n")),
        }
    }
    let names = [
        "mail.password",
        "hook.secret",
        "robot.secret",
        "redis.password",
        "wvp.password",
        "zlm.secret",
        "s3.key",
        "s3.secret",
    ];
    for name in names.into_iter().chain(["callback.secret"]) {
        put(&secrets.join(name), "not-a-real-secret\n", 0o600);
    }
    put(&secrets.join("robot.url"), "https://oapi.dingtalk.com/robot/send?access_token=not-a-real-token\n", 0o600);
    put(&secrets.join("pulse.url"), "https://hc-ping.com/not-a-real-token\n", 0o600);
    let here = secrets.display().to_string();
    let text = text.replace("/etc/storage-guard/secrets", &here).replace("/etc/storage-guard/templates", &here);
    let config = of(&text, 0o644).unwrap_or_else(|problems| panic!("{}{text}", lines(&problems)));
    assert_eq!((config.volumes.len(), config.notify.channels.len(), config.catalogues.len()), (1, 6, 4));
    assert_eq!(config.trees[0].policy.catalogues, [CatalogueId::new("wvp")]);
    let archives: Vec<&str> = config.archives.iter().map(|archive| archive.name.as_str()).collect();
    assert_eq!(archives, ["cold", "bucket"]);
    for section in ["`fleet`", "`tls`", "`auth.users`"] {
        assert!(config.dormant.iter().any(|sentence| sentence.starts_with(section)), "{section}: {:?}", config.dormant);
    }
}

/// Whoever copies an example of `docs/config.md` gets a configuration that is read.
#[test]
fn the_examples_of_catalogues_are_read() {
    let document = std::fs::read_to_string(root().join("docs/config.md")).unwrap();
    let section = document.split("\n## ").find(|section| section.starts_with("`catalogues`")).unwrap();
    let examples: Vec<&str> = section.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let kinds: Vec<String> = examples
        .iter()
        .map(|text| {
            let dir = tempfile::tempdir().unwrap();
            for name in ["wvp.password", "zlm.secret"] {
                put(&dir.path().join("secrets").join(name), "not-a-real-secret\n", 0o600);
            }
            let file = dir.path().join("guard.yaml");
            put(&file, text, 0o644);
            let config = good(&file);
            assert_eq!(config.trees[0].policy.catalogues, [config.catalogues[0].name.clone()], "{text}");
            config.catalogues[0].source.kind().to_string()
        })
        .collect();
    assert_eq!(kinds, ["wvp", "frigate", "manifest"]);
}

/// The same for `docs/zlmediakit.md`: each of its configurations is one step further than the last.
#[test]
fn the_examples_beside_a_media_server_are_read() {
    let document = std::fs::read_to_string(root().join("docs/zlmediakit.md")).unwrap();
    let examples: Vec<&str> =
        document.split("```yaml\n# /etc/storage-guard/").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for text in examples {
        let dir = tempfile::tempdir().unwrap();
        for name in ["zlm.secret", "wvp.password", "redis.password"] {
            put(&dir.path().join("secrets").join(name), "not-a-real-secret\n", 0o600);
        }
        let file = dir.path().join("storage-guard.yaml");
        put(&file, &format!("# {text}"), 0o644);
        let config = good(&file);
        assert_eq!(config.dormant, [""; 0], "{text}");
        assert!(!config.media_servers.is_empty(), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn bytes_that_are_no_text_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file.as_file(), &bytes).unwrap();
        let problems = load(file.path(), &environment).unwrap_err();
        prop_assert!(!problems.is_empty());
    }
}

fn keys(yaml: &serde_yaml::Value, out: &mut std::collections::BTreeSet<String>) {
    for (key, value) in yaml.as_mapping().into_iter().flatten() {
        out.extend(key.as_str().filter(|key| !key.starts_with('/')).map(str::to_owned));
        keys(value, out);
    }
    yaml.as_sequence().into_iter().flatten().for_each(|item| keys(item, out));
}

#[test]
fn every_key_is_explained() {
    let mut all = std::collections::BTreeSet::new();
    let contract = std::fs::read_to_string(root().join("tests/data/config/good/contract.yaml")).unwrap();
    keys(&serde_yaml::from_str(&contract).unwrap(), &mut all);
    let text = std::fs::read_to_string(root().join("docs/config.md")).unwrap();
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    // An event of the media server stands for all of them.
    let unexplained: Vec<&String> =
        all.iter().filter(|key| *key != "on_play" && !words.contains(&key.as_str())).collect();
    assert!(unexplained.is_empty(), "docs/config.md does not name {unexplained:?}");
}
