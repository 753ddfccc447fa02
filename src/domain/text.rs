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

/// How many letters must be changed, added or dropped to make `b` of `a`; of longer texts the first 64 letters count.
#[must_use]
pub fn distance(a: &str, b: &str) -> usize {
    const MOST: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(MOST).collect(), b.chars().take(MOST).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let diagonal = before + usize::from(left != right);
            before = row[j + 1];
            row[j + 1] = diagonal.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The names that look most like one that is not known: `most` at most, the likest first.
#[must_use]
pub fn likest<'n>(wanted: &str, known: impl IntoIterator<Item = &'n str>, most: usize) -> Vec<&'n str> {
    let wanted = wanted.to_lowercase();
    let mut all: Vec<(usize, &str)> =
        known.into_iter().map(|name| (distance(&wanted, &name.to_lowercase()), name)).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().take(most).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likest_names_come_first() {
        let known = ["live/cam-2", "live/cam-1", "site/door", "live/cam-1"];
        assert_eq!(likest("Live/Cam-1", known, 2), ["live/cam-1", "live/cam-2"]);
        assert_eq!(likest("site/dor", known, 1), ["site/door"]);
        assert_eq!(likest("x", [], 3), [""; 0]);
    }
}
