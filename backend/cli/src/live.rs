//! Following a topic of the live WebSocket across lost connections.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use anyhow::{Result, bail};
use wharf_shared::live::{ClientFrame, ServerFrame, Topic, TopicItem};
use wharf_shared::problem::{Problem, ProblemKind};

use crate::client::Client;
use crate::output;
use crate::resume::Resume;
use crate::socket::Socket;

/// The client's number for its only topic.
const SUB: u32 = 1;

/// One subscription on a connection of its own.
struct Subscription {
    socket: Socket<ServerFrame, ClientFrame>,
}

impl Subscription {
    async fn open(client: &Client, topic: Topic) -> Result<Self> {
        let hello = ClientFrame::Hello { ticket: None };
        let mut socket = Socket::open(client, &["live"], &[], &hello).await?;
        socket.send(&ClientFrame::Subscribe { sub: SUB, topic }).await?;
        Ok(Self { socket })
    }

    /// The next items; `None` when the topic has ended for good.
    async fn next(&mut self) -> Result<Option<Vec<TopicItem>>> {
        loop {
            match self.socket.next().await? {
                Some(ServerFrame::Items { sub: SUB, items }) => return Ok(Some(items)),
                Some(ServerFrame::End { sub: SUB }) => return Ok(None),
                Some(ServerFrame::Refused { sub, problem }) if sub.is_none_or(|sub| sub == SUB) => {
                    return Err(problem.into());
                }
                Some(
                    ServerFrame::Welcome { .. }
                    | ServerFrame::Pong
                    | ServerFrame::Items { .. }
                    | ServerFrame::End { .. }
                    | ServerFrame::Refused { .. },
                ) => {}
                None => bail!("the agent ended the connection"),
            }
        }
    }
}

/// Follows a topic until it ends or `see` returns false. `topic` says what to ask for at a cursor,
/// `see` gets the items; a lost connection is made anew where the last one ended.
pub(crate) async fn follow<C: Copy + PartialOrd>(
    client: &Client,
    mut resume: Resume<C>,
    topic: impl Fn(C) -> Topic,
    mut see: impl FnMut(&mut Resume<C>, TopicItem) -> Result<bool>,
) -> Result<()> {
    let mut told = false;
    loop {
        let lost = match Subscription::open(client, topic(resume.cursor())).await {
            Err(error) => error,
            Ok(mut subscription) => loop {
                match subscription.next().await {
                    Ok(None) => return Ok(()),
                    Err(error) => break error,
                    Ok(Some(items)) => {
                        if std::mem::take(&mut told) {
                            output::note("wharf: connected again");
                        }
                        for item in items {
                            if !see(&mut resume, item)? {
                                return Ok(());
                            }
                        }
                    }
                }
            },
        };
        if is_final(&lost) {
            return Err(lost);
        }
        if !told {
            output::note(&format!("wharf: connection lost ({}); trying again", lost.root_cause()));
            told = true;
        }
        tokio::time::sleep(pause(&mut resume)).await;
    }
}

/// How long to wait now before the next try.
fn pause<C: Copy + PartialOrd>(resume: &mut Resume<C>) -> Duration {
    // The standard library's own randomness: good enough to spread clients.
    resume.pause(RandomState::new().build_hasher().finish())
}

/// Whether trying again cannot help: the agent said no, and not just "not now".
fn is_final(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Problem>().is_some_and(|problem| {
        !matches!(problem.kind, ProblemKind::Unavailable | ProblemKind::RateLimited | ProblemKind::Internal)
    })
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
    use tokio_tungstenite::tungstenite::http::HeaderValue;
    use tokio_tungstenite::{WebSocketStream, accept_hdr_async};
    use wharf_shared::live::{LogLine, LogStream, SUBPROTOCOL_POSTCARD};
    use wharf_shared::time::Timestamp;

    use super::*;
    use crate::contexts::Context;

    #[test]
    fn only_a_refusal_ends_the_tries() {
        let refused = |kind| is_final(&Problem::new(kind, "x").into());
        assert!(refused(ProblemKind::NotFound) && refused(ProblemKind::Unauthenticated));
        assert!(!refused(ProblemKind::Unavailable));
        assert!(!is_final(&anyhow::anyhow!("connection reset")));
    }

    fn line(number: u64) -> TopicItem {
        TopicItem::Log(LogLine {
            cursor: number * 10,
            stream: LogStream::Stdout,
            at: Timestamp(0),
            text: format!("line {number}"),
            partial: false,
        })
    }

    #[expect(clippy::unnecessary_wraps, clippy::result_large_err, reason = "the library's own callback")]
    fn choose(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        assert_eq!(
            request.headers().get("authorization").map(HeaderValue::as_bytes),
            Some(&b"Bearer s3cret"[..])
        );
        response
            .headers_mut()
            .insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL_POSTCARD));
        Ok(response)
    }

    async fn hear(socket: &mut WebSocketStream<TcpStream>) -> ClientFrame {
        let message = socket.next().await.expect("a message").expect("a whole one");
        postcard::from_bytes(&message.into_data()).expect("a frame")
    }

    async fn say(socket: &mut WebSocketStream<TcpStream>, frame: &ServerFrame) {
        let bytes = postcard::to_allocvec(frame).expect("a frame encodes");
        socket.send(Message::binary(bytes)).await.expect("the client listens");
    }

    /// An agent with ten lines that breaks every connection after two, without a farewell.
    async fn unreliable_agent(listener: TcpListener) -> Vec<Option<u64>> {
        let mut asked = Vec::new();
        loop {
            let (stream, _) = listener.accept().await.expect("a client");
            let mut socket = accept_hdr_async(stream, choose).await.expect("a handshake");
            assert_eq!(hear(&mut socket).await, ClientFrame::Hello { ticket: None });
            say(&mut socket, &ServerFrame::Welcome { now: Timestamp(0), version: String::new() }).await;
            let ClientFrame::Subscribe { sub, topic: Topic::Logs { after, .. } } = hear(&mut socket).await
            else {
                panic!("a subscription comes first")
            };
            asked.push(after);
            let had = after.map_or(0, |cursor| cursor / 10);
            // The last line that the client has comes again, as from a careless server.
            let items: Vec<_> = (had.max(1)..=10).take(3).map(line).collect();
            say(&mut socket, &ServerFrame::Items { sub, items }).await;
            if had == 10 {
                say(&mut socket, &ServerFrame::End { sub }).await;
                return asked;
            }
        }
    }

    #[test]
    fn a_stream_over_broken_connections_has_every_line_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let context = Context {
                url: format!("http://{}", listener.local_addr().expect("an address")),
                token: Some("s3cret".to_owned()),
                fingerprint: None,
                ca_file: None,
            };
            let client = Client::new(&context).expect("a client");
            let container: wharf_shared::id::ContainerId = "a".repeat(64).parse().expect("an id");
            let topic = |after| Topic::Logs { container: container.clone(), after: Some(after), tail: None };
            let mut seen = Vec::new();
            let followed = follow(&client, Resume::at(0), topic, |resume, item| {
                if let TopicItem::Log(line) = item
                    && resume.accept(line.cursor)
                {
                    seen.push(line.text);
                }
                Ok(true)
            });
            let (followed, asked) = tokio::join!(followed, unreliable_agent(listener));
            followed.expect("the topic ends well");
            assert_eq!(seen, (1..=10).map(|number| format!("line {number}")).collect::<Vec<_>>());
            assert_eq!(asked.first(), Some(&Some(0)));
            assert!(asked.len() > 3, "every connection broke: {asked:?}");
        });
    }
}
