//! Input that breaks off, names and words of every kind; and the text of the script.

use super::*;

#[test]
fn input_that_breaks_off_does_nothing() {
    let mut root = Root::new("dash");
    let release = release(&root.marker);
    send(&mut root, &release);
    let half = format!(
        "verb=switch\nfolder=shop.web\nowner=plane shop web uid-of-web h1\nfence=plane 100 1\nact=uid-of-web 1.0 1 2\nrelease={}\n",
        release.name
    );
    let answer = root.raw(&half, b"");
    assert_eq!(value(&answer, "error"), Some("input end"), "{answer}");
    let cut = &release.tar[..release.tar.len() / 2];
    let answer = root.act(
        "stage",
        &format!("release=v9-{}\ndigest={}\nsize=9\npayload=yes\n", &release.digest[..12], release.digest),
        cut,
    );
    assert!(value(&answer, "error").unwrap().starts_with("digest "), "{answer}");
    assert_eq!(value(&root.facts(), "journal"), Some("2"));
}

#[test]
fn names_that_leave_the_root_are_refused() {
    let root = Root::new("dash");
    for folder in ["..", ".", "", "a", "a.b.c", ".a", "a.", "a/../b.c", "$(id).x", "a b.c", "-a/.b"] {
        let answer = root.raw(&format!("verb=stop\nfolder={folder}\nact=u 1.0 1 0\n\n"), b"");
        assert!(value(&answer, "error").is_some_and(|error| error.starts_with("input")), "{folder}: {answer}");
    }
    for release in ["..", ".x", "-rf", "a/b", "a b"] {
        let answer = root.raw(&format!("verb=switch\nfolder=a.b\nrelease={release}\nact=u 1.0 1 0\n\n"), b"");
        assert!(value(&answer, "error").is_some_and(|error| error.starts_with("input")), "{release}: {answer}");
    }
}

#[test]
fn shellcheck_has_nothing_to_say() {
    let said = Command::new("shellcheck")
        .args(["-s", "sh", "src/effects/shell/helper.sh", "src/effects/shell/look.sh", "src/effects/shell/become.sh"])
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
}

#[test]
fn the_script_stays_under_400_lines() {
    // What acts as another user is a part of its own.
    for part in PARTS {
        assert!(part.lines().count() < 400, "{}", part.lines().count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_shell_reads_a_quoted_word_back(words in prop::collection::vec("[^\\x00]{0,12}|['\"\\\\$`!*~\n -]{0,8}", 1..40)) {
        let quoted: Vec<String> = words.iter().map(|word| quote(word).unwrap()).collect();
        let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
        for shell in SHELLS {
            let mut shell = shell.split(' ');
            let read = Command::new(shell.next().unwrap())
                .args(shell)
                .arg("-c")
                .arg(format!("printf '%s\\0' {}", quoted.join(" ")))
                .output()
                .unwrap();
            prop_assert_eq!(&read.stdout, &expected);
        }
    }
}
