//! From nothing to a session.

use super::*;

#[tokio::test]
async fn the_program_is_brought_once_and_found_again() {
    let rack = Hosts::up(1).await;
    let (program, welcome, _) = connect(&rack).await;
    assert!(program.was_uploaded());
    assert_eq!(welcome.facts.machine.uid, 0);
    assert_eq!(welcome.facts.root.unfit, None);
    assert_eq!(welcome.facts.machine.machine, std::env::consts::ARCH);
    let boot_id = rack.host(0).sh("cat /proc/sys/kernel/random/boot_id").await;
    assert_eq!(welcome.facts.machine.boot_id, boot_id.trim());
    drop(program);
    let (again, ..) = connect(&rack).await;
    assert!(!again.was_uploaded());
    let bin = rack.host(0).sh("cd /srv/landfall/.landfall/bin && stat -c '%a %N' * | sort").await;
    let digest = digest(&Images::embedded());
    assert_eq!(bin, format!("755 '{digest}'\n777 'landfall-host' -> '{digest}'\n"));
}

#[tokio::test]
async fn two_versions_of_the_program_live_side_by_side() {
    let rack = Hosts::up(1).await;
    let (one, two) = (version(1), version(2));
    let (first, ..) = start(&rack, rack.host(0), &one).await.unwrap();
    let (second, ..) = start(&rack, rack.host(0), &two).await.unwrap();
    assert!(first.was_uploaded() && second.was_uploaded());
    assert!(first.look(0).await.is_ok() && second.look(0).await.is_ok());
    let (older, ..) = start(&rack, rack.host(0), &one).await.unwrap();
    assert!(!older.was_uploaded());
    // What runs stays, however many come.
    for n in 3..6 {
        start(&rack, rack.host(0), &version(n)).await.unwrap();
    }
    assert!(first.look(0).await.is_ok());
    let kept = rack.host(0).sh("ls /srv/landfall/.landfall/bin").await;
    assert!(kept.contains(&digest(&one)) && kept.contains(&digest(&two)), "{kept}");
}

#[tokio::test]
async fn a_damaged_program_is_replaced() {
    let rack = Hosts::up(1).await;
    drop(connect(&rack).await);
    let digest = digest(&Images::embedded());
    for damage in [": >$f.new", "echo garbage >$f.new", "head -c 100000 $f >$f.new", "cp $f $f.new; mode=644"] {
        let change = format!("mode=755; {damage}; chmod $mode $f.new; mv $f.new $f");
        rack.host(0).sh(&format!("f=/srv/landfall/.landfall/bin/{digest}; {change}")).await;
        let (program, ..) = connect(&rack).await;
        assert!(program.was_uploaded(), "{damage}");
    }
}

#[tokio::test]
async fn every_login_shell_and_every_sh_finds_the_program() {
    let shells = ["sh", "bash", "mksh", "zsh", "fish", "tcsh", "bsd-csh"];
    let rack = Hosts::up_with(
        4,
        &["--user", "deploy", "--shell-of", "web-02=busybox", "--shell-of", "web-03=bash", "--shell-of", "web-04=mksh"],
    )
    .await;
    for host in rack.all() {
        host.sh("mkdir -p /srv/landfall && chown deploy /srv/landfall").await;
        let talks = "echo 'echo Welcome, have a nice day' | tee .bashrc .zshenv .cshrc .config/fish/config.fish";
        host.sh(&format!("cd /home/deploy && mkdir -p .config/fish && {talks} && chown -R deploy .config")).await;
        for shell in shells {
            let set =
                r#"sed "s|^\(deploy:.*:\)[^:]*\$|\1$(command -v $s)|" /etc/passwd >/run/p && cat /run/p >/etc/passwd"#;
            host.sh(&format!("s={shell}; {set}")).await;
            let connected = start(&rack, host, &Images::embedded()).await;
            let (program, welcome, _) = connected.unwrap_or_else(|error| panic!("{} {shell}: {error}", host.name));
            assert_eq!(program.was_uploaded(), shell == shells[0], "{} {shell}", host.name);
            assert_eq!(welcome.facts.machine.uid, 2000, "{} {shell}", host.name);
            // The way there goes through that shell, too.
            host.sh("rm -r /srv/landfall/.landfall/bin/*").await;
            let (program, ..) = start(&rack, host, &Images::embedded()).await.unwrap();
            assert!(program.was_uploaded(), "{} {shell}", host.name);
        }
        let left =
            host.sh("cd /home/deploy && ls -A | grep -vxE '\\.(bashrc|zshenv|cshrc|config|local|cache)' || :").await;
        assert_eq!(left, "", "{}", host.name);
    }
}

#[tokio::test]
async fn one_session_and_no_forwarding_are_enough() {
    let rack = Hosts::up_with(1, &["--sshd", "MaxSessions 1", "--sshd", "AllowTcpForwarding no"]).await;
    let (program, ..) = connect(&rack).await;
    assert!(program.was_uploaded());
    for _ in 0..10 {
        program.look(0).await.unwrap();
    }
}

