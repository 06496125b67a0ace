//! Connections to the consoles of hosts, through the agents of their machines.
//!
//! | subject | from | what |
//! |---|---|---|
//! | `P.attach.HOST` | the console | the name of a new session |
//! | `P.attach.HOST.SESSION.up` | the console | frames |
//! | `P.attach.HOST.SESSION.down` | the agent | frames |
//!
//! No stream keeps these messages. Therefore frames carry byte offsets, and a lost frame ends the session. Each
//! side sends at most a window of bytes beyond those that the other side has confirmed. A side that sends nothing
//! for a while counts as gone.

use std::{
    hash::{BuildHasher, RandomState},
    os::unix::net::UnixStream as StdStream,
    path::PathBuf,
    time::Duration,
};

use async_nats::Subscriber;
use futures::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::oneshot,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{Link, Nats, token};
use crate::{FleetError, Id};

/// The number of bytes that may be sent without a confirmation.
const WINDOW: u64 = 1 << 20;
/// The largest number of bytes of one message.
const PIECE: usize = 64 << 10;
/// How often each side sends that it is alive.
const ALIVE: Duration = Duration::from_secs(5);
/// The time without a frame after which the other side counts as gone.
const SILENCE: Duration = Duration::from_secs(20);
/// The time to wait for an agent's first answer.
const ANSWER: Duration = Duration::from_secs(5);
/// The largest number of sessions of a host; a console needs two.
const SESSIONS: usize = 16;

/// A message of a session.
#[derive(Debug, PartialEq, Eq)]
enum Frame<'a> {
    /// The agent has connected to the host.
    Opened,
    /// Bytes, and the number of bytes that were sent before them.
    Data(u64, &'a [u8]),
    /// A confirmation: the total number of bytes that were received.
    Taken(u64),
    /// A sign of life.
    Alive,
    /// The end of the session, with the reason.
    End(&'a str),
}

impl<'a> Frame<'a> {
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Opened => vec![b'o'],
            Self::Data(before, bytes) => [b"d", &before.to_be_bytes()[..], bytes].concat(),
            Self::Taken(count) => [b"t", &count.to_be_bytes()[..]].concat(),
            Self::Alive => vec![b'a'],
            Self::End(why) => [b"e", why.as_bytes()].concat(),
        }
    }

    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (sort, rest) = bytes.split_first()?;
        let number = || rest.first_chunk().map(|number| u64::from_be_bytes(*number));
        Some(match sort {
            b'o' => Self::Opened,
            b'd' => Self::Data(number()?, rest.get(8..)?),
            b't' => Self::Taken(number()?),
            b'a' => Self::Alive,
            b'e' => Self::End(std::str::from_utf8(rest).unwrap_or("it does not say why")),
            _ => return None,
        })
    }
}

/// One side of a session.
struct Session {
    link: Link,
    incoming: Subscriber,
    /// The subject to which the other side listens.
    to: String,
}

impl Session {
    async fn send(&self, frame: &Frame<'_>) -> Result<(), String> {
        let sent = self.link.client.publish(self.to.clone(), frame.to_bytes().into()).await;
        sent.map_err(|error| error.to_string())
    }

    /// Passes data in both directions until one side is gone.
    async fn pump(mut self, stream: UnixStream) {
        if let Err(why) = self.hand_on(stream).await {
            // If the other side is gone already, the message is lost, which does no harm.
            let _ = self.send(&Frame::End(&why)).await;
        }
    }

    async fn hand_on(&mut self, stream: UnixStream) -> Result<(), String> {
        let (mut read, mut write) = stream.into_split();
        let (mut sent, mut taken_there) = (0, 0);
        let (mut received, mut reported) = (0, 0);
        let mut received_at = Instant::now();
        let mut alive = interval(ALIVE);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut piece = vec![0; PIECE];
        loop {
            tokio::select! {
                count = read.read(&mut piece), if sent - taken_there < WINDOW => {
                    let count = count.map_err(|error| error.to_string())?;
                    let Some(bytes) = piece.get(..count).filter(|bytes| !bytes.is_empty()) else {
                        return Err("the connection was closed".to_owned());
                    };
                    self.send(&Frame::Data(sent, bytes)).await?;
                    sent += count as u64;
                }
                message = self.incoming.next() => {
                    let message = message.ok_or("the client has ended")?;
                    received_at = Instant::now();
                    match Frame::of(&message.payload) {
                        Some(Frame::Data(before, bytes)) if before == received => {
                            write.write_all(bytes).await.map_err(|error| error.to_string())?;
                            received += bytes.len() as u64;
                            if received - reported >= WINDOW / 4 {
                                self.send(&Frame::Taken(received)).await?;
                                reported = received;
                            }
                        }
                        Some(Frame::Taken(count)) if count <= sent => {
                            taken_there = count.max(taken_there);
                        }
                        Some(Frame::Alive | Frame::Opened) => {}
                        Some(Frame::End(_)) => return Ok(()),
                        Some(Frame::Data(..) | Frame::Taken(_)) | None => {
                            return Err("a part of what was sent is lost".to_owned());
                        }
                    }
                }
                _ = alive.tick() => {
                    if received_at.elapsed() > SILENCE {
                        return Err("the other side is not heard any more".to_owned());
                    }
                    self.send(&Frame::Alive).await?;
                }
            }
        }
    }
}

