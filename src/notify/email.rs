//! Mail: a conversation in SMTP, step by step, so that a failure names its step, and a server that has accepted a message
//! is never sent it again because it did not say good-bye.

use std::net::SocketAddr;
use std::time::Duration;

use lettre::address::Envelope;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body as MailBody, Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::{Response, Severity as Reply};

use super::address::resolve;
use super::body::{FIRING, one_line};
use super::bounded::Bounded;
use super::channel::Parcel;
use super::delivery::Outcome;
use super::mail_text;
use super::mask::Mask;
use super::template::Templates;
use crate::domain::address::loopback;
use crate::domain::cause::chain;
use crate::domain::settings::{ChannelKind, MailTls, Severity};

/// How long the good-bye may take, after the message was accepted.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a server is not connected to without encryption.
const READABLE: &str =
    "`tls` is `none`, but the server's name leads to no address of this machine; nothing readable leaves it";

/// So often a recipient that is refused for now holds up the message for all. Then the others get it.
const PATIENCE: u32 = 5;

/// A mail server, and who writes to whom.
pub(super) struct Mailer {
    host: String,
    port: u16,
    tls: Encryption,
    login: Option<Credentials>,
    /// What is shown nowhere: servers repeat what they refuse.
    mask: Mask,
    from: Mailbox,
    to: Vec<Mailbox>,
}

enum Encryption {
    Starttls(TlsParameters),
    Implicit(TlsParameters),
    None,
}

impl Mailer {
    /// The mailer of an `email` channel. Reads `ca_file`: may block.
    pub(super) fn new(kind: &ChannelKind) -> Result<Self, String> {
        build(kind)
    }

    /// Sends one message. The caller bounds the time that it may take.
    pub(super) async fn send(&self, parcel: &Parcel, templates: &Templates, log: &mut Vec<String>) -> Outcome {
        let mail = match self.compose(parcel, templates) {
            Ok(mail) => mail,
            Err(error) => return Outcome::GivenUp(format!("cannot compose the mail: {error}")),
        };
        match self.converse(mail.envelope(), &mail.formatted(), parcel.attempts, log).await {
            Ok(said) => Outcome::Delivered(said),
            Err(outcome) => outcome,
        }
    }

    fn compose(&self, parcel: &Parcel, templates: &Templates) -> Result<lettre::Message, lettre::error::Error> {
        let own = |id: &str| format!("<{id}@{}>", self.from.email.domain());
        let created = Duration::from_millis(u64::try_from(parcel.created.millis()).unwrap_or(0));
        // Always the same for one message, so that a receiver can tell that it came twice.
        let mut builder = lettre::Message::builder()
            .date(std::time::UNIX_EPOCH + created)
            .message_id(Some(own(&parcel.id)))
            .from(self.from.clone())
            .subject(mail_text::subject(&parcel.body, templates))
            .raw_header(header("Auto-Submitted", "auto-generated"))
            // For those who do not know that one: nobody's absence is answered to us.
            .raw_header(header("Precedence", "bulk"))
            .raw_header(header("List-Id", &format!("<storage-guard.{}>", self.from.email.domain())));
        if parcel.body.kind == FIRING && parcel.body.data.severity == Severity::Critical.as_str() {
            builder = builder.raw_header(header("X-Priority", "1 (Highest)"));
        }
        if let Some(first) = &parcel.reply_to {
            builder = builder.in_reply_to(own(first)).references(own(first));
        }
        let builder = self.to.iter().cloned().fold(builder, lettre::message::MessageBuilder::to);
        builder.multipart(
            MultiPart::alternative()
                .singlepart(part(ContentType::TEXT_PLAIN, mail_text::text(&parcel.body, templates)))
                .singlepart(part(ContentType::TEXT_HTML, mail_text::html(&parcel.body, templates))),
        )
    }

