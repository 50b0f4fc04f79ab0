//! SSH servers that misbehave, one violation each. Up to the keys exchanged they are scripts of raw bytes; after that a real server (russh's)
//! with a handler that goes bad, behind a relay that may spoil the encrypted stream. They know nothing of landfall but how a
//! session is answered, so that they can behave well for a while.
#![allow(dead_code)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use russh::{
    Channel, ChannelId, Limits,
    keys::PrivateKey,
    server::{self, Auth, ChannelOpenHandle, Config, Handle, Handler, Msg, Session, VerifiedPublicKey},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What a server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Violation {
    // Before any key
    SaysNothing,
    LinesBeforeItsGreetingForEver,
    OneLineWithoutEnd,
    Garbage,
    HangsUpAtOnce,
    HangsUpAfterItsGreeting,
    OneByteASecond,
    PacketOfFourGigabytes,
    PacketOfNothing,
    IgnoreMessagesForEver,
    ExtensionInfoForEver,
    ShortX25519Key,
    ZeroX25519Key,
    // Signing in
    NeverAnswersOurKey,
    HangsUpOnOurKey,
    BannerOfManyPages,
    LetsAnybodyInAndKnowsNothing,
    // Channels
    NeverOpensAChannel,
    RefusesEveryChannel,
    PacketsOfSizeZero,
    WindowThatNeverOpens,
    OpensChannelsByItself,
    // A command
    NeverAnswersACommand,
    ClosesTheChannel,
    ExitStatusWithoutAResult,
    ForgedNonce,
    EndlessOutput,
    EndlessComplaints,
    HangsUpInTheMiddle,
    NewKeysAllTheTime,
    GarbageInTheStream,
    StreamThatDrips,
    // After it looked well
    NeverTellsItsFacts,
    FactsWithoutEnd,
}

use Violation::*;

pub const VIOLATIONS: [Violation; 34] = [
    SaysNothing,
    LinesBeforeItsGreetingForEver,
    OneLineWithoutEnd,
    Garbage,
    HangsUpAtOnce,
    HangsUpAfterItsGreeting,
    OneByteASecond,
    PacketOfFourGigabytes,
    PacketOfNothing,
    IgnoreMessagesForEver,
    ExtensionInfoForEver,
    ShortX25519Key,
    ZeroX25519Key,
    NeverAnswersOurKey,
    HangsUpOnOurKey,
    BannerOfManyPages,
    LetsAnybodyInAndKnowsNothing,
    NeverOpensAChannel,
    RefusesEveryChannel,
    PacketsOfSizeZero,
    WindowThatNeverOpens,
    OpensChannelsByItself,
    NeverAnswersACommand,
    ClosesTheChannel,
    ExitStatusWithoutAResult,
    ForgedNonce,
    EndlessOutput,
    EndlessComplaints,
    HangsUpInTheMiddle,
    NewKeysAllTheTime,
    GarbageInTheStream,
    StreamThatDrips,
    NeverTellsItsFacts,
    FactsWithoutEnd,
];

/// One server; it ends when this is dropped.
pub struct Hostile {
    pub violation: Violation,
    pub address: SocketAddr,
    /// How many connections it was given.
    pub dialled: Arc<AtomicUsize>,
    _server: tokio_util::task::AbortOnDropHandle<()>,
}

/// A key of its own for all of them.
pub fn host_key() -> PrivateKey {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let made =
        std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status();
    assert!(made.unwrap().success());
    russh::keys::load_secret_key(path, None).unwrap()
}

/// The line of known_hosts.
pub fn known_host(address: SocketAddr, key: &PrivateKey) -> String {
    format!("[{}]:{} {}\n", address.ip(), address.port(), key.public_key().to_openssh().unwrap())
}

pub async fn serve(address: &str, violation: Violation, key: &PrivateKey) -> Hostile {
    let listener = TcpListener::bind(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
    let address = listener.local_addr().unwrap();
    let (key, dialled) = (key.clone(), Arc::new(AtomicUsize::new(0)));
    let count = dialled.clone();
    let work = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let key = key.clone();
            connections.spawn(async move {
                let _ = misbehave(stream, violation, &key).await;
            });
            while connections.try_join_next().is_some() {}
        }
    });
    Hostile { violation, address, dialled, _server: tokio_util::task::AbortOnDropHandle::new(work) }
}

