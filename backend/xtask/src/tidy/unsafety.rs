//! Unsafe code is in `backend/sys` alone, and each site of it says why it is sound.
//!
//! The lint table denies unsafe code too, but a crate could lift that by one attribute; this check
//! wants every crate root to forbid what cannot be lifted.

use super::Finding;
use super::source::{Kind, Piece, pieces, words};
use super::tree::SourceFile;

const HOME: &str = "backend/sys/";

/// Checks one file.
pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    let pieces = pieces(&file.text);
    let sites: Vec<usize> = pieces
        .iter()
        .filter(|piece| piece.kind == Kind::Code)
        .flat_map(|piece| words(piece).collect::<Vec<_>>())
        .filter(|(_, word)| *word == "unsafe")
        .map(|(line, _)| line)
        .collect();
    if file.path.starts_with(HOME) {
        let unexplained = |line: &&usize| !is_explained(&file.text, &pieces, **line);
        let mut findings: Vec<_> = sites
            .iter()
            .filter(unexplained)
            .map(|&line| Finding::new(&file.path, line, "unsafe without a SAFETY comment above it"))
            .collect();
        if !sites.is_empty() && !file.text.contains("// UNSAFETY:") {
            findings.push(Finding::of_file(
                &file.path,
                "has unsafe code and no `// UNSAFETY:` that says what for",
            ));
        }
        return findings;
    }
    let mut findings: Vec<_> =
        sites.iter().map(|&line| Finding::new(&file.path, line, "unsafe code outside backend/sys")).collect();
    if is_root(&file.path) && !file.text.contains("#![forbid(unsafe_code)]") {
        findings.push(Finding::of_file(&file.path, "is a crate's root and lacks #![forbid(unsafe_code)]"));
    }
    findings
}

fn is_root(path: &str) -> bool {
    path.ends_with("src/lib.rs") || path.ends_with("src/main.rs")
}

/// Whether the comment lines right above the statement, attributes between them, say SAFETY (or
/// `# Safety`, of a function's preconditions).
fn is_explained(text: &str, pieces: &[Piece<'_>], line: usize) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let is_comment = |number: usize| {
        pieces.iter().any(|piece| {
            piece.kind == Kind::Comment
                && (piece.line..=piece.line + piece.text.matches('\n').count()).contains(&number)
        })
    };
    // A statement may begin some lines above its `unsafe`: go up to where the last one ended.
    let mut above = line.saturating_sub(1);
    while above > 0 {
        let text = lines.get(above - 1).map_or("", |text| text.trim());
        let comment = is_comment(above) && text.starts_with("//");
        if comment && (text.contains("SAFETY:") || text.contains("# Safety")) {
            return true;
        }
        if !comment && (text.is_empty() || text.ends_with([';', '{', '}'])) {
            return false;
        }
        above -= 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&SourceFile::new(path, text)).len()
    }

    const SYS: &str = "backend/sys/src/mount.rs";

    #[test]
    fn unsafe_outside_sys_is_found_and_the_word_in_a_comment_is_not() {
        assert_eq!(found("backend/shim/src/a.rs", "fn f() { unsafe { g() } }"), 1);
        assert_eq!(
            found("backend/shim/src/a.rs", "// unsafe\nconst A: &str = \"unsafe\"; fn unsafe_ish() {}"),
            0
        );
    }

    #[test]
    fn a_crate_root_must_forbid_it() {
        assert_eq!(found("shared/src/lib.rs", "//! Types.\n"), 1);
        assert_eq!(found("shared/src/lib.rs", "//! Types.\n#![forbid(unsafe_code)]\n"), 0);
    }

    #[test]
    fn in_sys_each_site_needs_its_reason() {
        let head = "// UNSAFETY: mount calls.\n";
        assert_eq!(found(SYS, &format!("{head}fn f() {{\n    unsafe {{ g() }}\n}}")), 1);
        assert_eq!(
            found(SYS, &format!("{head}fn f() {{\n    // SAFETY: g has none.\n    unsafe {{ g() }}\n}}")),
            0
        );
        assert_eq!(found(SYS, "fn f() {\n    // SAFETY: g has none.\n    unsafe { g() }\n}"), 1);
    }

    #[test]
    fn a_reason_holds_for_its_own_statement_only() {
        let two = "// UNSAFETY: x\nfn f() {\n    // SAFETY: a.\n    let a = unsafe { g() };\n    let b = unsafe { h() };\n}";
        assert_eq!(found(SYS, two), 1);
        let long = "// UNSAFETY: x\nfn f() {\n    // SAFETY: a.\n    let a =\n        unsafe { g() };\n}";
        assert_eq!(found(SYS, long), 0);
        let function =
            "// UNSAFETY: x\n/// # Safety\n/// The pointer is valid.\n#[inline]\npub unsafe fn f() {}\n";
        assert_eq!(found(SYS, function), 0);
    }
}