    async fn converse(
        &self,
        envelope: &Envelope,
        mail: &[u8],
        attempts: u32,
        log: &mut Vec<String>,
    ) -> Result<String, Outcome> {
        let mut connection = self.connect(log).await.map_err(later)?;
        let mut options = Vec::new();
        let ascii = |address: &lettre::Address| AsRef::<str>::as_ref(address).is_ascii();
        if !envelope.from().into_iter().chain(envelope.to()).all(ascii) {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                let why = "an address is not ASCII, and the server does not know SMTPUTF8";
                return Err(Outcome::GivenUp(why.to_owned()));
            }
            options.push(MailParameter::SmtpUtfEight);
        }
        let from = envelope.from().map(ToString::to_string).unwrap_or_default();
        log.push(format!("> MAIL FROM:<{from}>"));
        self.step("MAIL FROM", connection.command(Mail::new(envelope.from().cloned(), options)).await, log)?;
        let (mut refused, mut accepted) = (Vec::new(), 0);
        for to in envelope.to() {
            log.push(format!("> RCPT TO:<{to}>"));
            let answer = connection.command(Rcpt::new(to.clone(), Vec::new())).await;
            match self.step(&format!("RCPT TO {to}"), answer, log) {
                Ok(_) => accepted += 1,
                Err(outcome) => refused.push(outcome),
            }
        }
        let for_now = refused.iter().find(|outcome| matches!(outcome, Outcome::Again { .. }));
        if let Some(outcome) = for_now.or(refused.first())
            && (accepted == 0 || (for_now.is_some() && attempts < PATIENCE))
        {
            farewell(connection);
            return Err(outcome.clone());
        }
        log.push("> DATA".to_owned());
        self.step("DATA", connection.command(Data).await, log)?;
        let text = String::from_utf8_lossy(mail);
        let (head, parts) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        log.extend(head.lines().map(|line| format!("> {}", one_line(line, 500))));
        log.push(format!("> (and {} bytes: the text, and the same as HTML)", parts.len()));
        let mut said = self.step("message", connection.message(mail).await, log)?;
        // From here on the server has it, whatever it does next.
        farewell(connection);
        for outcome in refused {
            if let Outcome::Again { error, .. } | Outcome::GivenUp(error) = outcome {
                said.push_str("; not to all: ");
                said.push_str(&error);
            }
        }
        Ok(said)
    }

    async fn connect(&self, log: &mut Vec<String>) -> Result<AsyncSmtpConnection, Outcome> {
        let hello = hello();
        let encryption = match &self.tls {
            Encryption::Implicit(_) => "encrypted",
            Encryption::Starttls(_) | Encryption::None => "plain",
        };
        log.push(format!("> connect to {}:{}, {encryption}; EHLO {hello}", self.host, self.port));
        let server = resolve(&self.host, self.port).await.and_then(|found| self.near_enough(found));
        let server = &*server.map_err(|error| Outcome::unreachable(self.told("connect", &error, log)))?;
        let connected = match &self.tls {
            Encryption::Implicit(parameters) => {
                AsyncSmtpConnection::connect_tokio1(server, None, &hello, Some(parameters.clone()), None).await
            }
            Encryption::Starttls(_) | Encryption::None => {
                let stream = Bounded::connect(server).await;
                let stream = stream.map_err(|error| Outcome::unreachable(self.told("connect", &error, log)))?;
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await
            }
        };
        let mut connection = connected.map_err(|error| self.failed("connect", &error, log))?;
        log.push(self.greeted("connect", &connection));
        if let Encryption::Starttls(parameters) = &self.tls {
            log.push("> STARTTLS".to_owned());
            // Without STARTTLS this is an error: nothing is ever sent readable instead.
            let secured = connection.starttls(parameters.clone(), &hello).await;
            secured.map_err(|error| self.failed("STARTTLS", &error, log))?;
            log.push(self.greeted("STARTTLS", &connection));
        }
        if let Some(login) = &self.login {
            log.push("> AUTH ***".to_owned());
            self.step("login", connection.auth(DEFAULT_MECHANISMS, login).await, log)?;
        }
        Ok(connection)
    }

    /// The addresses that what is sent may go to: readable mail stays on this machine, wherever a name leads.
    fn near_enough(&self, mut found: Vec<SocketAddr>) -> std::io::Result<Vec<SocketAddr>> {
        match &self.tls {
            Encryption::Starttls(_) | Encryption::Implicit(_) => Ok(found),
            Encryption::None => {
                found.retain(|address| address.ip().is_loopback());
                if found.is_empty() { Err(std::io::Error::other(READABLE)) } else { Ok(found) }
            }
        }
    }

    /// What the server answered to a step, told in the log too.
    fn step(&self, name: &str, answer: Result<Response, SmtpError>, log: &mut Vec<String>) -> Result<String, Outcome> {
        match answer {
            Ok(response) => {
                let words: Vec<&str> = response.message().collect();
                let said = self.shown(&format!("{} {}", response.code(), words.join(" ")));
                log.push(format!("{name}: {said}"));
                Ok(said)
            }
            Err(error) => Err(self.failed(name, &error, log)),
        }
    }

    fn failed(&self, name: &str, error: &SmtpError, log: &mut Vec<String>) -> Outcome {
        let text = self.told(name, error, log);
        match error.status() {
            // A login that is refused or demanded is a matter of the configuration, and somebody will repair it.
            Some(code) if matches!(u16::from(code), 530 | 534 | 535 | 538) => Outcome::unreachable(text),
            Some(code) if matches!(code.severity, Reply::PermanentNegativeCompletion) => Outcome::GivenUp(text),
            Some(_) | None => Outcome::unreachable(text),
        }
    }

    /// Why a step failed, told in the log too.
    fn told(&self, name: &str, error: &dyn std::error::Error, log: &mut Vec<String>) -> String {
        let text = self.shown(&format!("{name}: {}", chain(error)));
        log.push(text.clone());
        text
    }

    /// What the server said of itself.
    fn greeted(&self, name: &str, connection: &AsyncSmtpConnection) -> String {
        format!("{name}: done, {}", self.shown(&connection.server_info().to_string()))
    }

    /// What a server said, on one line, not for long, and without what is secret.
    fn shown(&self, text: &str) -> String {
        one_line(&self.mask.apply(text), 500)
    }
}

