//! Texts that come from others, and are shown to people.

/// Whether a character is not seen, and changes what is: it turns the direction of the text around it, breaks its line, or hides.
/// Those that join letters or emoji are none.
#[must_use]
pub const fn steers(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}
