//! Conversations with the receiver, byte by byte.

use std::sync::Mutex;

use super::*;

struct Client {
    stream: BufReader<TcpStream>,
    mails: Arc<Mutex<Vec<Vec<u8>>>>,
    _receiver: Receiver,
}

impl Client {
    async fn connect() -> Self {
        let mails = Arc::new(Mutex::new(Vec::new()));
        let arrived = Arc::clone(&mails);
        let take = move |mail: &[u8]| arrived.lock().unwrap().push(mail.to_vec());
        let receiver = Receiver::listen("127.0.0.1:0", take).await.unwrap();
        let stream = TcpStream::connect(receiver.address()).await.unwrap();
        let mut client = Self {
            stream: BufReader::new(stream),
            mails,
            _receiver: receiver,
        };
        assert_eq!(client.answer().await, "220");
        client
    }

    async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
    }

    /// The code of the next answer; empty when the receiver has hung up.
    async fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).await.unwrap();
            if line.get(3..4) != Some("-") {
                return line.get(..3).unwrap_or_default().to_owned();
            }
        }
    }

    async fn ask(&mut self, text: &str) -> String {
        self.send(format!("{text}\r\n")).await;
        self.answer().await
    }

    async fn until_data(&mut self) {
        assert_eq!(self.ask("EHLO me").await, "250");
        assert_eq!(self.ask("MAIL FROM:<a@example.org>").await, "250");
        assert_eq!(self.ask("RCPT TO:<b@example.org>").await, "250");
        assert_eq!(self.ask("DATA").await, "354");
    }

    fn mails(&self) -> Vec<Vec<u8>> {
        self.mails.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_before_its_dots_were_stuffed() {
    let mut client = Client::connect().await;
    client.until_data().await;
    client
        .send(b"Subject: x\r\n\r\n..\r\n..dot\r\na.\r\n\n.\n\xFF\0\r\n.\r\n")
        .await;
    assert_eq!(client.answer().await, "250");
    let whole = b"Subject: x\r\n\r\n.\r\n.dot\r\na.\r\n\n.\n\xFF\0\r\n";
    assert_eq!(client.mails(), [whole.to_vec()]);
    // And another one over the same connection.
    assert_eq!(client.ask("mail from:<> BODY=8BITMIME").await, "250");
    assert_eq!(client.ask("rcpt to: <b@example.org>").await, "250");
    assert_eq!(client.ask("data").await, "354");
    assert_eq!(client.ask(".").await, "250");
    assert_eq!(client.mails().len(), 2);
    assert_eq!(client.ask("QUIT").await, "221");
    assert_eq!(client.answer().await, "");
}

#[tokio::test]
async fn commands_may_come_all_at_once() {
    let mut client = Client::connect().await;
    client
        .send("HELO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n")
        .await;
    for code in ["250", "250", "250", "354", "250", "221"] {
        assert_eq!(client.answer().await, code);
    }
    assert_eq!(client.mails(), [b"hello\r\n".to_vec()]);
}

#[tokio::test]
async fn a_mail_that_is_too_big_is_refused_and_the_next_one_taken() {
    let mut client = Client::connect().await;
    client.until_data().await;
    let line = "x".repeat(100_000);
    for _ in 0..11 {
        client.send(format!("{line}\r\n")).await;
    }
    assert_eq!(client.ask(".").await, "552");
    client.until_data().await;
    assert_eq!(client.ask("small\r\n.").await, "250");
    assert_eq!(client.mails(), [b"small\r\n".to_vec()]);
    for size in ["1048577", "99999999999999999999", "x"] {
        let mail = format!("MAIL FROM:<a@b> SIZE={size}");
        assert_eq!(client.ask(&mail).await, "552", "{size}");
    }
    assert_eq!(client.ask("MAIL FROM:<a@b> SIZE=1048576").await, "250");
}

#[tokio::test]
async fn commands_out_of_order_are_refused_and_change_nothing() {
    let mut client = Client::connect().await;
    assert_eq!(client.ask("MAIL FROM:<a@b>").await, "503");
    assert_eq!(client.ask("EHLO").await, "501");
    assert_eq!(client.ask("EHLO me").await, "250");
    assert_eq!(client.ask("RCPT TO:<a@b>").await, "503");
    assert_eq!(client.ask("DATA").await, "503");
    assert_eq!(client.ask("MAIL a@b").await, "501");
    assert_eq!(client.ask("MAIL FROM:<a@b>").await, "250");
    assert_eq!(client.ask("MAIL FROM:<a@b>").await, "503");
    assert_eq!(client.ask("RCPT TO:<c@d>").await, "250");
    assert_eq!(client.ask("RSET").await, "250");
    assert_eq!(client.ask("DATA").await, "503");
    assert_eq!(client.ask("STARTTLS").await, "502");
    assert_eq!(client.ask("AUTH PLAIN x").await, "502");
    assert_eq!(client.ask("NOOP").await, "250");
    assert!(client.mails().is_empty());
}

#[tokio::test]
async fn noise_is_answered_for_a_while_and_then_hung_up_on() {
    let mut client = Client::connect().await;
    client.send("x".repeat(10_000)).await;
    assert_eq!(client.ask("").await, "500");
    for noise in ["", "\0", "\u{fffd}\u{fffd}é", "MAIL", "RCPT TO:<"] {
        let code = client.ask(noise).await;
        assert!(code.starts_with('5'), "{noise:?}: {code}");
    }
    let mut last = String::new();
    for _ in 0..MOST_ERRORS {
        last = client.ask("?").await;
        if last == "421" {
            break;
        }
    }
    assert_eq!(last, "421");
    assert_eq!(client.answer().await, "");
}

#[tokio::test]
async fn recipients_are_bounded() {
    let mut client = Client::connect().await;
    client.ask("EHLO me").await;
    client.ask("MAIL FROM:<a@b>").await;
    for _ in 0..MOST_RECIPIENTS {
        assert_eq!(client.ask("RCPT TO:<c@d>").await, "250");
    }
    assert_eq!(client.ask("RCPT TO:<c@d>").await, "452");
}

#[tokio::test]
async fn a_mail_that_breaks_off_is_no_mail() {
    let mut client = Client::connect().await;
    client.until_data().await;
    client.send("half\r\n.").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.answer().await, "");
    assert!(client.mails().is_empty());
}
