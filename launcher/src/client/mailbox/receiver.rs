//! A small mail server that takes what it is given: for a product that sends its mails by SMTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::MAX_MAIL_BYTES;

/// Connections served at the same time; further ones wait.
const MOST_CONNECTIONS: usize = 64;
/// A client that says nothing for this long is let go.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest line of a command, in bytes (RFC 5321 asks for 512).
const LONGEST_COMMAND: u64 = 4096;
/// Recipients of one mail (RFC 5321 asks for 100).
const MOST_RECIPIENTS: usize = 100;
/// Commands that may make no sense before the client is let go.
const MOST_ERRORS: usize = 20;

/// What becomes of each mail.
type Take = dyn Fn(&[u8]) + Send + Sync;

/// A listening mail server. Dropped, it is gone with all its connections.
#[derive(Debug)]
pub(super) struct Receiver {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Receiver {
    /// Listens at `address` and hands every mail to `take`, which must not wait.
    pub(super) async fn listen(
        address: &str,
        take: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listening for mails at {address}"))?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::new(take)));
        Ok(Self {
            address,
            _tasks: tasks,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, take: Arc<Take>) {
    let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut sessions = JoinSet::new();
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        // Of those that have ended nothing is kept.
        while sessions.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: some come back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let take = Arc::clone(&take);
        sessions.spawn(async move {
            let _permit = permit;
            // A client that breaks off harms itself only.
            let _ended = converse(stream, &*take).await.is_ok();
        });
    }
}

async fn converse(stream: TcpStream, take: &Take) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut session = Session::default();
    say(&mut stream, "220 coffer demo").await?;
    loop {
        let Ok(line) = timeout(PATIENCE, line(&mut stream)).await else {
            return say(&mut stream, "421 4.4.2 waited too long").await;
        };
        let reply = match line? {
            Line::End => return Ok(()),
            Line::TooLong => session.wrong("500 5.5.2 the line is too long"),
            Line::Whole(line) => session.command(&line),
        };
        match reply {
            Reply::Say(text) => say(&mut stream, text).await?,
            Reply::Bye(text) => return say(&mut stream, text).await,
            Reply::Data => {
                say(&mut stream, "354 end with a dot").await?;
                let Ok(mail) = timeout(PATIENCE, content(&mut stream)).await else {
                    return say(&mut stream, "421 4.4.2 waited too long").await;
                };
                match mail? {
                    Some(mail) => {
                        take(&mail);
                        say(&mut stream, "250 2.0.0 taken").await?;
                    }
                    None => say(&mut stream, "552 5.3.4 the mail is too big").await?,
                }
            }
        }
    }
}

async fn say(stream: &mut BufReader<TcpStream>, text: &str) -> std::io::Result<()> {
    let said = async {
        stream.write_all(format!("{text}\r\n").as_bytes()).await?;
        stream.flush().await
    };
    // A client that reads nothing is let go too.
    timeout(PATIENCE, said).await?
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

/// The next line, without its end.
async fn line(stream: &mut BufReader<TcpStream>) -> std::io::Result<Line> {
    let mut line = Vec::new();
    let mut read = stream.take(LONGEST_COMMAND);
    read.read_until(b'\n', &mut line).await?;
    if line.pop_if(|byte| *byte == b'\n').is_some() {
        line.pop_if(|byte| *byte == b'\r');
        return Ok(Line::Whole(line));
    }
    if (line.len() as u64) < LONGEST_COMMAND {
        return Ok(Line::End);
    }
    while !line.ends_with(b"\n") {
        line.clear();
        let mut read = stream.take(LONGEST_COMMAND);
        if read.read_until(b'\n', &mut line).await? == 0 {
            return Ok(Line::End);
        }
    }
    Ok(Line::TooLong)
}

/// A mail up to the dot at its end, dots at the beginning of lines unstuffed; `None` when it is too big. What is too big is
/// read all the same, for the client listens to nothing before the end.
async fn content(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Vec<u8>>> {
    let limit = usize::try_from(MAX_MAIL_BYTES).unwrap_or(usize::MAX);
    let (mut mail, mut fits) = (Vec::new(), true);
    // Whether the next piece begins a line.
    let mut fresh = true;
    let mut piece = Vec::new();
    loop {
        piece.clear();
        let mut read = stream.take(LONGEST_COMMAND);
        if read.read_until(b'\n', &mut piece).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if fresh && piece == b".\r\n" {
            return Ok(fits.then_some(mail));
        }
        let stuffed = usize::from(fresh && piece.starts_with(b"."));
        // Only CR LF ends a line: a dot between others is content.
        fresh = piece.ends_with(b"\r\n");
        fits = fits && mail.len() + piece.len() <= limit;
        if fits {
            mail.extend_from_slice(&piece[stuffed..]);
        }
    }
}

/// What the client has said so far.
#[derive(Default)]
struct Session {
    greeted: bool,
    sender: bool,
    recipients: usize,
    errors: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Say(&'static str),
    /// Say that and hang up.
    Bye(&'static str),
    /// A mail follows.
    Data,
}

impl Session {
    fn command(&mut self, line: &[u8]) -> Reply {
        let line = String::from_utf8_lossy(line);
        let end = line.find(' ').unwrap_or(line.len());
        let (word, rest) = line.split_at(end);
        let rest = rest.trim();
        match word.to_ascii_uppercase().as_str() {
            "EHLO" if !rest.is_empty() => {
                self.hello();
                Reply::Say("250-coffer demo\r\n250-8BITMIME\r\n250-SIZE 1048576\r\n250 PIPELINING")
            }
            "HELO" if !rest.is_empty() => {
                self.hello();
                Reply::Say("250 coffer demo")
            }
            "MAIL" => self.mail(rest),
            "RCPT" => self.recipient(rest),
            "DATA" if !rest.is_empty() => self.wrong("501 5.5.4 DATA takes no word"),
            "DATA" if self.recipients == 0 => self.wrong("503 5.5.1 to whom?"),
            "DATA" => {
                self.forget();
                Reply::Data
            }
            "RSET" => {
                self.forget();
                Reply::Say("250 2.0.0 forgotten")
            }
            "NOOP" => Reply::Say("250 2.0.0 here"),
            "VRFY" => Reply::Say("252 2.1.5 send it and see"),
            "QUIT" => Reply::Bye("221 2.0.0 bye"),
            "EHLO" | "HELO" => self.wrong("501 5.5.4 who?"),
            _ => self.wrong("502 5.5.1 that is not known here"),
        }
    }

    fn hello(&mut self) {
        self.forget();
        self.greeted = true;
    }

    fn forget(&mut self) {
        (self.sender, self.recipients) = (false, 0);
    }

    fn mail(&mut self, rest: &str) -> Reply {
        if !self.greeted {
            return self.wrong("503 5.5.1 say hello first");
        }
        if self.sender {
            return self.wrong("503 5.5.1 one mail at a time");
        }
        let Some(parameters) = path(rest, "FROM:") else {
            return self.wrong("501 5.5.4 MAIL FROM:<address>");
        };
        let size = parameters.split(' ').find_map(|one| {
            let (name, size) = one.split_once('=')?;
            name.eq_ignore_ascii_case("SIZE").then_some(size)
        });
        if size.is_some_and(|size| size.parse().map_or(true, |size: u64| size > MAX_MAIL_BYTES)) {
            return self.wrong("552 5.3.4 the mail is too big");
        }
        self.sender = true;
        Reply::Say("250 2.1.0 ok")
    }

    fn recipient(&mut self, rest: &str) -> Reply {
        if !self.sender {
            return self.wrong("503 5.5.1 from whom?");
        }
        if self.recipients == MOST_RECIPIENTS {
            return self.wrong("452 4.5.3 too many recipients");
        }
        if path(rest, "TO:").is_none() {
            return self.wrong("501 5.5.4 RCPT TO:<address>");
        }
        self.recipients += 1;
        Reply::Say("250 2.1.5 ok")
    }

    fn wrong(&mut self, text: &'static str) -> Reply {
        self.errors += 1;
        if self.errors > MOST_ERRORS {
            return Reply::Bye("421 4.7.0 too many errors");
        }
        Reply::Say(text)
    }
}

/// What follows `PREFIX:<…>`; the path itself is of no interest, for who a mail is for stands in its head.
fn path<'a>(rest: &'a str, prefix: &str) -> Option<&'a str> {
    let (name, path) = rest.split_at_checked(prefix.len())?;
    let path = path.trim_start().strip_prefix('<')?;
    let (_, parameters) = path.split_once('>')?;
    name.eq_ignore_ascii_case(prefix)
        .then_some(parameters.trim())
}

#[cfg(test)]
#[path = "receiver_tests.rs"]
mod tests;
