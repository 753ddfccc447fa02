//! The document of what was measured.

use std::path::Path;

/// Puts a section into `docs/performance.md`, in the place of the last one of that name; what it holds begins with `head`.
#[expect(clippy::disallowed_methods, reason = "it writes a document anew")]
pub(crate) fn write_down(name: &str, head: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
    let text = std::fs::read_to_string(&path).expect("the document is there");
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let body = format!("{begin}{head}\n\n{table}{end}");
    let text = match (text.find(&begin), text.find(&end)) {
        (Some(from), Some(to)) => format!("{}{body}{}", &text[..from], &text[to + end.len()..]),
        _ => format!("{}\n\n{body}\n", text.trim_end()),
    };
    std::fs::write(path, text).expect("the document can be written");
}