fn build(kind: &ChannelKind) -> Result<Mailer, String> {
    let ChannelKind::Email { host, port, tls, ca_file, username, password, from, to } = kind else {
        return Err("this is no email channel".to_owned());
    };
    let mailbox = |text: &String| {
        text.parse::<Mailbox>().map_err(|error| format!("`{}` is no mail address: {error}", one_line(text, 200)))
    };
    let mut mask = Mask::default();
    if let (Some(name), Some(password)) = (username, password) {
        mask.login(name, password.reveal());
    }
    let login = match (username, password) {
        (Some(name), Some(password)) => Some(Credentials::new(name.clone(), password.reveal().to_owned())),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err("a login needs a username and a password".to_owned()),
    };
    let parameters = || {
        let ca = match ca_file {
            None => None,
            Some(path) => {
                let pem =
                    std::fs::read(path).map_err(|e| format!("cannot read `ca_file` `{}`: {e}", path.display()))?;
                let bad = format!("`ca_file` `{}` holds no certificate in PEM form", path.display());
                if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
                    return Err(bad);
                }
                Some(Certificate::from_pem(&pem).map_err(|_| bad)?)
            }
        };
        let with = |store| {
            let mut builder = TlsParameters::builder(host.clone()).certificate_store(store);
            if let Some(ca) = &ca {
                builder = builder.add_root_certificate(ca.clone());
            }
            builder.build_rustls()
        };
        let built = match with(CertificateStore::Default) {
            // A machine without certificates of its own can still trust the one that it was given.
            Err(_) if ca.is_some() => with(CertificateStore::None),
            other => other,
        };
        built.map_err(|error| {
            format!(
                "cannot prepare TLS; are the system's CA certificates installed, or is `ca_file` wrong? {}",
                chain(&error)
            )
        })
    };
    let tls = match tls {
        MailTls::Required => Encryption::Starttls(parameters()?),
        MailTls::Implicit => Encryption::Implicit(parameters()?),
        MailTls::None if loopback(host) && login.is_none() => Encryption::None,
        MailTls::None => return Err("`tls: none` is for a server on this machine, and never with a login".to_owned()),
    };
    let to = to.iter().map(mailbox).collect::<Result<Vec<_>, _>>()?;
    Ok(Mailer { host: host.clone(), port: *port, tls, login, mask, from: mailbox(from)?, to })
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// A part in base64: no line of a text can be taken for the end of the message or for a header.
fn part(kind: ContentType, text: String) -> SinglePart {
    let encoded = MailBody::new_with_encoding(text, ContentTransferEncoding::Base64);
    SinglePart::builder().header(kind).body(encoded.unwrap_or_else(MailBody::new))
}