async fn misbehave(mut stream: TcpStream, violation: Violation, key: &PrivateKey) -> std::io::Result<()> {
    const GREETING: &[u8] = b"SSH-2.0-OpenSSH_9.2p1\r\n";
    match violation {
        SaysNothing => std::future::pending().await,
        LinesBeforeItsGreetingForEver => flood(&mut stream, &b"Welcome to this machine.\r\n".repeat(1000)).await,
        OneLineWithoutEnd => flood(&mut stream, &[b'x'; 16384]).await,
        Garbage => {
            let mut noise = vec![0; 16384];
            rand::fill(&mut noise[..]);
            flood(&mut stream, &noise).await
        }
        HangsUpAtOnce => Ok(()),
        HangsUpAfterItsGreeting => stream.write_all(GREETING).await,
        OneByteASecond => {
            for byte in GREETING.iter().chain(std::iter::repeat(&0)) {
                stream.write_all(&[*byte]).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(())
        }
        PacketOfFourGigabytes => {
            stream.write_all(GREETING).await?;
            stream.write_all(&u32::MAX.to_be_bytes()).await?;
            flood(&mut stream, &[0; 16384]).await
        }
        PacketOfNothing => {
            stream.write_all(GREETING).await?;
            flood(&mut stream, &[0; 4096]).await
        }
        IgnoreMessagesForEver => {
            stream.write_all(GREETING).await?;
            stream.write_all(&packet(&kexinit())).await?;
            flood(&mut stream, &packet(&[[2].as_slice(), &string(&[b'x'; 1000])].concat()).repeat(16)).await
        }
        ExtensionInfoForEver => {
            stream.write_all(GREETING).await?;
            stream.write_all(&packet(&kexinit())).await?;
            let info = [&[7, 0, 0, 0, 1][..], &string(b"server-sig-algs"), &string(&[b'x'; 20000])].concat();
            flood(&mut stream, &packet(&info)).await
        }
        ShortX25519Key => exchange(&mut stream, GREETING, key, &[9; 31]).await,
        ZeroX25519Key => exchange(&mut stream, GREETING, key, &[0; 32]).await,
        _ => encrypted(stream, violation, key.clone()).await,
    }
}

async fn flood(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    loop {
        stream.write_all(bytes).await?;
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A packet as it is before keys are exchanged.
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 8 + (8 - (payload.len() + 5 + 8) % 8) % 8;
    let length = u32::try_from(payload.len() + padding + 1).unwrap();
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap());
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

fn kexinit() -> Vec<u8> {
    let ciphers = b"aes256-gcm@openssh.com,chacha20-poly1305@openssh.com";
    let macs = b"hmac-sha2-256-etm@openssh.com,hmac-sha2-256";
    let lists: [&[u8]; 10] = [
        b"curve25519-sha256,kex-strict-s-v00@openssh.com",
        b"ssh-ed25519",
        ciphers,
        ciphers,
        macs,
        macs,
        b"none",
        b"none",
        b"",
        b"",
    ];
    let mut payload = vec![20];
    payload.extend([7; 16]);
    payload.extend(lists.iter().flat_map(|list| string(list)));
    payload.extend([0; 5]);
    payload
}

/// A key exchange with this as the server's public key.
async fn exchange(stream: &mut TcpStream, greeting: &[u8], key: &PrivateKey, public: &[u8]) -> std::io::Result<()> {
    stream.write_all(greeting).await?;
    stream.write_all(&packet(&kexinit())).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut heard = vec![0; 65536];
    let _ = stream.read(&mut heard).await?;
    let signature = [string(b"ssh-ed25519"), string(&[3; 64])].concat();
    let reply =
        [&[31], &string(&key.public_key().to_bytes().unwrap())[..], &string(public), &string(&signature)].concat();
    stream.write_all(&packet(&reply)).await?;
    std::future::pending().await
}

/// A real server, whose handler and whose line have the violation.
async fn encrypted(stream: TcpStream, violation: Violation, key: PrivateKey) -> std::io::Result<()> {
    let config = Config {
        keys: vec![key],
        auth_rejection_time: Duration::ZERO,
        window_size: if violation == WindowThatNeverOpens { 0 } else { 2 << 20 },
        maximum_packet_size: if violation == PacketsOfSizeZero { 0 } else { 32768 },
        limits: match violation {
            NewKeysAllTheTime => Limits::new(1, 1, Duration::from_millis(1)),
            _ => Limits::default(),
        },
        ..Config::default()
    };
    let spoiled = Arc::new(AtomicBool::new(false));
    let (near, far) = duplex(65536);
    let handler = Bad { violation, spoiled: spoiled.clone() };
    let running = async {
        if let Ok(session) = server::run_stream(Arc::new(config), far, handler).await {
            let _ = session.await;
        }
    };
    let relaying = relay(stream, near, violation, spoiled);
    tokio::select! {
        () = running => Ok(()),
        done = relaying => done,
    }
}

/// Between the wire and the server; spoils what goes out once the handler says so.
async fn relay(
    stream: TcpStream,
    near: tokio::io::DuplexStream,
    violation: Violation,
    spoiled: Arc<AtomicBool>,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = stream.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(near);
    let inward = tokio::io::copy(&mut from_client, &mut to_server);
    let outward = async {
        let mut buffer = vec![0; 32768];
        loop {
            let n = from_server.read(&mut buffer).await?;
            if n == 0 {
                return Ok::<(), std::io::Error>(());
            }
            match (spoiled.load(Ordering::Relaxed), violation) {
                (true, GarbageInTheStream) => loop {
                    rand::fill(&mut buffer[..]);
                    to_client.write_all(&buffer).await?;
                },
                (true, StreamThatDrips) => {
                    for byte in &buffer[..n] {
                        to_client.write_all(&[*byte]).await?;
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                }
                _ => to_client.write_all(&buffer[..n]).await?,
            }
        }
    };
    tokio::select! {
        done = inward => done.map(|_| ()),
        done = outward => done,
    }
}

struct Bad {
    violation: Violation,
    spoiled: Arc<AtomicBool>,
}

impl Handler for Bad {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok((self.violation == BannerOfManyPages)
            .then(|| "Only for authorized use.\u{1b}]0;owned\u{7}\r\n".repeat(6000)))
    }

    async fn auth_none(&mut self, _: &str) -> Result<Auth, Self::Error> {
        Ok(if self.violation == LetsAnybodyInAndKnowsNothing { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        match self.violation {
            NeverAnswersOurKey => std::future::pending().await,
            HangsUpOnOurKey => Err(russh::Error::Disconnect),
            _ => Ok(Auth::Accept),
        }
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        if self.violation == OpensChannelsByItself {
            for _ in 0..8 {
                tokio::spawn(open_for_ever(session.handle()));
            }
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.violation {
            NeverOpensAChannel => std::future::pending().await,
            RefusesEveryChannel => Ok(()), // dropped, so refused
            _ => {
                reply.accept().await;
                // Kept open: what becomes of it is told below.
                std::mem::forget(channel);
                Ok(())
            }
        }
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let command = String::from_utf8_lossy(data).into_owned();
        let mut words = command.split_whitespace().rev();
        let last = words.next().unwrap_or_default();
        let install = ["look", "ask", "put"].contains(&last);
        let nonce = if install { words.next().unwrap_or_default() } else { last };
        let present = format!("\n{nonce} begin 1\n@present=1\n{nonce} end 0\n");
        let absent = present.replace("present", "absent");
        let handle = session.handle();
        self.spoiled.store(true, Ordering::Relaxed);
        match self.violation {
            NeverAnswersACommand | OpensChannelsByItself => {}
            WindowThatNeverOpens | PacketsOfSizeZero if last == "look" || last == "ask" => {
                answer(session, channel, &absent)?
            }
            WindowThatNeverOpens | PacketsOfSizeZero => {}
            ClosesTheChannel => session.close(channel)?,
            ExitStatusWithoutAResult | LetsAnybodyInAndKnowsNothing => {
                session.channel_success(channel)?;
                session.exit_status_request(channel, 0)?;
                session.eof(channel)?;
                session.close(channel)?;
            }
            ForgedNonce => {
                let forged = "0123456789abcdef0123456789abcdef";
                answer(session, channel, &format!("\n{forged} begin 1\n@present=1\n{forged} end 0\n"))?;
            }
            EndlessOutput => _ = tokio::spawn(talk(handle, channel, false)),
            EndlessComplaints => _ = tokio::spawn(talk(handle, channel, true)),
            NewKeysAllTheTime => _ = tokio::spawn(talk(handle, channel, true)),
            HangsUpInTheMiddle => {
                session.data(channel, present.as_bytes()[..present.len() / 2].to_vec())?;
                return Err(russh::Error::Disconnect);
            }
            NeverTellsItsFacts if !install => {}
            FactsWithoutEnd if !install => {
                let folder =
                    "@folder=shop.web\n@owner=\u{1b}[2J\n@journal=99999999999999999999999\n@release=../../etc\n";
                session.data(channel, format!("\n{nonce} begin 1\n{}", folder.repeat(500)).into_bytes())?;
                tokio::spawn(talk(handle, channel, false));
            }
            _ => answer(session, channel, &present)?,
        }
        Ok(())
    }
}

fn answer(session: &mut Session, channel: ChannelId, text: &str) -> Result<(), russh::Error> {
    session.channel_success(channel)?;
    session.data(channel, text.as_bytes().to_vec())?;
    session.exit_status_request(channel, 0)?;
    session.eof(channel)?;
    session.close(channel)
}

async fn talk(handle: Handle, channel: ChannelId, complain: bool) {
    let line = bytes::Bytes::from(b"it goes on and on and on and on\n".repeat(1000));
    loop {
        let said = match complain {
            true => handle.extended_data(channel, 1, line.clone()).await.is_ok(),
            false => handle.data(channel, line.clone()).await.is_ok(),
        };
        if !said {
            return;
        }
    }
}

async fn open_for_ever(handle: Handle) {
    loop {
        match handle.channel_open_forwarded_tcpip("127.0.0.1", 22, "127.0.0.1", 22).await {
            Err(russh::Error::SendError | russh::Error::Disconnect) => return,
            _ => tokio::task::yield_now().await,
        }
    }
}