/// Accepts sessions to a host while the returned value is kept.
pub(super) fn serve(nats: &Nats, host: &Id, socket: PathBuf) -> oneshot::Sender<()> {
    let (kept, dropped) = oneshot::channel();
    let (link, subject) = (nats.link.clone(), subject(&nats.link, host));
    nats.runtime.spawn(async move {
        tokio::select! {
            () = accept_consoles(link, subject, socket) => {}
            _ = dropped => {}
        }
    });
    kept
}

fn subject(link: &Link, host: &Id) -> String {
    format!("{}.attach.{}", link.prefix, token(host))
}

async fn accept_consoles(link: Link, subject: String, socket: PathBuf) {
    // The client subscribes again by itself after a reconnection. The subscription ends with this process.
    let Ok(mut asked) = link.client.subscribe(subject.clone()).await else { return };
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            message = asked.next() => {
                let Some(message) = message else { return };
                let name = std::str::from_utf8(&message.payload).ok().filter(|name| is_name(name));
                let Some(name) = name else { continue };
                let is_full = sessions.len() >= SESSIONS;
                let (link, subject, socket) = (link.clone(), format!("{subject}.{name}"), socket.clone());
                sessions.spawn(async move {
                    let Ok(incoming) = link.client.subscribe(format!("{subject}.up")).await else { return };
                    let session = Session { link, incoming, to: format!("{subject}.down") };
                    let opened = match is_full {
                        true => Err(format!("{SESSIONS} consoles are connected already")),
                        false => UnixStream::connect(&socket).await.map_err(|error| error.to_string()),
                    };
                    match opened {
                        Ok(stream) => {
                            if session.send(&Frame::Opened).await.is_ok() {
                                session.pump(stream).await;
                            }
                        }
                        // If this message is lost, the console gives up after `ANSWER`.
                        Err(why) => drop(session.send(&Frame::End(&why)).await),
                    }
                });
            }
            Some(_) = sessions.join_next(), if !sessions.is_empty() => {}
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Connects a stream to the console of a host.
pub(super) fn open(nats: &Nats, host: &Id, stream: StdStream) -> Result<(), FleetError> {
    let (link, subject, host) = (nats.link.clone(), subject(&nats.link, host), host.clone());
    nats.run(async move {
        let at = format!("{}: the console of {host}", link.place);
        let wrong = |message: &str| FleetError::unreachable(&at, message);
        let name = new_name();
        let down = format!("{subject}.{name}.down");
        let subscribed = link.client.subscribe(down.clone()).await;
        let mut incoming = subscribed.map_err(|error| wrong(&error.to_string()))?;
        // If nobody listens, the server says so at once.
        let asked = link.client.publish_with_reply(subject.clone(), down, name.clone().into()).await;
        asked.map_err(|error| wrong(&error.to_string()))?;
        let answer = timeout(ANSWER, incoming.next()).await.ok().flatten();
        let Some(answer) = answer.filter(|answer| answer.status.is_none()) else {
            return Err(wrong(
                "no agent answers: the agent of the host does not run, or was started without `--attach`, or this user has no \
                 permission",
            ));
        };
        match Frame::of(&answer.payload) {
            Some(Frame::Opened) => {}
            Some(Frame::End(why)) => return Err(wrong(why)),
            _ => return Err(wrong("its agent answers something else")),
        }
        let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
        let stream = stream.map_err(|error| wrong(&error.to_string()))?;
        let session = Session { link, incoming, to: format!("{subject}.{name}.up") };
        tokio::spawn(session.pump(stream));
        Ok(())
    })
}

/// A name that cannot be guessed: whoever knows it could send frames of the session.
fn new_name() -> String {
    let [one, other] = [0, 1].map(|part: u8| RandomState::new().hash_one(part));
    format!("{one:016x}{other:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let frames = [
            Frame::Opened,
            Frame::Data(7, b"hello"),
            Frame::Data(u64::MAX, b""),
            Frame::Taken(1 << 40),
            Frame::Alive,
            Frame::End("it is over"),
        ];
        for frame in frames {
            assert_eq!(Frame::of(&frame.to_bytes()), Some(frame));
        }
        for bytes in [&b""[..], b"x", b"d1234567", b"t", b"t123"] {
            assert_eq!(Frame::of(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_session_has_a_name_of_its_own() {
        let (one, other) = (new_name(), new_name());
        assert!(is_name(&one) && is_name(&other) && one != other, "{one} {other}");
        assert!(!is_name("") && !is_name("a.b") && !is_name("*") && !is_name(&"a".repeat(65)));
    }
}