/// Who we say we are: the machine's name, if it is one that a protocol can carry.
fn hello() -> ClientId {
    let fine = |name: &str| {
        !name.is_empty()
            && name.len() <= 253
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
    };
    let own = ClientId::default();
    if matches!(&own, ClientId::Domain(name) if !fine(name)) { ClientId::Domain("localhost".to_owned()) } else { own }
}

/// Closes a conversation politely, beside the caller: nothing depends on it any more.
fn farewell(mut connection: AsyncSmtpConnection) {
    tokio::spawn(async move {
        // The server may answer or not.
        let _ = tokio::time::timeout(FAREWELL, connection.abort()).await;
    });
}

/// A server that does not let us in says nothing about the message: the server or the configuration is repaired one day.
fn later(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::GivenUp(error) => Outcome::unreachable(error),
        Outcome::Delivered(_) | Outcome::Again { .. } => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::Body;
    use super::super::body::tests::condition;
    use super::*;
    use crate::domain::alert::{AlertName, Subject};
    use crate::domain::names::VolumeId;
    use crate::domain::secret::Secret;
    use crate::domain::settings::Language;
    use crate::domain::units::Timestamp;

    fn kind(host: &str, tls: MailTls, login: bool) -> ChannelKind {
        ChannelKind::Email {
            host: host.to_owned(),
            port: 25,
            tls,
            ca_file: None,
            username: login.then(|| "guard".to_owned()),
            password: login.then(|| Secret::new("canary")),
            from: "Guard <guard@example.org>".to_owned(),
            to: vec!["ops@example.org".to_owned(), "Ops Two <two@example.org>".to_owned()],
        }
    }

    #[test]
    fn nothing_readable_leaves_the_machine_and_no_login_is_sent_readable() {
        for (host, login, fine) in
            [("localhost", false, true), ("::1", false, true), ("127.0.0.1", true, false), ("mail", false, false)]
        {
            assert_eq!(build(&kind(host, MailTls::None, login)).is_ok(), fine, "{host} {login}");
        }
    }

    /// A name may lead elsewhere than it says: `/etc/hosts` decides.
    #[tokio::test]
    async fn without_encryption_only_this_machine_is_connected_to_wherever_the_name_leads() {
        let elsewhere =
            Mailer { host: "192.0.2.1".to_owned(), ..build(&kind("localhost", MailTls::None, false)).unwrap() };
        let mut log = Vec::new();
        let Err(Outcome::Again { error, .. }) = elsewhere.connect(&mut log).await else { panic!("{log:?}") };
        assert!(error.contains("leads to no address of this machine"), "{error}");
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (far, near) = (at("192.0.2.1:25"), [at("127.0.0.1:25"), at("[::1]:25")]);
        assert_eq!(elsewhere.near_enough(vec![near[0], far, near[1]]).unwrap(), near);
        let encrypted = build(&kind("mail.example.org", MailTls::Implicit, true)).unwrap();
        assert_eq!(encrypted.near_enough(vec![far]).unwrap(), [far]);
    }

    /// Fault 107.
    #[test]
    fn a_mail_has_its_own_id_threads_and_no_foreign_header() {
        let mailer = build(&kind("localhost", MailTls::None, false)).unwrap_or_else(|error| panic!("{error}"));
        let mut condition = condition(AlertName::VolumeExhausted, 1, b"a\r\n.\r\nb.mp4");
        condition.subject = Subject::Volume(VolumeId::new("d\r\nBcc: evil@example.org\r\n\r\nx"));
        let (templates, _) = Templates::new(Language::English, None);
        let mut body = Body::new("alert.resolved", &condition, Timestamp::default(), Timestamp::default(), &templates);
        body.data.description = "one\r\n.\r\nQUIT\n.\ntwo".to_owned();
        let parcel = Parcel {
            id: "msg_2".to_owned(),
            reply_to: Some("msg_1".to_owned()),
            text: "".into(),
            body,
            created: Timestamp::from_secs(784_111_777),
            attempts: 1,
        };
        let mail = mailer.compose(&parcel, &templates).unwrap().formatted();
        let mail = String::from_utf8(mail).unwrap();
        let (head, _) = mail.split_once("\r\n\r\n").unwrap();
        for line in [
            "Message-ID: <msg_2@example.org>",
            "In-Reply-To: <msg_1@example.org>",
            "References: <msg_1@example.org>",
            "Auto-Submitted: auto-generated",
            "Date: Sun, 06 Nov 1994 08:49:37 +0000",
            "To: ops@example.org, \"Ops Two\" <two@example.org>",
        ] {
            assert!(head.contains(line), "{line} is not in\n{head}");
        }
        assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
        assert!(!mail.lines().any(|line| line == "."), "{mail}");
    }

    /// Fault 107, in Chinese: what a header cannot carry is encoded, and no line of it is longer than mail allows.
    #[test]
    fn a_chinese_subject_is_encoded_and_only_what_is_critical_is_urgent() {
        let mailer = build(&kind("localhost", MailTls::None, false)).unwrap_or_else(|error| panic!("{error}"));
        let (templates, _) = Templates::new(Language::Chinese, None);
        for (alert, kind, urgent) in [
            (AlertName::VolumeExhausted, "alert.firing", true),
            (AlertName::VolumeExhausted, "alert.resolved", false),
            (AlertName::SpaceNotReclaimed, "alert.firing", false),
        ] {
            let mut condition = condition(alert, 1, b"a.mp4");
            let name = format!("{}\r\nBcc: evil@example.org", "录像盘".repeat(20));
            condition.subject = Subject::Volume(VolumeId::new(&name));
            let parcel = Parcel {
                id: "msg_2".to_owned(),
                reply_to: None,
                text: "".into(),
                body: Body::new(kind, &condition, Timestamp::default(), Timestamp::default(), &templates),
                created: Timestamp::default(),
                attempts: 1,
            };
            let mail = String::from_utf8(mailer.compose(&parcel, &templates).unwrap().formatted()).unwrap();
            let (head, _) = mail.split_once("\r\n\r\n").unwrap();
            assert!(head.is_ascii() && head.lines().all(|line| line.len() <= 78), "{head}");
            assert!(head.contains("Subject: =?utf-8?b?"), "{head}");
            assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
            assert_eq!(head.contains("X-Priority: 1 (Highest)"), urgent, "{head}");
            for line in ["Precedence: bulk", "List-Id: <storage-guard.example.org>"] {
                assert!(head.contains(line), "{head}");
            }
        }
    }

    #[test]
    fn names_of_people_are_encoded_and_no_address_can_hold_a_header() {
        let with = |name: &str| {
            let mut kind = kind("localhost", MailTls::None, false);
            if let ChannelKind::Email { to, .. } = &mut kind {
                *to = vec![name.to_owned()];
            }
            build(&kind)
        };
        for bad in ["a@example.org\r\nBcc: evil@example.org", "A <a@example.org\r\nX: y>", "a b@example.org", "<>"] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
        for (name, shown) in [("值班 <a@example.org>", "=?utf-8?b?"), ("a\r\nBcc: x <a@example.org>", "a")] {
            // What is taken at all is on one line.
            let Ok(mailer) = with(name) else { continue };
            let (templates, _) = Templates::new(Language::English, None);
            let parcel = Parcel::test("msg_1".to_owned(), "mail", Timestamp::default(), &templates);
            let mail = String::from_utf8(mailer.compose(&parcel, &templates).unwrap().formatted()).unwrap();
            let to = mail.lines().find(|line| line.starts_with("To: ")).unwrap();
            assert!(to.contains(shown) && mail.is_ascii(), "{to}");
            assert!(!mail.lines().any(|line| line.starts_with("Bcc")), "{mail}");
        }
    }
}