#[tokio::test]
async fn a_forced_command_is_named() {
    let rack = Hosts::up(1).await;
    rack.host(0).reconfigure("ForceCommand echo only backups here").await;
    let refused = start(&rack, rack.host(0), &Images::embedded()).await.err().unwrap();
    assert!(matches!(&refused, ProgramError::OtherCommand(said) if said.contains("only backups")), "{refused:?}");
    assert!(refused.to_string().contains("ForceCommand"), "{refused}");
}

#[tokio::test]
async fn a_root_that_others_may_write_is_refused_before_anything_is_put_there() {
    let rack = Hosts::up_with(1, &["--user", "deploy"]).await;
    let host = rack.host(0);
    for (unsafe_root, why) in [
        ("chown deploy:2001 /srv/landfall; chmod 775 /srv/landfall", "the group 2001 may write to /srv/landfall"),
        ("chmod 777 /srv/landfall", "everybody may write to /srv/landfall"),
        ("chown app:app /srv/landfall; chmod 755 /srv/landfall", "/srv/landfall belongs to the user 2001"),
        (
            "rmdir /srv/landfall; mkdir -p /srv/real/in; chmod 777 /srv/real; chown deploy /srv/real/in; ln -s /srv/real/in /srv/landfall",
            "everybody may write to /srv/real",
        ),
    ] {
        host.sh(&format!("mkdir -p /srv/landfall; {unsafe_root}")).await;
        let refused = start(&rack, host, &Images::embedded()).await.err().unwrap();
        assert!(matches!(&refused, ProgramError::UnsafeRoot { why: said } if said.contains(why)), "{refused:?}");
    }
    // The user's own private group, and a sticky parent, are no strangers.
    host.sh("rm /srv/landfall; mkdir /srv/landfall; chmod 1777 /srv; chown deploy:deploy /srv/landfall; chmod 775 /srv/landfall").await;
    start(&rack, host, &Images::embedded()).await.unwrap();
}

#[tokio::test]
async fn a_root_that_is_mounted_noexec_or_read_only_is_named_with_its_mount() {
    let rack = Hosts::up_with(1, &["--user", "deploy"]).await;
    let host = rack.host(0);
    host.sh("mkdir -p /srv/data/landfall; chown deploy /srv/data/landfall; ln -s data/landfall /srv/landfall").await;
    host.sh("mount --bind /srv/data /srv/data").await;
    for (options, why) in [("noexec", "/srv/data ("), ("ro", "is mounted read-only")] {
        host.sh(&format!("mount -o remount,bind,{options} /srv/data")).await;
        let refused = start(&rack, host, &Images::embedded()).await.err().unwrap();
        let said = refused.to_string();
        assert!(matches!(refused, ProgramError::UnfitRoot { .. }), "{refused:?}");
        assert!(said.contains("/srv/data") && said.contains(why) && !said.contains("/srv/landfall"), "{said}");
    }
    host.sh("mount -o remount,bind,rw,exec /srv/data").await;
    let (program, ..) = start(&rack, host, &Images::embedded()).await.unwrap();
    drop(program);
    // One that was there before is told the same way.
    host.sh("mount -o remount,bind,noexec /srv/data").await;
    let refused = start(&rack, host, &Images::embedded()).await.err().unwrap();
    assert!(matches!(&refused, ProgramError::UnfitRoot { why } if why.contains("noexec")), "{refused:?}");
}

#[tokio::test]
async fn a_full_disk_a_forbidden_folder_and_a_strange_machine_say_so() {
    let rack = Hosts::up_with(1, &["--user", "deploy"]).await;
    let host = rack.host(0);
    host.sh("mkdir /srv/landfall; chown deploy /srv/landfall").await;
    host.fill().await;
    let refused = start(&rack, host, &Images::embedded()).await.err().unwrap();
    assert!(matches!(&refused, ProgramError::NotInstalled(why) if why.contains("No space left")), "{refused:?}");
    host.drain().await;
    assert_eq!(host.sh("ls -A /srv/landfall/.landfall/bin 2>/dev/null || :").await, "", "nothing is left of it");
    host.sh("rm -rf /srv/landfall/.landfall; chown root /srv/landfall").await;
    let refused = start(&rack, host, &Images::embedded()).await.err().unwrap();
    assert!(matches!(&refused, ProgramError::NotInstalled(why) if why.contains("ermission denied")), "{refused:?}");

    let other = Images::of([("s390x".to_owned(), Image { digest: "0".repeat(64), bytes: vec![1].into() })]);
    let refused = start(&rack, host, &other).await.err().unwrap();
    assert!(matches!(&refused, ProgramError::UnsupportedMachine { machine, .. } if machine == std::env::consts::ARCH));
}
