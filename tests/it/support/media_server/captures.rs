//! What a real ZLMediaKit said, with values changed: lines of `tests/data/zlmediakit/`, so that everything else stays as it was said.

use std::path::Path;

/// A capture, byte for byte.
pub(crate) fn capture(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/zlmediakit").join(name);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The capture with a key's value changed to this JSON, where the key first appears.
pub(crate) fn with(text: &str, key: &str, value: &str) -> String {
    let name = format!("\"{key}\" : ");
    let mut changed = false;
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let bare = line.trim_start_matches('\t');
        if changed || !bare.starts_with(&name) {
            out.push_str(line);
            continue;
        }
        changed = true;
        let end = if line.trim_end().ends_with(',') { ",\n" } else { "\n" };
        out.push_str(&line[..line.len() - bare.len()]);
        out.push_str(&name);
        out.push_str(value);
        out.push_str(end);
    }
    assert!(changed, "there is no `{key}` in {text}");
    out
}

/// The same for several keys.
pub(crate) fn filled(text: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(text.to_owned(), |text, (key, value)| with(&text, key, value))
}

/// A text as JSON.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One entry of a media list for each schema: those of a stream that is being recorded also as HLS, in the order of the capture.
pub(super) fn media_entries() -> Vec<(String, String)> {
    let text = capture("api_getMediaList_recording.json");
    let mut entries = Vec::new();
    let mut entry = String::new();
    for line in text.split_inclusive('\n') {
        match line.trim_end() {
            "\t\t{" => entry = line.to_owned(),
            "\t\t}" | "\t\t}," => {
                entry.push_str("\t\t}");
                let schema = entry.lines().find_map(|line| line.trim().strip_prefix("\"schema\" : "));
                let schema = schema.unwrap().trim_matches(['"', ',']).to_owned();
                entries.push((schema, std::mem::take(&mut entry)));
            }
            _ if entry.is_empty() => {}
            _ => entry.push_str(line),
        }
    }
    assert_eq!(entries.len(), 5, "{text}");
    entries
}
